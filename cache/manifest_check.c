// SPDX-License-Identifier: Apache-2.0
// The checks of a whole manifest, on plain data, in the order: model, files, families, kernels,
// entries. Each later check may rely on the earlier ones.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cache/manifest_internal.h"

typedef struct checker {
    const facet_manifest *manifest;
    const char *file;
} checker;

static facet_status bad(const checker *c, const char *what, const char *name, const char *why,
                        facet_err *err)
{
    return facet_fail_at(err, FACET_BAD_FILE, c->file, -1,
                         "manifest %s: %s%s%s %s; build the bundle again", c->file, what,
                         name[0] != 0 ? " " : "", name, why);
}

// Lower-case words with digits, '-', '_' and '.': names of architectures, targets, settings.
static bool word_ok(const char *word)
{
    size_t length = strlen(word);
    return length > 0 && strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == length;
}

static facet_status check_fields(const checker *c, facet_err *err)
{
    for (uint32_t i = 0; i < facet_model_field_count; i++) {
        const facet_model_field *field = &facet_model_fields[i];
        const char *at = (const char *)&c->manifest->model + field->at;
        if (field->kind == FACET_FIELD_DOUBLE) {
            double value;
            memcpy(&value, at, sizeof value);
            if (!isfinite(value) || fabs(value) > 1e30)
                return bad(c, "model field", field->name, "is not a usable number", err);
            continue;
        }
        uint32_t small = 0;
        uint64_t value = 0;
        if (field->kind == FACET_FIELD_U32)
            memcpy(&small, at, sizeof small);
        else
            memcpy(&value, at, sizeof value);
        value += small;
        if (value < field->min || value > field->max)
            return bad(c, "model field", field->name, "is out of range", err);
    }
    return FACET_OK;
}

static facet_status check_model(const checker *c, facet_err *err)
{
    const facet_manifest *manifest = c->manifest;
    const facet_manifest_model *m = &manifest->model;
    FACET_TRY(check_fields(c, err));
    if (!word_ok(m->arch)) return bad(c, "model", "arch", "is no name", err);
    if (!word_ok(m->chat)) return bad(c, "model", "chat", "is no name", err);
    if (!facet_manifest_text_ok(m->name)) return bad(c, "model", "name", "is not UTF-8", err);
    if (!facet_digest_valid(m->fingerprint))
        return bad(c, "model", "fingerprint", "is no digest", err);
    if (m->n_heads % m->n_kv_heads != 0)
        return bad(c, "model", "", "has heads that its key-value heads do not divide", err);
    if (m->rope_dims % 2 != 0 || m->rope_dims > m->head_dim)
        return bad(c, "model", "rope_dims", "is odd or larger than a head", err);
    bool rope = m->rope_style != 0;
    if (rope && (m->rope_dims == 0 || !(m->rope_base > 0) || !(m->rope_base_local > 0) ||
                 !(m->rope_scale > 0)))
        return bad(c, "model", "", "has a rotary base or scale that is not positive", err);
    if (m->rms_eps < 0) return bad(c, "model", "rms_eps", "is negative", err);
    if (m->token_ffn_bytes > m->token_bytes)
        return bad(c, "model", "token_ffn_bytes", "exceeds token_bytes", err);
    if (!word_ok(manifest->compensate) || !word_ok(manifest->layout) || !word_ok(manifest->quant))
        return bad(c, "compensate, layout or quant", "", "is no name", err);
    return FACET_OK;
}

