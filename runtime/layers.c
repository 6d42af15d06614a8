// SPDX-License-Identifier: Apache-2.0
// From manifest entries to what kernels read: the shape, and for every family its layers. The
// manifest was checked (names, sizes, offsets); what it cannot know is checked here: columns
// against the activations' width, and the permutation, which lies in a file that is not summed at
// open.
#include <stddef.h>
#include <string.h>

#include "kernels/reference.h"
#include "runtime/bundle.h"

static facet_status damaged(const facet_bundle *bundle, const facet_entry *entry, const char *what,
                            facet_err *err)
{
    return facet_fail_at(err, FACET_BAD_FILE, bundle->path, (int64_t)entry->offset,
                         "%s: entry %s of layer %u %s; build the bundle again", bundle->path,
                         entry->name, entry->layer, what);
}

static uint32_t pack_of(const char *name)
{
    static const char *const names[FACET_PACK_COUNT] = {
        [FACET_PACK_F32] = "F32",   [FACET_PACK_F16] = "F16",   [FACET_PACK_BF16] = "BF16",
        [FACET_PACK_Q4_0] = "Q4_0", [FACET_PACK_Q4_1] = "Q4_1", [FACET_PACK_Q5_0] = "Q5_0",
        [FACET_PACK_Q5_1] = "Q5_1", [FACET_PACK_Q6_0] = "Q6_0", [FACET_PACK_Q8_0] = "Q8_0",
        [FACET_PACK_Q4_K] = "Q4_K", [FACET_PACK_Q5_K] = "Q5_K", [FACET_PACK_Q6_K] = "Q6_K",
    };
    for (uint32_t i = 0; i < FACET_PACK_COUNT; i++) {
        if (strcmp(names[i], name) == 0) return i;
    }
    return FACET_PACK_COUNT;
}

// A list of entries and the mapping they lie in.
typedef struct source {
    const facet_bundle *bundle;
    const facet_entry *entries;
    uint32_t n_entries;
    const uint8_t *data;
} source;

static const facet_entry *find(const source *from, uint32_t layer, const char *name)
{
    return facet_manifest_entry(from->entries, from->n_entries, layer, name);
}

// The matrix of an entry, which may be one that has sizes only. `width`: columns of the activations
// it is multiplied with, rounded up to 32.
static facet_status get_mat(const source *from, uint32_t layer, const char *name, uint32_t width,
                            facet_mat *mat, facet_err *err)
{
    const facet_entry *entry = find(from, layer, name);
    if (!entry)
        return facet_fail_at(err, FACET_BAD_FILE, from->bundle->path, -1,
                             "%s: layer %u has no %s; build the bundle again", from->bundle->path,
                             layer, name);
    const uint32_t pack = pack_of(entry->pack);
    if (pack == FACET_PACK_COUNT)
        return damaged(from->bundle, entry, "has an unknown packing", err);
    if (entry->n_cols > width)
        return damaged(from->bundle, entry, "is wider than its activations", err);
    *mat = (facet_mat){entry->bytes ? from->data + entry->offset : NULL, pack, entry->n_rows,
                       entry->n_cols};
    return FACET_OK;
}

static const void *get_data(const source *from, uint32_t layer, const char *name)
{
    const facet_entry *entry = find(from, layer, name);
    return entry ? from->data + entry->offset : NULL;
}

// Every channel exactly once, the other positions UINT32_MAX: kernels write through it.
static facet_status check_perm(const facet_bundle *bundle, uint32_t layer, const uint32_t *perm,
                               uint8_t *seen, facet_err *err)
{
    const uint32_t d_ff = bundle->shape.d_ff, n = facet_round32(d_ff);
    uint32_t found = 0;
    memset(seen, 0, d_ff);
    for (uint32_t i = 0; i < n; i++) {
        if (perm[i] == UINT32_MAX) continue;
        if (perm[i] >= d_ff || seen[perm[i]]) {
            found = UINT32_MAX;
            break;
        }
        seen[perm[i]] = 1;
        found++;
    }
    if (found == d_ff) return FACET_OK;
    return facet_fail_at(err, FACET_BAD_FILE, bundle->path, -1,
                         "%s: the channel order of layer %u is no permutation; build the bundle "
                         "again",
                         bundle->path, layer);
}

static facet_status identity_perm(facet_bundle *bundle, const uint32_t **perm, facet_err *err)
{
    const uint32_t d_ff = bundle->shape.d_ff, n = facet_round32(d_ff);
    if (!bundle->perm) {
        bundle->perm = facet_mem_new(bundle->alloc, n, sizeof(uint32_t));
        if (!bundle->perm) return facet_fail_memory(err, n * sizeof(uint32_t));
        for (uint32_t i = 0; i < n; i++)
            bundle->perm[i] = i < d_ff ? i : UINT32_MAX;
    }
    *perm = bundle->perm;
    return FACET_OK;
}

