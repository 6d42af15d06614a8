// SPDX-License-Identifier: Apache-2.0
// manifest.json text -> facet_manifest:  JSON document -> lists in the arena ->
// facet_manifest_check.
#include <string.h>

#include "cache/manifest_internal.h"

// What every reader needs.
typedef struct reader {
    facet_manifest *manifest;
    const char *file;
} reader;

static facet_status bad(const reader *r, const char *what, const char *why, facet_err *err)
{
    return facet_fail_at(err, FACET_BAD_FILE, r->file, -1,
                         "manifest %s: %s %s; build the bundle again", r->file, what, why);
}

// Copies a string field into a fixed buffer.
static facet_status read_string(const reader *r, const cJSON *object, const char *name, char *out,
                                size_t capacity, facet_err *err)
{
    const char *text;
    FACET_TRY(facet_json_string(object, name, r->file, &text, err));
    size_t length = strlen(text);
    if (length >= capacity) return bad(r, name, "is too long", err);
    if (!facet_manifest_text_ok(text)) return bad(r, name, "is not printable UTF-8", err);
    memcpy(out, text, length + 1);
    return FACET_OK;
}

static facet_status read_u32(const reader *r, const cJSON *object, const char *name, uint32_t *out,
                             facet_err *err)
{
    uint64_t value;
    FACET_TRY(facet_json_u64(object, name, r->file, UINT32_MAX, &value, err));
    *out = (uint32_t)value;
    return FACET_OK;
}

static facet_status read_u64(const reader *r, const cJSON *object, const char *name, uint64_t *out,
                             facet_err *err)
{
    return facet_json_u64(object, name, r->file, UINT64_C(1) << 53, out, err);
}

// The array of a field and its length, at most `max`.
static facet_status read_list(const reader *r, const cJSON *object, const char *name, uint32_t max,
                              const cJSON **array, uint32_t *n, facet_err *err)
{
    FACET_TRY(facet_json_array(object, name, r->file, array, err));
    uint32_t count = 0;
    for (const cJSON *item = (*array)->child; item != NULL; item = item->next)
        if (++count > max) return bad(r, name, "has too many elements", err);
    *n = count;
    return FACET_OK;
}

static void *new_list(const reader *r, size_t n, size_t size, facet_err *err)
{
    void *list = facet_arena_new(&r->manifest->arena, n, size);
    if (list == NULL) facet_fail_memory(err, n * size);
    return list;
}

static facet_status read_model(const reader *r, const cJSON *root, facet_err *err)
{
    facet_manifest_model *model = &r->manifest->model;
    const cJSON *object;
    FACET_TRY(facet_json_object(root, "model", r->file, &object, err));
    FACET_TRY(read_string(r, object, "arch", model->arch, sizeof model->arch, err));
    FACET_TRY(read_string(r, object, "name", model->name, sizeof model->name, err));
    FACET_TRY(
        read_string(r, object, "fingerprint", model->fingerprint, sizeof model->fingerprint, err));
    FACET_TRY(read_string(r, object, "chat", model->chat, sizeof model->chat, err));
    for (uint32_t i = 0; i < facet_model_field_count; i++) {
        const facet_model_field *field = &facet_model_fields[i];
        char *at = (char *)model + field->at;
        if (field->kind == FACET_FIELD_DOUBLE) {
            double value;
            FACET_TRY(facet_json_double(object, field->name, r->file, &value, err));
            memcpy(at, &value, sizeof value);
            continue;
        }
        uint64_t value;
        FACET_TRY(facet_json_u64(object, field->name, r->file, field->max, &value, err));
        uint32_t small = (uint32_t)value;
        if (field->kind == FACET_FIELD_U32)
            memcpy(at, &small, sizeof small);
        else
            memcpy(at, &value, sizeof value);
    }
    // The lists of every layer are read next: their number must be sound before that.
    if (model->n_layers == 0) return bad(r, "n_layers", "is 0", err);
    return FACET_OK;
}

static facet_status read_entries(const reader *r, const cJSON *object, uint32_t n_specs,
                                 facet_entry **entries, uint32_t *n_entries, facet_err *err)
{
    const cJSON *array;
    uint32_t n, max = (r->manifest->model.n_layers + 1) * n_specs;
    FACET_TRY(read_list(r, object, "entries", max, &array, &n, err));
    facet_entry *e = new_list(r, n, sizeof *e, err);
    if (e == NULL) return FACET_NO_MEMORY;
    *entries = e;
    *n_entries = n;
    for (const cJSON *item = array->child; item != NULL; item = item->next, e++) {
        FACET_TRY(read_string(r, item, "name", e->name, sizeof e->name, err));
        FACET_TRY(read_u32(r, item, "layer", &e->layer, err));
        FACET_TRY(read_string(r, item, "pack", e->pack, sizeof e->pack, err));
        FACET_TRY(read_u32(r, item, "rows", &e->n_rows, err));
        FACET_TRY(read_u32(r, item, "cols", &e->n_cols, err));
        FACET_TRY(read_u64(r, item, "offset", &e->offset, err));
        FACET_TRY(read_u64(r, item, "bytes", &e->bytes, err));
    }
    return FACET_OK;
}

