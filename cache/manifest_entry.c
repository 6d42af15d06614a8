// SPDX-License-Identifier: Apache-2.0
// Entries of weights.bin and of family files: what each name must look like, and the check of a
// list.
#include <string.h>

#include "cache/manifest_internal.h"

#define ONCE(name, form, required, rows, cols)                                                     \
    {                                                                                              \
        FACET_ENTRY_##name, FACET_FORM_##form, false, required, FACET_DIM_##rows, FACET_DIM_##cols \
    }
#define EACH(name, form, required, rows, cols)                                                     \
    {                                                                                              \
        FACET_ENTRY_##name, FACET_FORM_##form, true, required, FACET_DIM_##rows, FACET_DIM_##cols  \
    }

const facet_entry_spec facet_weight_specs[] = {
    ONCE(TOKEN_EMBD, MATRIX, true, VOCAB, MODEL),
    ONCE(HEAD, MATRIX, false, VOCAB, MODEL),
    ONCE(OUT_NORM, VECTOR, true, ONE, MODEL),
    ONCE(ROPE_FACTORS, VECTOR, false, ONE, ROPE_HALF),
    EACH(ATTN_NORM, VECTOR, true, ONE, MODEL),
    EACH(Q, MATRIX, true, Q, MODEL),
    EACH(K, MATRIX, true, KV, MODEL),
    EACH(V, MATRIX, true, KV, MODEL),
    EACH(O, MATRIX, true, MODEL, Q),
    EACH(Q_BIAS, VECTOR, false, ONE, Q),
    EACH(K_BIAS, VECTOR, false, ONE, KV),
    EACH(V_BIAS, VECTOR, false, ONE, KV),
    EACH(O_BIAS, VECTOR, false, ONE, MODEL),
    EACH(Q_NORM, VECTOR, false, ONE, HEAD),
    EACH(K_NORM, VECTOR, false, ONE, HEAD),
    EACH(ATTN_POST, VECTOR, false, ONE, MODEL),
    EACH(FFN_NORM, VECTOR, true, ONE, MODEL),
    EACH(FFN_POST, VECTOR, false, ONE, MODEL),
    EACH(GATE, SIZES, true, FF, MODEL),
    EACH(UP, SIZES, true, FF, MODEL),
    EACH(GATE_UP, TILES, true, FF, MODEL),
    EACH(DOWN, MATRIX, true, MODEL, FF),
    EACH(PERM, INDEX, false, ONE, LAYOUT),
};
const uint32_t facet_weight_spec_count = FACET_COUNT_OF(facet_weight_specs);

const facet_entry_spec facet_family_specs[] = {
    EACH(DOWN, MATRIX, true, MODEL, KEPT),      EACH(DOWN_BIAS, VECTOR, false, ONE, MODEL),
    EACH(SCORES, VECTOR, false, ONE, FF),       ONCE(OUT_NORM, VECTOR, false, ONE, MODEL),
    EACH(ATTN_NORM, VECTOR, false, ONE, MODEL), EACH(FFN_NORM, VECTOR, false, ONE, MODEL),
    EACH(ATTN_POST, VECTOR, false, ONE, MODEL), EACH(FFN_POST, VECTOR, false, ONE, MODEL),
    EACH(Q_BIAS, VECTOR, false, ONE, Q),        EACH(K_BIAS, VECTOR, false, ONE, KV),
    EACH(V_BIAS, VECTOR, false, ONE, KV),
};
const uint32_t facet_family_spec_count = FACET_COUNT_OF(facet_family_specs);

static const facet_entry_spec *spec_find(const facet_entry_spec *specs, uint32_t n,
                                         const char *name)
{
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(specs[i].name, name) == 0) return &specs[i];
    return NULL;
}

// Both files name it, and it is a vector: "down" is of both too, but dense keeps its own.
bool facet_manifest_own_vector(const char *name)
{
    const facet_entry_spec *own = spec_find(facet_family_specs, facet_family_spec_count, name);
    return own && own->form == FACET_FORM_VECTOR &&
           spec_find(facet_weight_specs, facet_weight_spec_count, name);
}

bool facet_manifest_pack(const char *name, uint32_t *cols, uint32_t *bytes)
{
    static const struct {
        char name[8];
        uint32_t cols, bytes;
    } packs[] = {
        {"F32", 1, 64},    {"F16", 1, 32},      {"BF16", 1, 32},     {"Q4_0", 32, 288},
        {"Q4_1", 32, 320}, {"Q5_0", 32, 352},   {"Q5_1", 32, 384},   {"Q6_0", 32, 416},
        {"Q8_0", 32, 544}, {"Q4_K", 256, 2368}, {"Q5_K", 256, 2880}, {"Q6_K", 256, 3360},
    };
    for (size_t i = 0; i < FACET_COUNT_OF(packs); i++) {
        if (strcmp(packs[i].name, name) != 0) continue;
        *cols = packs[i].cols;
        *bytes = packs[i].bytes;
        return true;
    }
    return false;
}