// As facet_model_windowed of model/: every window_period-th layer attends to everything.
static bool windowed(const facet_manifest_model *m, uint32_t layer)
{
    return m->window != 0 && (m->window_period == 0 || (layer + 1) % m->window_period != 0);
}

static facet_status dense_layer(facet_bundle *bundle, const source *from, uint32_t layer,
                                facet_layer *out, facet_err *err)
{
    const facet_shape *shape = &bundle->shape;
    const facet_manifest_model *m = &bundle->manifest.model;
    const uint32_t d = facet_round32(shape->d_model);
    const uint32_t q = facet_round32(shape->n_heads * shape->head_dim);
    FACET_TRY(get_mat(from, layer, FACET_ENTRY_Q, d, &out->q, err));
    FACET_TRY(get_mat(from, layer, FACET_ENTRY_K, d, &out->k, err));
    FACET_TRY(get_mat(from, layer, FACET_ENTRY_V, d, &out->v, err));
    FACET_TRY(get_mat(from, layer, FACET_ENTRY_O, q, &out->o, err));
    FACET_TRY(get_mat(from, layer, FACET_ENTRY_GATE, d, &out->gate, err));
    FACET_TRY(get_mat(from, layer, FACET_ENTRY_UP, d, &out->up, err));
    FACET_TRY(get_mat(from, layer, FACET_ENTRY_DOWN, UINT32_MAX, &out->down, err));
    out->gate.data = out->up.data = NULL;
    out->gate_up = get_data(from, layer, FACET_ENTRY_GATE_UP);
    out->q_bias = get_data(from, layer, FACET_ENTRY_Q_BIAS);
    out->k_bias = get_data(from, layer, FACET_ENTRY_K_BIAS);
    out->v_bias = get_data(from, layer, FACET_ENTRY_V_BIAS);
    out->o_bias = get_data(from, layer, FACET_ENTRY_O_BIAS);
    out->q_norm = get_data(from, layer, FACET_ENTRY_Q_NORM);
    out->k_norm = get_data(from, layer, FACET_ENTRY_K_NORM);
    out->attn_norm = get_data(from, layer, FACET_ENTRY_ATTN_NORM);
    out->ffn_norm = get_data(from, layer, FACET_ENTRY_FFN_NORM);
    out->attn_post = get_data(from, layer, FACET_ENTRY_ATTN_POST);
    out->ffn_post = get_data(from, layer, FACET_ENTRY_FFN_POST);
    out->perm = get_data(from, layer, FACET_ENTRY_PERM);
    if (!out->perm) FACET_TRY(identity_perm(bundle, &out->perm, err));
    out->window = windowed(m, layer) ? m->window : 0;
    out->rope = windowed(m, layer) ? 1 : 0;
    return FACET_OK;
}

// Kept tiles of every layer, from the runs of the manifest.
static facet_status expand_tiles(facet_bundle *bundle, facet_family *family, facet_err *err)
{
    const uint32_t n_layers = bundle->shape.n_layers;
    size_t total = 0;
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        const uint32_t *runs = facet_manifest_runs(family->facts, layer);
        for (uint32_t r = 0; r < family->facts->n_runs[layer]; r++)
            total += runs[2 * r + 1];
    }
    family->tiles = facet_mem_new(bundle->alloc, total, sizeof(uint32_t));
    if (!family->tiles) return facet_fail_memory(err, total * sizeof(uint32_t));
    uint32_t *next = family->tiles;
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        const uint32_t *runs = facet_manifest_runs(family->facts, layer);
        facet_layer *out = &family->layers[layer];
        out->tiles = next;
        for (uint32_t r = 0; r < family->facts->n_runs[layer]; r++) {
            for (uint32_t i = 0; i < runs[2 * r + 1]; i++)
                *next++ = runs[2 * r] + i;
        }
        out->n_tiles = (uint32_t)(next - out->tiles);
    }
    return FACET_OK;
}

// The vectors that a family may have of its own, and where a layer points at them.
typedef struct vector_place {
    const char *name;
    size_t at; // of a const float * in facet_layer
} vector_place;

static const vector_place own_vectors[] = {
    {FACET_ENTRY_ATTN_NORM, offsetof(facet_layer, attn_norm)},
    {FACET_ENTRY_FFN_NORM, offsetof(facet_layer, ffn_norm)},
    {FACET_ENTRY_ATTN_POST, offsetof(facet_layer, attn_post)},
    {FACET_ENTRY_FFN_POST, offsetof(facet_layer, ffn_post)},
    {FACET_ENTRY_Q_BIAS, offsetof(facet_layer, q_bias)},
    {FACET_ENTRY_K_BIAS, offsetof(facet_layer, k_bias)},
    {FACET_ENTRY_V_BIAS, offsetof(facet_layer, v_bias)},
};

