// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "cache/manifest.h"
#include "tools/describe.h"
#include "tools/manifest_load.h"
#include "tools/resolve.h"

enum { PROOF_MAX = 16 << 20 };

// Mean bits of a stored weight of the down projections among the entries.
static double down_bits(const facet_entry *entries, uint32_t n)
{
    double bits = 0, weights = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(entries[i].name, "down") != 0) continue;
        bits += 8.0 * (double)entries[i].bytes;
        weights += (double)entries[i].n_rows * entries[i].n_cols;
    }
    return weights > 0 ? bits / weights : 0;
}

static void add_layers(const facet_manifest *manifest, const facet_manifest_family *family,
                       cJSON *item)
{
    cJSON *channels = facet_doc_array(item, "channels_per_layer");
    cJSON *tiles = facet_doc_array(item, "tiles_per_layer");
    cJSON *runs = facet_doc_array(item, "runs_per_layer");
    const uint32_t *run = family->runs;
    for (uint32_t layer = 0; layer < manifest->model.n_layers; layer++) {
        uint64_t n_tiles = 0;
        for (uint32_t i = 0; i < family->n_runs[layer]; i++, run += 2)
            n_tiles += run[1];
        facet_doc_push_number(channels, family->n_channels[layer]);
        facet_doc_push_number(tiles, (double)n_tiles);
        facet_doc_push_number(runs, family->n_runs[layer]);
    }
}

// Does `inner` keep nothing that `outer` drops? Runs are ascending and do not touch, so each one of
// inner must lie within a single one of outer.
static bool is_nested(const facet_manifest *manifest, const facet_manifest_family *inner,
                      const facet_manifest_family *outer)
{
    const uint32_t *in = inner->runs, *out = outer->runs;
    for (uint32_t layer = 0; layer < manifest->model.n_layers; layer++) {
        const uint32_t *end = out + 2 * (size_t)outer->n_runs[layer];
        for (uint32_t i = 0; i < inner->n_runs[layer]; i++, in += 2) {
            while (out < end && out[0] + out[1] < in[0] + in[1])
                out += 2;
            if (out == end || out[0] > in[0]) return false;
        }
        out = end;
    }
    return true;
}

// Dense is left out: everything is nested in it.
static void add_nested(const facet_manifest *manifest, uint32_t family, cJSON *item)
{
    cJSON *nested = facet_doc_array(item, "nested_in");
    for (uint32_t k = 1; k < manifest->n_families && family > 0; k++)
        if (k != family && is_nested(manifest, &manifest->families[family], &manifest->families[k]))
            facet_doc_push_text(nested, manifest->families[k].name);
}

// Names of the vectors that the family has in place of the shared ones.
static void add_own_vectors(const facet_manifest_family *family, cJSON *item)
{
    cJSON *own = facet_doc_array(item, "own_vectors");
    for (uint32_t i = 0; i < family->n_entries; i++) {
        const char *name = family->entries[i].name;
        bool listed = !facet_manifest_own_vector(name);
        for (const cJSON *e = own->child; e != NULL && !listed; e = e->next)
            listed = strcmp(e->valuestring, name) == 0;
        if (!listed) facet_doc_push_text(own, name);
    }
}

static void add_families(const facet_manifest *manifest, cJSON *doc)
{
    cJSON *families = facet_doc_array(doc, "families");
    for (uint32_t i = 0; i < manifest->n_families; i++) {
        const facet_manifest_family *family = &manifest->families[i];
        cJSON *item = facet_doc_push_object(families);
        facet_doc_text(item, "name", family->name);
        facet_doc_number(item, "keep", family->keep);
        facet_doc_number(item, "samples", (double)family->samples);
        facet_doc_number(item, "recall", family->recall);
        // Dense has no file of its own: its down projection lies with the shared weights.
        facet_doc_number(item, "down_bits",
                         family->n_entries > 0 ? down_bits(family->entries, family->n_entries)
                                               : down_bits(manifest->entries, manifest->n_entries));
        facet_doc_number(item, "extra_bytes", (double)family->extra_bytes);
        facet_doc_number(item, "bytes_per_token", (double)family->token_bytes);
        facet_doc_number(item, "packed_bytes_per_token", (double)family->packed_token_bytes);
        add_own_vectors(family, item);
        add_nested(manifest, i, item);
        add_layers(manifest, family, item);
    }
}