// An element of an array of whole numbers below 2^32.
static facet_status read_element(const reader *r, const cJSON *item, const char *name,
                                 uint32_t *out, facet_err *err)
{
    double value = item->valuedouble;
    if (!cJSON_IsNumber(item) || !(value >= 0 && value <= UINT32_MAX) ||
        value != (double)(uint32_t)value)
        return bad(r, name, "holds something else than whole numbers", err);
    *out = (uint32_t)value;
    return FACET_OK;
}

static facet_status read_channels(const reader *r, const cJSON *object,
                                  facet_manifest_family *family, facet_err *err)
{
    const cJSON *array;
    uint32_t n, n_layers = r->manifest->model.n_layers;
    FACET_TRY(read_list(r, object, "channels", n_layers, &array, &n, err));
    if (n != n_layers) return bad(r, "channels", "must have one number a layer", err);
    uint32_t *channels = new_list(r, n, sizeof *channels, err);
    if (channels == NULL) return FACET_NO_MEMORY;
    family->n_channels = channels;
    for (const cJSON *item = array->child; item != NULL; item = item->next)
        FACET_TRY(read_element(r, item, "channels", channels++, err));
    return FACET_OK;
}

// Lengths of the layers' lists of runs, and their sum.
static facet_status read_run_counts(const reader *r, const cJSON *array, uint32_t *n_runs,
                                    size_t *total, facet_err *err)
{
    uint32_t most = facet_manifest_tiles(&r->manifest->model);
    for (const cJSON *item = array->child; item != NULL; item = item->next, n_runs++) {
        if (!cJSON_IsArray(item)) return bad(r, "runs", "must have one list a layer", err);
        size_t n = 0;
        for (const cJSON *value = item->child; value != NULL; value = value->next)
            n++;
        if (n == 0 || n % 2 != 0 || n / 2 > most)
            return bad(r, "runs", "must be pairs (first tile, tiles)", err);
        *n_runs = (uint32_t)(n / 2);
        *total += n / 2;
    }
    return FACET_OK;
}

static facet_status read_runs(const reader *r, const cJSON *object, facet_manifest_family *family,
                              facet_err *err)
{
    const cJSON *array;
    uint32_t n, n_layers = r->manifest->model.n_layers;
    size_t total = 0;
    FACET_TRY(read_list(r, object, "runs", n_layers, &array, &n, err));
    if (n != n_layers) return bad(r, "runs", "must have one list a layer", err);
    family->n_runs = new_list(r, n, sizeof *family->n_runs, err);
    if (family->n_runs == NULL) return FACET_NO_MEMORY;
    FACET_TRY(read_run_counts(r, array, family->n_runs, &total, err));
    uint32_t *runs = new_list(r, 2 * total, sizeof *runs, err);
    if (runs == NULL) return FACET_NO_MEMORY;
    family->runs = runs;
    for (const cJSON *layer = array->child; layer != NULL; layer = layer->next)
        for (const cJSON *item = layer->child; item != NULL; item = item->next)
            FACET_TRY(read_element(r, item, "runs", runs++, err));
    return FACET_OK;
}

static facet_status read_family(const reader *r, const cJSON *object, facet_manifest_family *family,
                                facet_err *err)
{
    FACET_TRY(read_string(r, object, "name", family->name, sizeof family->name, err));
    FACET_TRY(read_string(r, object, "file", family->file, sizeof family->file, err));
    FACET_TRY(facet_json_double(object, "keep", r->file, &family->keep, err));
    FACET_TRY(facet_json_double(object, "recall", r->file, &family->recall, err));
    FACET_TRY(read_u64(r, object, "samples", &family->samples, err));
    FACET_TRY(read_u64(r, object, "extra_bytes", &family->extra_bytes, err));
    FACET_TRY(read_u64(r, object, "token_bytes", &family->token_bytes, err));
    FACET_TRY(read_u64(r, object, "packed_token_bytes", &family->packed_token_bytes, err));
    FACET_TRY(read_channels(r, object, family, err));
    FACET_TRY(read_runs(r, object, family, err));
    return read_entries(r, object, facet_family_spec_count, &family->entries, &family->n_entries,
                        err);
}

static facet_status read_families(const reader *r, const cJSON *root, facet_err *err)
{
    const cJSON *array;
    uint32_t n;
    FACET_TRY(read_list(r, root, "families", FACET_MAX_FAMILIES, &array, &n, err));
    facet_manifest_family *family = new_list(r, n, sizeof *family, err);
    if (family == NULL) return FACET_NO_MEMORY;
    r->manifest->families = family;
    r->manifest->n_families = n;
    for (const cJSON *item = array->child; item != NULL; item = item->next)
        FACET_TRY(read_family(r, item, family++, err));
    return FACET_OK;
}