const facet_entry *facet_manifest_entry(const facet_entry *entries, uint32_t n_entries,
                                        uint32_t layer, const char *name)
{
    for (uint32_t i = 0; i < n_entries; i++)
        if (entries[i].layer == layer && strcmp(entries[i].name, name) == 0) return &entries[i];
    return NULL;
}

// What the check of one list needs to know.
typedef struct checker {
    const facet_manifest *manifest;
    const facet_manifest_family *family;
    const facet_entry_spec *specs;
    uint32_t n_specs;
    const facet_entry *entries;
    uint32_t n_entries;
    uint64_t file_bytes;
    const char *file;
} checker;

static uint64_t dimension(const checker *c, facet_entry_dim dim, uint32_t layer)
{
    const facet_manifest_model *m = &c->manifest->model;
    switch (dim) {
    case FACET_DIM_VOCAB:
        return m->n_vocab;
    case FACET_DIM_MODEL:
        return m->d_model;
    case FACET_DIM_Q:
        return (uint64_t)m->n_heads * m->head_dim;
    case FACET_DIM_KV:
        return (uint64_t)m->n_kv_heads * m->head_dim;
    case FACET_DIM_HEAD:
        return m->head_dim;
    case FACET_DIM_FF:
        return m->d_ff;
    case FACET_DIM_ROPE_HALF:
        return m->rope_dims / 2;
    case FACET_DIM_LAYOUT:
        return (uint64_t)facet_manifest_tiles(m) * FACET_MANIFEST_TILE;
    case FACET_DIM_KEPT:
        return (uint64_t)facet_manifest_kept(c->family, layer) * FACET_MANIFEST_TILE;
    default:
        return 1;
    }
}

static facet_status bad(const checker *c, const facet_entry *e, const char *what, facet_err *err)
{
    return facet_fail_at(err, FACET_BAD_FILE, c->file, -1,
                         "manifest %s: entry %s of layer %u%s%s: %s; build the bundle again",
                         c->file, e->name, e->layer, c->family ? " of family " : "",
                         c->family ? c->family->name : "", what);
}

// Bytes of n_rows packed rows of n_cols stored columns. Both are bounded by the limits of the
// model's fields, so that the product stays below 2^60.
static uint64_t packed_bytes(uint64_t n_rows, uint64_t n_cols, uint32_t unit, uint32_t unit_bytes)
{
    uint64_t groups = (n_rows + FACET_MANIFEST_GROUP - 1) / FACET_MANIFEST_GROUP;
    return groups * (n_cols / unit) * unit_bytes;
}

// Bytes of the tiles of gate_up: per tile two groups of gate rows and two of up rows.
static facet_status tiles_bytes(const checker *c, const facet_entry *e, uint64_t *bytes,
                                facet_err *err)
{
    static const char *const halves[] = {FACET_ENTRY_GATE, FACET_ENTRY_UP};
    uint64_t tile = 0;
    for (size_t i = 0; i < FACET_COUNT_OF(halves); i++) {
        const facet_entry *half =
            facet_manifest_entry(c->entries, c->n_entries, e->layer, halves[i]);
        uint32_t unit, unit_bytes;
        if (half == NULL || !facet_manifest_pack(half->pack, &unit, &unit_bytes))
            return bad(c, e, "gate and up with a known packing must stand beside it", err);
        tile += packed_bytes(FACET_MANIFEST_TILE, half->n_cols, unit, unit_bytes);
    }
    *bytes = tile * facet_manifest_tiles(&c->manifest->model);
    return FACET_OK;
}