static void add_kernels(const facet_manifest *manifest, cJSON *doc)
{
    cJSON *targets = facet_doc_array(doc, "targets");
    cJSON *kernels = facet_doc_array(doc, "kernels");
    for (uint32_t i = 0; i < manifest->n_kernels; i++) {
        const facet_manifest_kernel *kernel = &manifest->kernels[i];
        bool seen = false;
        for (const cJSON *t = targets->child; t != NULL && !seen; t = t->next)
            seen = strcmp(t->valuestring, kernel->target) == 0;
        if (!seen) facet_doc_push_text(targets, kernel->target);
        cJSON *item = facet_doc_push_object(kernels);
        facet_doc_text(item, "key", kernel->key);
        facet_doc_text(item, "target", kernel->target);
        facet_doc_text(item, "family", kernel->family);
        facet_doc_number(item, "bytes", (double)kernel->bytes);
    }
}

static void add_manifest(const facet_manifest *manifest, cJSON *doc)
{
    const facet_manifest_model *model = &manifest->model;
    facet_doc_text(doc, "kind", "bundle");
    facet_doc_text(doc, "model", model->name[0] != '\0' ? model->name : model->arch);
    facet_doc_text(doc, "arch", model->arch);
    facet_doc_text(doc, "fingerprint", model->fingerprint);
    facet_doc_text(doc, "chat_template", model->chat);
    add_families(manifest, doc);
    add_kernels(manifest, doc);
    double weights = 0;
    for (uint32_t i = 0; i < manifest->n_files; i++)
        if (strcmp(manifest->files[i].name, "weights.bin") == 0)
            weights = (double)manifest->files[i].bytes;
    facet_doc_number(doc, "weights_bytes", weights);
    facet_doc_text(doc, "layout", manifest->layout);
    facet_doc_text(doc, "compensate", manifest->compensate);
    facet_doc_text(doc, "quant", manifest->quant);
}

// ---- the proof
// ------------------------------------------------------------------------------------