static facet_status read_kernels(const reader *r, const cJSON *root, facet_err *err)
{
    const cJSON *array;
    uint32_t n;
    FACET_TRY(read_list(r, root, "kernels", FACET_MAX_KERNELS, &array, &n, err));
    facet_manifest_kernel *k = new_list(r, n, sizeof *k, err);
    if (k == NULL) return FACET_NO_MEMORY;
    r->manifest->kernels = k;
    r->manifest->n_kernels = n;
    for (const cJSON *item = array->child; item != NULL; item = item->next, k++) {
        FACET_TRY(read_string(r, item, "key", k->key, sizeof k->key, err));
        FACET_TRY(read_string(r, item, "target", k->target, sizeof k->target, err));
        FACET_TRY(read_string(r, item, "family", k->family, sizeof k->family, err));
        FACET_TRY(read_string(r, item, "file", k->file, sizeof k->file, err));
        FACET_TRY(read_u64(r, item, "bytes", &k->bytes, err));
    }
    return FACET_OK;
}

static facet_status read_files(const reader *r, const cJSON *root, facet_err *err)
{
    const cJSON *array;
    uint32_t n;
    FACET_TRY(read_list(r, root, "files", FACET_MAX_FILES, &array, &n, err));
    facet_manifest_file *f = new_list(r, n, sizeof *f, err);
    if (f == NULL) return FACET_NO_MEMORY;
    r->manifest->files = f;
    r->manifest->n_files = n;
    for (const cJSON *item = array->child; item != NULL; item = item->next, f++) {
        FACET_TRY(read_string(r, item, "name", f->name, sizeof f->name, err));
        FACET_TRY(read_u64(r, item, "bytes", &f->bytes, err));
        FACET_TRY(read_string(r, item, "xxh3", f->xxh3, sizeof f->xxh3, err));
    }
    return FACET_OK;
}

// Kind and version come first: another version may differ in everything else.
static facet_status read_version(const reader *r, const cJSON *root, facet_err *err)
{
    const char *kind;
    FACET_TRY(facet_json_string(root, "kind", r->file, &kind, err));
    if (strcmp(kind, FACET_MANIFEST_KIND) != 0)
        return bad(r, "kind", "is not \"" FACET_MANIFEST_KIND "\"", err);
    FACET_TRY(read_u32(r, root, "version", &r->manifest->version, err));
    if (r->manifest->version != FACET_BUNDLE_VERSION)
        return facet_fail_at(err, FACET_UNSUPPORTED, r->file, -1,
                             "manifest %s: it has bundle version %u and this facet reads version "
                             "%u; build the bundle again with this facet",
                             r->file, r->manifest->version, FACET_BUNDLE_VERSION);
    return FACET_OK;
}

static facet_status read_root(const reader *r, const cJSON *root, facet_err *err)
{
    facet_manifest *m = r->manifest;
    const cJSON *weights;
    const char *name;
    FACET_TRY(read_version(r, root, err));
    FACET_TRY(read_string(r, root, "compensate", m->compensate, sizeof m->compensate, err));
    FACET_TRY(read_string(r, root, "layout", m->layout, sizeof m->layout, err));
    FACET_TRY(read_string(r, root, "quant", m->quant, sizeof m->quant, err));
    FACET_TRY(read_model(r, root, err));
    FACET_TRY(facet_json_object(root, "weights", r->file, &weights, err));
    FACET_TRY(facet_json_string(weights, "file", r->file, &name, err));
    if (strcmp(name, FACET_MANIFEST_WEIGHTS) != 0)
        return bad(r, "weights", "are not in " FACET_MANIFEST_WEIGHTS, err);
    FACET_TRY(read_entries(r, weights, facet_weight_spec_count, &m->entries, &m->n_entries, err));
    FACET_TRY(read_families(r, root, err));
    FACET_TRY(read_kernels(r, root, err));
    FACET_TRY(read_files(r, root, err));
    return facet_manifest_check(m, r->file, err);
}

// The escape of a zero byte: cJSON would cut the string there, and then another name was checked
// than the one that stands in the file.
static bool has_nul_escape(const char *text, size_t bytes)
{
    static const char escape[] = "\\u0000";
    const size_t length = sizeof escape - 1;
    for (size_t i = 0; i + length <= bytes; i++)
        if (text[i] == '\\' && memcmp(text + i, escape, length) == 0) return true;
    return false;
}

facet_status facet_manifest_parse(const char *text, size_t bytes, const char *file,
                                  const facet_alloc *alloc, facet_manifest *manifest,
                                  facet_err *err)
{
    facet_manifest result = {0};
    reader r = {&result, file};
    cJSON *root = NULL;
    *manifest = (facet_manifest){0};
    if (bytes > FACET_MANIFEST_MAX) return bad(&r, "the text", "is too long", err);
    if (has_nul_escape(text, bytes)) return bad(&r, "a string", "holds a zero byte", err);
    FACET_TRY(facet_json_parse(text, bytes, file, &root, err));
    facet_arena_init(&result.arena, alloc);
    facet_status status = read_root(&r, root, err);
    cJSON_Delete(root);
    if (status == FACET_OK)
        *manifest = result;
    else
        facet_manifest_fini(&result);
    return status;
}