static int compare_files(const void *a, const void *b)
{
    const facet_manifest_file *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

// Sorted pointers, so that many names cost no quadratic comparison.
static facet_status check_unique_files(const checker *c, facet_err *err)
{
    const facet_manifest *m = c->manifest;
    const facet_manifest_file **sorted =
        facet_mem_new(m->arena.alloc, m->n_files, sizeof(facet_manifest_file *));
    if (sorted == NULL) return facet_fail_memory(err, m->n_files * sizeof *sorted);
    for (uint32_t i = 0; i < m->n_files; i++)
        sorted[i] = &m->files[i];
    qsort(sorted, m->n_files, sizeof *sorted, compare_files);
    facet_status status = FACET_OK;
    for (uint32_t i = 1; i < m->n_files && status == FACET_OK; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            status = bad(c, "file", sorted[i]->name, "is listed twice", err);
    facet_mem_free(m->arena.alloc, sorted);
    return status;
}

static facet_status check_files(const checker *c, facet_err *err)
{
    const facet_manifest *m = c->manifest;
    if (m->n_files > FACET_MAX_FILES) return bad(c, "files", "", "are too many", err);
    for (uint32_t i = 0; i < m->n_files; i++) {
        const facet_manifest_file *f = &m->files[i];
        if (!facet_manifest_path_ok(f->name) || strcmp(f->name, FACET_MANIFEST_FILE) == 0)
            return bad(c, "files:", f->name, "is not a name inside a bundle", err);
        if (!facet_digest_valid(f->xxh3)) return bad(c, "file", f->name, "has no checksum", err);
        if (f->bytes > UINT64_C(1) << 53) return bad(c, "file", f->name, "is too large", err);
    }
    return check_unique_files(c, err);
}

static facet_status check_runs(const checker *c, const facet_manifest_family *family,
                               uint32_t layer, facet_err *err)
{
    const facet_manifest_model *m = &c->manifest->model;
    const uint32_t *runs = facet_manifest_runs(family, layer);
    uint32_t tiles = facet_manifest_tiles(m), ragged = tiles * FACET_MANIFEST_TILE - m->d_ff;
    uint32_t next = 0, kept = 0;
    if (family->n_runs[layer] == 0) return bad(c, "family", family->name, "keeps nothing", err);
    for (uint32_t r = 0; r < family->n_runs[layer]; r++) {
        uint32_t first = runs[2 * r], n = runs[2 * r + 1];
        // Touching runs would be one run, so `first` lies past the end of the last by one at least.
        bool apart = r == 0 || first > next;
        if (n == 0 || !apart || first >= tiles || n > tiles - first)
            return bad(c, "family", family->name,
                       "has runs that are not ascending, apart and inside d_ff", err);
        next = first + n;
        kept += n;
    }
    uint32_t channels = kept * FACET_MANIFEST_TILE - (next == tiles ? ragged : 0);
    if (family->n_channels[layer] != channels)
        return bad(c, "family", family->name, "has channels that do not follow from its runs", err);
    return FACET_OK;
}

static facet_status check_family(const checker *c, uint32_t index, facet_err *err)
{
    const facet_manifest *m = c->manifest;
    const facet_manifest_family *family = &m->families[index];
    bool dense = index == 0;
    if (!facet_manifest_name_ok(family->name))
        return bad(c, "family", family->name, "has an unusable name", err);
    if (facet_manifest_find(m, family->name) != family)
        return bad(c, "family", family->name, "is there twice", err);
    if (dense != (strcmp(family->name, "dense") == 0) || dense != (family->file[0] == 0))
        return bad(c, "family", family->name, "is first exactly when it is dense, without a file",
                   err);
    // Recall may pass 1: whole tiles can hold more channels than the top-k they are compared with.
    if (!(family->keep > 0 && family->keep <= 1) || !(family->recall >= 0 && family->recall <= 32))
        return bad(c, "family", family->name, "has a keep or recall out of range", err);
    for (uint32_t layer = 0; layer < m->model.n_layers; layer++) {
        FACET_TRY(check_runs(c, family, layer, err));
        if (dense && family->n_channels[layer] != m->model.d_ff)
            return bad(c, "family", family->name, "does not keep everything", err);
    }
    if (dense)
        return family->n_entries == 0 && family->extra_bytes == 0
                   ? FACET_OK
                   : bad(c, "family", family->name, "has entries of its own", err);
    const facet_manifest_file *file = facet_manifest_find_file(m, family->file);
    if (file == NULL) return bad(c, "family file", family->file, "is not in files", err);
    if (file->bytes != family->extra_bytes)
        return bad(c, "family file", family->file, "differs in size from extra_bytes", err);
    return facet_manifest_check_entries(m, family, file->bytes, c->file, err);
}

static facet_status check_kernels(const checker *c, facet_err *err)
{
    const facet_manifest *m = c->manifest;
    if (m->n_kernels > FACET_MAX_KERNELS) return bad(c, "kernels", "", "are too many", err);
    for (uint32_t i = 0; i < m->n_kernels; i++) {
        const facet_manifest_kernel *k = &m->kernels[i];
        if (!facet_digest_valid(k->key)) return bad(c, "kernel", k->key, "has no key", err);
        if (!word_ok(k->target)) return bad(c, "kernel", k->key, "has an unusable target", err);
        if (facet_manifest_find(m, k->family) == NULL)
            return bad(c, "kernel", k->key, "is of no family of this bundle", err);
        const facet_manifest_file *file = facet_manifest_find_file(m, k->file);
        if (file == NULL) return bad(c, "kernel file", k->file, "is not in files", err);
        if (file->bytes != k->bytes)
            return bad(c, "kernel file", k->file, "differs in size from the list of files", err);
    }
    return FACET_OK;
}

facet_status facet_manifest_check(const facet_manifest *manifest, const char *file, facet_err *err)
{
    checker c = {manifest, file};
    if (manifest->version != FACET_BUNDLE_VERSION)
        return facet_fail_at(err, FACET_UNSUPPORTED, file, -1,
                             "manifest %s: it has bundle version %u and this facet reads version "
                             "%u; build the bundle again with this facet",
                             file, manifest->version, FACET_BUNDLE_VERSION);
    FACET_TRY(check_model(&c, err));
    FACET_TRY(check_files(&c, err));
    if (manifest->n_families == 0 || manifest->n_families > FACET_MAX_FAMILIES)
        return bad(&c, "families", "", "are none or too many", err);
    for (uint32_t i = 0; i < manifest->n_families; i++)
        FACET_TRY(check_family(&c, i, err));
    FACET_TRY(check_kernels(&c, err));
    const facet_manifest_file *weights = facet_manifest_find_file(manifest, FACET_MANIFEST_WEIGHTS);
    if (weights == NULL) return bad(&c, "file", FACET_MANIFEST_WEIGHTS, "is not in files", err);
    return facet_manifest_check_entries(manifest, NULL, weights->bytes, file, err);
}