static void point_at_own(const source *own, uint32_t layer, facet_layer *out)
{
    for (size_t i = 0; i < FACET_COUNT_OF(own_vectors); i++) {
        const float *data = get_data(own, layer, own_vectors[i].name);
        if (data) memcpy((char *)out + own_vectors[i].at, &data, sizeof data);
    }
}

// A family reads what dense reads but for its own down projection, tiles and vectors.
static facet_status family_layers(facet_bundle *bundle, facet_family *family, facet_err *err)
{
    const facet_family *dense = &bundle->families[0];
    const source own = {bundle, family->facts->entries, family->facts->n_entries, family->map.data};
    for (uint32_t layer = 0; layer < bundle->shape.n_layers; layer++) {
        facet_layer *out = &family->layers[layer];
        *out = dense->layers[layer];
        out->perm = NULL;
        FACET_TRY(get_mat(&own, layer, FACET_ENTRY_DOWN, UINT32_MAX, &out->down, err));
        out->down_bias = get_data(&own, layer, FACET_ENTRY_DOWN_BIAS);
        point_at_own(&own, layer, out);
    }
    const float *out_norm = get_data(&own, bundle->shape.n_layers, FACET_ENTRY_OUT_NORM);
    family->out_norm = out_norm ? out_norm : dense->out_norm;
    return FACET_OK;
}

static facet_status check_perms(facet_bundle *bundle, facet_err *err)
{
    uint8_t *seen = facet_mem_new(bundle->alloc, bundle->shape.d_ff, 1);
    if (!seen) return facet_fail_memory(err, bundle->shape.d_ff);
    facet_status status = FACET_OK;
    for (uint32_t layer = 0; status == FACET_OK && layer < bundle->shape.n_layers; layer++)
        status = check_perm(bundle, layer, bundle->families[0].layers[layer].perm, seen, err);
    facet_mem_free(bundle->alloc, seen);
    return status;
}

static void get_shape(const facet_manifest_model *m, facet_shape *shape)
{
    *shape = (facet_shape){.n_layers = m->n_layers,
                           .d_model = m->d_model,
                           .d_ff = m->d_ff,
                           .n_heads = m->n_heads,
                           .n_kv_heads = m->n_kv_heads,
                           .head_dim = m->head_dim,
                           .n_vocab = m->n_vocab,
                           .rope_dims = m->rope_dims,
                           .rope_style = m->rope_style,
                           .act = m->act,
                           .rms_eps = (float)m->rms_eps,
                           .attn_scale = (float)m->attn_scale};
}

facet_status facet_bundle_layers(facet_bundle *bundle, facet_err *err)
{
    const facet_manifest *manifest = &bundle->manifest;
    const uint32_t n_layers = manifest->model.n_layers;
    const source shared = {bundle, manifest->entries, manifest->n_entries, bundle->weights.data};
    get_shape(&manifest->model, &bundle->shape);
    const uint32_t width = facet_round32(bundle->shape.d_model);
    FACET_TRY(get_mat(&shared, n_layers, FACET_ENTRY_TOKEN_EMBD, width, &bundle->embed, err));
    bundle->head = bundle->embed;
    if (find(&shared, n_layers, FACET_ENTRY_HEAD))
        FACET_TRY(get_mat(&shared, n_layers, FACET_ENTRY_HEAD, width, &bundle->head, err));
    bundle->families[0].out_norm = get_data(&shared, n_layers, FACET_ENTRY_OUT_NORM);
    bundle->rope_factors = get_data(&shared, n_layers, FACET_ENTRY_ROPE_FACTORS);
    for (uint32_t i = 0; i < manifest->n_families; i++) {
        facet_family *family = &bundle->families[i];
        family->layers = facet_mem_new(bundle->alloc, n_layers, sizeof(facet_layer));
        if (!family->layers) return facet_fail_memory(err, n_layers * sizeof(facet_layer));
        for (uint32_t layer = 0; i == 0 && layer < n_layers; layer++)
            FACET_TRY(dense_layer(bundle, &shared, layer, &family->layers[layer], err));
        if (i > 0) FACET_TRY(family_layers(bundle, family, err));
        FACET_TRY(expand_tiles(bundle, family, err));
        for (uint32_t layer = 0; layer < n_layers; layer++) {
            const uint32_t cols = facet_round32(family->layers[layer].down.n_cols);
            if (cols > bundle->max_down_cols) bundle->max_down_cols = cols;
        }
    }
    return check_perms(bundle, err);
}