static double number_of(const cJSON *object, const char *name)
{
    const cJSON *item = facet_json_find(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : (double)NAN;
}

// People read a table of what matters most; everything is in the document.
static cJSON *proof_table(const cJSON *proof)
{
    cJSON *rows = cJSON_CreateArray();
    const cJSON *family = facet_json_find(proof, "families");
    for (family = family != NULL ? family->child : NULL; rows && family; family = family->next) {
        const cJSON *ppl = facet_json_find(family, "perplexity");
        const cJSON *others = facet_json_find(ppl, "others");
        const cJSON *name = facet_json_find(family, "name");
        const double dense = number_of(ppl, "dense"), own = number_of(ppl, "family");
        double worst = (double)NAN;
        for (const cJSON *o = others != NULL ? others->child : NULL; o != NULL; o = o->next)
            if (cJSON_IsNumber(o)) worst = fmax(worst, o->valuedouble);
        cJSON *row = facet_doc_push_object(rows);
        facet_doc_text(row, "family", cJSON_IsString(name) ? name->valuestring : "");
        facet_doc_number(row, "calibration_tokens", number_of(family, "calibration_tokens"));
        facet_doc_number(row, "held_tokens", number_of(family, "held_tokens"));
        facet_doc_number(row, "ppl_dense", dense);
        facet_doc_number(row, "own", own);
        facet_doc_number(row, "worst_other", worst);
        facet_doc_number(row, "random", number_of(ppl, "random"));
        facet_doc_number(row, "own_over_dense", round(own / dense * 1e4) / 1e4);
        facet_doc_number(row, "agree_positions", number_of(family, "agree_positions"));
        facet_doc_number(row, "agree_answers", number_of(family, "agree_answers"));
    }
    return rows;
}

// Each score of each family, in a table of its own: not every family has the same ones.
static void add_scores(const cJSON *proof, cJSON *doc)
{
    cJSON *rows = NULL;
    const cJSON *family = facet_json_find(proof, "families");
    for (family = family != NULL ? family->child : NULL; family; family = family->next) {
        const cJSON *name = facet_json_find(family, "name");
        const cJSON *score = facet_json_find(family, "scores");
        for (score = score != NULL ? score->child : NULL; score; score = score->next) {
            const cJSON *task = facet_json_find(score, "name");
            const cJSON *command = facet_json_find(score, "command");
            const double dense = number_of(score, "dense"), own = number_of(score, "family");
            if (rows == NULL) rows = facet_doc_array(doc, "scores");
            cJSON *row = facet_doc_push_object(rows);
            facet_doc_text(row, "family", cJSON_IsString(name) ? name->valuestring : "");
            facet_doc_text(row, "score", cJSON_IsString(task) ? task->valuestring : "");
            facet_doc_number(row, "dense", dense);
            facet_doc_number(row, "own", own);
            facet_doc_number(row, "own_over_dense", round(own / dense * 1e4) / 1e4);
            facet_doc_text(row, "command", cJSON_IsString(command) ? command->valuestring : "");
        }
    }
}

static facet_status add_proof(const facet_tool *tool, const char *path, cJSON *doc, facet_err *err)
{
    char file[4096];
    cJSON *proof = NULL;
    FACET_TRY(facet_path_join(file, sizeof file, path, "proof.json", err));
    if (facet_path_exists(file)) FACET_TRY(facet_json_load(file, PROOF_MAX, &proof, err));
    if (proof != NULL && !tool->json) {
        cJSON *table = proof_table(proof);
        add_scores(proof, doc);
        cJSON_Delete(proof);
        proof = table;
    } else if (proof == NULL) {
        proof = cJSON_CreateNull();
    }
    if (proof != NULL && cJSON_AddItemToObject(doc, "proof", proof)) return FACET_OK;
    cJSON_Delete(proof);
    return facet_fail_memory(err, sizeof *proof);
}

facet_status facet_describe_bundle(const facet_tool *tool, const char *path, cJSON *doc,
                                   facet_err *err)
{
    facet_manifest manifest;
    FACET_TRY(facet_manifest_load(path, &manifest, err));
    add_manifest(&manifest, doc);
    facet_manifest_fini(&manifest);
    return add_proof(tool, path, doc, err);
}

// ---- any of them
// ------------------------------------------------------------------------------------

static facet_status describe_model(const facet_tool *tool, const char *path, cJSON *doc,
                                   facet_err *err)
{
    facet_model *model;
    FACET_TRY(facet_model_open(path, NULL, &model, err));
    facet_status status = facet_describe_model(tool, model, doc, err);
    facet_model_close(model);
    return status;
}

static facet_status describe_masks(const char *path, cJSON *doc, facet_err *err)
{
    facet_mask_set set = {0};
    FACET_TRY(facet_mask_set_load(path, NULL, &set, err));
    facet_status status = facet_describe_masks(&set, doc, err);
    facet_mask_set_fini(&set);
    return status;
}

static facet_status describe_families(const char *path, cJSON *doc, facet_err *err)
{
    facet_family_set set = {0};
    FACET_TRY(facet_family_set_load(path, NULL, &set, err));
    facet_status status = facet_describe_families(&set, doc, err);
    facet_family_set_fini(&set);
    return status;
}

facet_status facet_describe(const facet_tool *tool, const char *path, cJSON *doc, facet_err *err)
{
    facet_kind kind;
    FACET_TRY(facet_kind_find(path, &kind, err));
    switch (kind) {
    case FACET_KIND_MODEL:
        return describe_model(tool, path, doc, err);
    case FACET_KIND_MASKS:
        return describe_masks(path, doc, err);
    case FACET_KIND_FAMILIES:
        return describe_families(path, doc, err);
    case FACET_KIND_BUNDLE:
        break;
    }
    return facet_describe_bundle(tool, path, doc, err);
}
