// SPDX-License-Identifier: Apache-2.0
#include "tests/support/plans.h"

static const facet_shape shapes[] = {
    [TEST_SHAPE_PACKS] = {.n_layers = PLANS_LAYERS,
                          .d_model = 256,
                          .d_ff = 300,
                          .n_heads = 4,
                          .n_kv_heads = 2,
                          .head_dim = 64,
                          .n_vocab = 100,
                          .rope_dims = 64,
                          .rope_style = FACET_ROPE_NEOX,
                          .act = FACET_ACT_SILU,
                          .rms_eps = 1e-6f,
                          .attn_scale = 0.125f},
    [TEST_SHAPE_TINY] = {.n_layers = 5,
                         .d_model = 64,
                         .d_ff = 172,
                         .n_heads = 4,
                         .n_kv_heads = 2,
                         .head_dim = 16,
                         .n_vocab = 512,
                         .rope_dims = 16,
                         .rope_style = FACET_ROPE_NORMAL,
                         .act = FACET_ACT_SILU,
                         .rms_eps = 1e-5f,
                         .attn_scale = 0.25f},
    [TEST_SHAPE_UNEVEN] = {.n_layers = 4,
                           .d_model = 72,
                           .d_ff = 50,
                           .n_heads = 6,
                           .n_kv_heads = 3,
                           .head_dim = 24,
                           .n_vocab = 37,
                           .rope_dims = 6,
                           .rope_style = FACET_ROPE_NORMAL,
                           .act = FACET_ACT_GELU_TANH,
                           .rms_eps = 1e-6f,
                           .attn_scale = 0.3f},
};

static uint32_t all_tiles(const facet_shape *s)
{
    return (s->d_ff + FACET_TILE - 1) / FACET_TILE;
}

// A permutation of the channels over the positions of all tiles; the others hold none.
static void fill_order(uint32_t *order, const facet_shape *s, facet_random *random)
{
    const uint32_t n = all_tiles(s) * FACET_TILE;
    for (uint32_t i = 0; i < n; i++)
        order[i] = i < s->d_ff ? i : UINT32_MAX;
    for (uint32_t i = s->d_ff; i > 1; i--) {
        const uint32_t k = (uint32_t)facet_random_below(random, i);
        const uint32_t swap = order[i - 1];
        order[i - 1] = order[k];
        order[k] = swap;
    }
}

static uint32_t fill_tiles(uint32_t *tiles, uint32_t layer, uint32_t all, facet_random *random)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < all; i++) {
        const bool half = facet_random_below(random, 2) == 1;
        const bool keep[] = {true, i == 2 % all, i == all - 1, false, half};
        if (keep[layer < 4 ? layer : 4]) tiles[n++] = i;
    }
    return n;
}

static facet_mat mat(facet_pack pack, uint32_t rows, uint32_t cols)
{
    const uint32_t unit = facet_pack_cols(pack);
    return (facet_mat){.pack = pack, .n_rows = rows, .n_cols = (cols + unit - 1) / unit * unit};
}

static const float present[1];
static const float *when(bool there)
{
    return there ? present : NULL;
}

static facet_layer checked_layer(const facet_shape *s, const facet_plan_layer *l)
{
    const uint32_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    return (facet_layer){.q = mat(l->q, q, s->d_model),
                         .k = mat(l->k, kv, s->d_model),
                         .v = mat(l->v, kv, s->d_model),
                         .o = mat(l->o, s->d_model, q),
                         .gate = mat(l->gate, s->d_ff, s->d_model),
                         .up = mat(l->up, s->d_ff, s->d_model),
                         .down = {.pack = l->down, .n_rows = s->d_model, .n_cols = l->down_cols},
                         .q_bias = when(l->q_bias),
                         .k_bias = when(l->k_bias),
                         .v_bias = when(l->v_bias),
                         .o_bias = when(l->o_bias),
                         .q_norm = when(l->q_norm),
                         .k_norm = when(l->k_norm),
                         .attn_norm = present,
                         .ffn_norm = present,
                         .attn_post = when(l->attn_post),
                         .ffn_post = when(l->ffn_post),
                         .down_bias = when(l->down_bias),
                         .tiles = l->tiles,
                         .n_tiles = l->n_tiles,
                         .perm = l->perm,
                         .window = l->window,
                         .rope = l->rope};
}

// Which packing a matrix of a layer gets: each layer another, or one of the float types.
static facet_pack choose(test_shape shape, uint32_t n)
{
    if (shape == TEST_SHAPE_PACKS) return (facet_pack)(n % FACET_PACK_COUNT);
    return shape == TEST_SHAPE_TINY ? FACET_PACK_F32 : (facet_pack)(n % 3);
}

static void fill_layer(test_plan *p, test_shape shape, uint32_t i, facet_random *random)
{
    const facet_shape *s = &p->plan.shape;
    facet_plan_layer *l = &p->layers[i];
    const bool dense = p->plan.dense;
    *l = (facet_plan_layer){.q = choose(shape, i),
                            .k = choose(shape, i + 1),
                            .v = choose(shape, i + 5),
                            .o = choose(shape, i + 7),
                            .gate = choose(shape, i),
                            .up = choose(shape, i + 3),
                            .q_bias = i % 2 == 0,
                            .k_bias = i % 3 == 0,
                            .v_bias = i % 2 == 1,
                            .o_bias = i % 4 == 1,
                            .q_norm = i % 3 == 1,
                            .k_norm = i % 3 == 2,
                            .attn_post = i % 4 == 2,
                            .ffn_post = i % 4 == 3,
                            .down_bias = i % 2 == 0,
                            .window = i % 3 == 1 ? 20 : 0,
                            .rope = i % 2};
    const uint32_t all = all_tiles(s);
    l->n_tiles = fill_tiles(p->tiles[i], dense ? 0 : i, all, random);
    l->tiles = p->tiles[i];
    fill_order(p->order[i], s, random);
    l->perm = dense ? p->order[i] : NULL;
    // Families requantise to units of 32 columns at most; dense has the source's own type.
    l->down = choose(shape, dense ? i : i % FACET_PACK_Q4_K);
    const uint32_t unit = facet_pack_cols(l->down),
                   cols = dense ? s->d_ff : l->n_tiles * FACET_TILE;
    l->down_cols = (cols + unit - 1) / unit * unit;
    p->checked[i] = checked_layer(s, l);
}

void test_plan_init(test_plan *p, test_shape shape, const char *target, bool dense, uint64_t seed)
{
    facet_random random = facet_random_seed(seed);
    *p = (test_plan){.plan = {.shape = shapes[shape], .target = target, .dense = dense}};
    p->plan.layers = p->layers;
    p->plan.head = choose(shape, FACET_PACK_Q8_0);
    for (uint32_t i = 0; i < p->plan.shape.n_layers; i++)
        fill_layer(p, shape, i, &random);
    p->head = mat(p->plan.head, p->plan.shape.n_vocab, p->plan.shape.d_model);
}