// Expected stored columns and bytes of an entry; also checks the packing's name.
static facet_status expected(const checker *c, const facet_entry_spec *spec, const facet_entry *e,
                             uint64_t *n_cols, uint64_t *bytes, facet_err *err)
{
    uint64_t cols = dimension(c, spec->cols, e->layer);
    uint32_t unit, unit_bytes;
    *n_cols = cols;
    switch (spec->form) {
    case FACET_FORM_VECTOR:
    case FACET_FORM_INDEX:
        *bytes = cols * 4;
        if (strcmp(e->pack, spec->form == FACET_FORM_VECTOR ? "F32" : FACET_PACK_NAME_U32) != 0)
            return bad(c, e, "a vector is F32 and an index is U32", err);
        return FACET_OK;
    case FACET_FORM_TILES:
        if (strcmp(e->pack, FACET_PACK_NAME_TILES) != 0) return bad(c, e, "is not TILES", err);
        return tiles_bytes(c, e, bytes, err);
    default:
        break;
    }
    if (!facet_manifest_pack(e->pack, &unit, &unit_bytes))
        return bad(c, e, "has an unknown packing", err);
    if (spec->cols == FACET_DIM_KEPT && cols % unit != 0)
        return bad(c, e, "its packing does not divide the kept tiles", err);
    *n_cols = (cols + unit - 1) / unit * unit;
    *bytes = packed_bytes(dimension(c, spec->rows, e->layer), *n_cols, unit, unit_bytes);
    if (spec->form == FACET_FORM_SIZES) *bytes = 0;
    return FACET_OK;
}

static facet_status check_entry(const checker *c, const facet_entry_spec *spec,
                                const facet_entry *e, facet_err *err)
{
    uint32_t n_layers = c->manifest->model.n_layers;
    if (spec->per_layer ? e->layer >= n_layers : e->layer != n_layers)
        return bad(c, e, "stands in the wrong layer", err);
    uint64_t n_rows = dimension(c, spec->rows, e->layer), n_cols = 0, bytes = 0;
    FACET_TRY(expected(c, spec, e, &n_cols, &bytes, err));
    if (e->n_rows != n_rows || e->n_cols != n_cols)
        return bad(c, e, "its rows or columns do not follow from the model", err);
    if (e->bytes != bytes) return bad(c, e, "its bytes do not follow from rows and columns", err);
    if (e->offset % FACET_ENTRY_ALIGN != 0) return bad(c, e, "its offset is not aligned", err);
    if (bytes > c->file_bytes || e->offset > c->file_bytes - bytes)
        return bad(c, e, "lies outside its file", err);
    return FACET_OK;
}

// Baked code has no place for a vector that the model lacks.
static facet_status check_shared(const checker *c, const facet_entry *e, facet_err *err)
{
    const facet_manifest *m = c->manifest;
    if (!c->family || !facet_manifest_own_vector(e->name)) return FACET_OK;
    if (facet_manifest_entry(m->entries, m->n_entries, e->layer, e->name)) return FACET_OK;
    return bad(c, e, "stands in for no vector of weights.bin", err);
}

// Marks which (layer, spec) were seen, so that none is there twice and no required one is missing.
static facet_status check_list(const checker *c, uint8_t *seen, facet_err *err)
{
    uint32_t n_layers = c->manifest->model.n_layers;
    for (uint32_t i = 0; i < c->n_entries; i++) {
        const facet_entry *e = &c->entries[i];
        const facet_entry_spec *spec = spec_find(c->specs, c->n_specs, e->name);
        if (spec == NULL) return bad(c, e, "no such entry exists", err);
        FACET_TRY(check_entry(c, spec, e, err));
        FACET_TRY(check_shared(c, e, err));
        uint8_t *mark = &seen[(size_t)e->layer * c->n_specs + (size_t)(spec - c->specs)];
        if (*mark) return bad(c, e, "is there twice", err);
        *mark = 1;
    }
    for (uint32_t layer = 0; layer <= n_layers; layer++) {
        for (uint32_t s = 0; s < c->n_specs; s++) {
            if (!c->specs[s].required || c->specs[s].per_layer == (layer == n_layers)) continue;
            if (seen[(size_t)layer * c->n_specs + s]) continue;
            facet_entry missing = {.layer = layer};
            memcpy(missing.name, c->specs[s].name, strlen(c->specs[s].name));
            return bad(c, &missing, "is missing", err);
        }
    }
    return FACET_OK;
}

facet_status facet_manifest_check_entries(const facet_manifest *manifest,
                                          const facet_manifest_family *family, uint64_t file_bytes,
                                          const char *file, facet_err *err)
{
    checker c = {.manifest = manifest,
                 .family = family,
                 .specs = family ? facet_family_specs : facet_weight_specs,
                 .n_specs = family ? facet_family_spec_count : facet_weight_spec_count,
                 .entries = family ? family->entries : manifest->entries,
                 .n_entries = family ? family->n_entries : manifest->n_entries,
                 .file_bytes = file_bytes,
                 .file = file};
    size_t n = (size_t)(manifest->model.n_layers + 1) * c.n_specs;
    uint8_t *seen = facet_mem_new(manifest->arena.alloc, n, 1);
    if (seen == NULL) return facet_fail_memory(err, n);
    facet_status status = check_list(&c, seen, err);
    facet_mem_free(manifest->arena.alloc, seen);
    return status;
}
