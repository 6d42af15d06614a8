// SPDX-License-Identifier: Apache-2.0
// How well do masks group? Figures for `facet inspect`.
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "compiler/family.h"
#include "compiler/family_gram.h"

facet_status facet_family_overlap(const facet_family_set *families, double *matrix, facet_err *err)
{
    const uint32_t k = families->n_families;
    float *overlap = facet_mem_new(families->alloc, k, k * sizeof *overlap);
    if (!overlap) return facet_fail_memory(err, (size_t)k * k * sizeof *overlap);
    const facet_gram_masks masks = {families->mask, k, families->n_layers, families->d_ff};
    const facet_status status = facet_gram_overlap(&masks, families->alloc, overlap, err);
    for (size_t i = 0; i < (size_t)k * k && status == FACET_OK; i++)
        matrix[i] = (double)overlap[i];
    facet_mem_free(families->alloc, overlap);
    return status;
}

static void measure(const facet_mask_set *set, const float *overlap, facet_mask_overlap *out)
{
    double sums[2] = {0, 0};
    uint64_t pairs[2] = {0, 0}, right = 0;
    for (uint32_t i = 0; i < set->n; i++) {
        uint32_t nearest = i;
        float best = -1.0f;
        for (uint32_t j = 0; j < set->n; j++) {
            if (j == i) continue;
            const float value = overlap[(size_t)i * set->n + j];
            const int other = set->labels && strcmp(set->labels[i], set->labels[j]) != 0;
            sums[other] += (double)value;
            pairs[other]++;
            if (value > best) {
                best = value;
                nearest = j;
            }
        }
        right += set->labels && nearest != i && strcmp(set->labels[i], set->labels[nearest]) == 0;
    }
    out->within = pairs[0] ? sums[0] / (double)pairs[0] : NAN;
    out->between = pairs[1] ? sums[1] / (double)pairs[1] : NAN;
    out->nearest_label_accuracy = set->labels && set->n > 1 ? (double)right / (double)set->n : NAN;
}

facet_status facet_mask_set_overlap(const facet_mask_set *set, const facet_alloc *alloc,
                                    facet_mask_overlap *out, facet_err *err)
{
    uint8_t *masks = NULL;
    float *overlap = facet_mem_new(alloc, (size_t)set->n * set->n, sizeof *overlap);
    facet_status status = FACET_OK;
    if (!overlap) return facet_fail_memory(err, (size_t)set->n * set->n * sizeof *overlap);
    FACET_TRY_GOTO(facet_gram_make_masks(set, set->keep > 0 ? set->keep : 0.5, alloc, &masks, err),
                   done);
    const facet_gram_masks problem = {masks, set->n, set->n_layers, set->d_ff};
    FACET_TRY_GOTO(facet_gram_overlap(&problem, alloc, overlap, err), done);
    measure(set, overlap, out);
done:
    facet_mem_free(alloc, masks);
    facet_mem_free(alloc, overlap);
    return status;
}
