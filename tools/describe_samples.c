// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <string.h>

#include "base/bits.h"
#include "base/memory.h"
#include "compiler/family.h"
#include "compiler/family_documents.h"
#include "tools/describe.h"

static void add_labels(const facet_mask_set *set, cJSON *doc)
{
    cJSON *labels = facet_doc_object(doc, "labels");
    for (uint32_t i = 0; set->labels != NULL && i < set->n; i++) {
        cJSON *count = cJSON_GetObjectItemCaseSensitive(labels, set->labels[i]);
        if (count != NULL)
            cJSON_SetNumberValue(count, count->valuedouble + 1);
        else
            facet_doc_number(labels, set->labels[i], 1);
    }
}

// How many documents the listed samples (NULL: the first n) were cut from.
static facet_status add_documents(const facet_samples *samples, const uint32_t *list, uint32_t n,
                                  cJSON *object, facet_err *err)
{
    uint32_t count = 0;
    uint32_t *numbers = facet_mem_new(NULL, n, sizeof *numbers);
    if (numbers == NULL) return facet_fail_memory(err, n * sizeof *numbers);
    const facet_status status =
        facet_documents_number(samples, list, n, NULL, numbers, &count, err);
    facet_mem_free(NULL, numbers);
    facet_doc_number(object, "documents", count);
    return status;
}

facet_status facet_describe_masks(const facet_mask_set *set, cJSON *doc, facet_err *err)
{
    facet_mask_overlap overlap;
    FACET_TRY(facet_mask_set_overlap(set, NULL, &overlap, err));
    facet_doc_text(doc, "kind", "masks");
    facet_doc_number(doc, "samples", set->n);
    FACET_TRY(add_documents(&set->samples, NULL, set->n, doc, err));
    facet_doc_number(doc, "layers", set->n_layers);
    facet_doc_number(doc, "channels", set->d_ff);
    facet_doc_number(doc, "tokens", (double)set->samples.n_tokens);
    facet_doc_number(doc, "keep", set->keep);
    add_labels(set, doc);
    facet_doc_text(doc, "shape", set->shape != NULL ? set->shape : "");
    facet_doc_text(doc, "model", set->model != NULL ? set->model : "");
    cJSON *pairs = facet_doc_object(doc, "overlap");
    facet_doc_number(pairs, "within", overlap.within);
    facet_doc_number(pairs, "between", overlap.between);
    facet_doc_number(doc, "nearest_label_accuracy", overlap.nearest_label_accuracy);
    return FACET_OK;
}

// list: (samples.n), scratch.
static facet_status add_family(const facet_family_set *set, uint32_t family, uint32_t *list,
                               cJSON *families, facet_err *err)
{
    uint32_t n = 0, n_held = 0;
    for (uint32_t i = 0; i < set->samples.n; i++) {
        if (set->assign[i] != family) continue;
        list[n++] = i;
        n_held += set->held != NULL && set->held[i] != 0;
    }
    const size_t row = facet_bits_bytes(set->d_ff);
    size_t kept = 0;
    for (uint32_t layer = 0; layer < set->n_layers; layer++)
        kept +=
            facet_bits_count(set->mask + ((size_t)family * set->n_layers + layer) * row, set->d_ff);
    cJSON *item = facet_doc_push_object(families);
    facet_doc_text(item, "name", set->names[family]);
    facet_doc_number(item, "samples", n);
    facet_doc_number(item, "held", n_held);
    facet_doc_number(item, "keep", (double)kept / ((double)set->n_layers * set->d_ff));
    return add_documents(&set->samples, list, n, item, err);
}

facet_status facet_describe_families(const facet_family_set *set, cJSON *doc, facet_err *err)
{
    const size_t n = set->n_families;
    double *matrix = facet_mem_new(NULL, n * n, sizeof *matrix);
    uint32_t *list = facet_mem_new(NULL, set->samples.n, sizeof *list);
    facet_status status = FACET_OK;
    if (matrix == NULL || list == NULL) {
        status = facet_fail_memory(err, n * n * sizeof *matrix);
        goto done;
    }
    FACET_TRY_GOTO(facet_family_overlap(set, matrix, err), done);
    facet_doc_text(doc, "kind", "families");
    cJSON *families = facet_doc_array(doc, "families");
    for (uint32_t i = 0; i < n; i++)
        FACET_TRY_GOTO(add_family(set, i, list, families, err), done);
    facet_doc_number(doc, "layers", set->n_layers);
    facet_doc_number(doc, "channels", set->d_ff);
    facet_doc_text(doc, "shape", set->shape != NULL ? set->shape : "");
    facet_doc_text(doc, "model", set->model != NULL ? set->model : "");
    cJSON *overlap = facet_doc_array(doc, "overlap");
    for (size_t i = 0; i < n; i++) {
        cJSON *row = cJSON_CreateArray();
        if (row == NULL || !cJSON_AddItemToArray(overlap, row)) {
            status = facet_fail_memory(err, sizeof *row);
            goto done;
        }
        for (size_t j = 0; j < n; j++)
            facet_doc_push_number(row, matrix[i * n + j]);
    }
    facet_doc_number(doc, "silhouette", set->silhouette);
done:
    facet_mem_free(NULL, matrix);
    facet_mem_free(NULL, list);
    return status;
}
