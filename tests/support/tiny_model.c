// SPDX-License-Identifier: Apache-2.0
// Random weights of chosen types.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/random.h"
#include "tests/support/tiny.h"

const char *const tiny_family_names[TINY_FAMILIES] = {"dense", "all", "some", "one"};

const tiny_opts tiny_plain = {
    .seed = 1,
    .n_layers = 3,
    .d_model = 40,
    .d_ff = 172,
    .n_heads = 6,
    .n_kv_heads = 3,
    .head_dim = 8,
    .n_ctx = 160,
    .rope_style = FACET_ROPE_NORMAL,
    .rope_dims = 8,
    .act = FACET_ACT_SILU,
    .rope_scale = 1.0,
    .embed_scale = 1.0,
    .attn = FACET_DTYPE_F32,
    .gate = FACET_DTYPE_F32,
    .up = FACET_DTYPE_F32,
    .down = FACET_DTYPE_F32,
    .embed = FACET_DTYPE_F32,
    .permuted = true,
    .family_down = FACET_PACK_F32,
};

const tiny_opts tiny_quantised = {
    .seed = 2,
    .n_layers = 4,
    .d_model = 256,
    .d_ff = 256,
    .n_heads = 4,
    .n_kv_heads = 2,
    .head_dim = 32,
    .n_ctx = 160,
    .rope_style = FACET_ROPE_NEOX,
    .rope_dims = 24,
    .act = FACET_ACT_GELU_TANH,
    .window = 20,
    .window_period = 3,
    .rope_scale = 2.0,
    .embed_scale = 16.0,
    .attn = FACET_DTYPE_Q5_K,
    .gate = FACET_DTYPE_Q4_K,
    .up = FACET_DTYPE_Q5_0,
    .down = FACET_DTYPE_Q6_K,
    .embed = FACET_DTYPE_Q8_0,
    .separate_head = true,
    .biases = true,
    .head_norms = true,
    .post_norms = true,
    .rope_factors = true,
    .permuted = true,
    .family_down = FACET_PACK_Q6_0,
};

static void *need(void *ptr)
{
    if (!ptr) abort();
    return ptr;
}

static uint16_t half_bits(double value)
{
    return facet_float_to_half((float)value);
}

static void put_half(uint8_t *at, double value)
{
    const uint16_t half = half_bits(value);
    memcpy(at, &half, 2);
}

// Random quants with scales such that values have about the given spread around zero.
static void random_block(facet_random *random, facet_dtype dtype, double spread, uint8_t *block)
{
    const uint32_t bytes = facet_dtype_bytes(dtype);
    for (uint32_t i = 0; i < bytes; i++)
        block[i] = (uint8_t)facet_random_u64(random);
    const float value = (float)(spread * facet_random_normal(random));
    const uint16_t half = half_bits(spread * facet_random_normal(random));
    uint32_t bits;
    memcpy(&bits, &value, 4);
    switch (dtype) {
    case FACET_DTYPE_F32:
        memcpy(block, &value, 4);
        break;
    case FACET_DTYPE_F16:
        memcpy(block, &half, 2);
        break;
    case FACET_DTYPE_BF16:
        memcpy(block, (uint8_t *)&bits + 2, 2);
        break;
    case FACET_DTYPE_Q4_0:
        put_half(block, spread / 4);
        break;
    case FACET_DTYPE_Q5_0:
        put_half(block, spread / 9);
        break;
    case FACET_DTYPE_Q8_0:
        put_half(block, spread / 72);
        break;
    case FACET_DTYPE_Q4_1:
        put_half(block, spread / 4);
        put_half(block + 2, -7.5 * spread / 4);
        break;
    case FACET_DTYPE_Q5_1:
        put_half(block, spread / 9);
        put_half(block + 2, -15.5 * spread / 9);
        break;
    case FACET_DTYPE_Q4_K:
        put_half(block, spread / (4 * 32));
        put_half(block + 2, 7.5 * spread / (4 * 32));
        break;
    case FACET_DTYPE_Q5_K:
        put_half(block, spread / (9 * 32));
        put_half(block + 2, 15.5 * spread / (9 * 32));
        break;
    case FACET_DTYPE_Q6_K:
        put_half(block + 208, spread / (18 * 70));
        break;
    default:
        abort();
    }
}

static tiny_mat random_mat(facet_random *random, facet_dtype dtype, uint32_t rows, uint32_t cols,
                           double spread)
{
    const size_t row_bytes = cols / facet_dtype_block(dtype) * facet_dtype_bytes(dtype);
    tiny_mat m = {dtype, rows, cols, need(malloc(rows * row_bytes)),
                  need(malloc((size_t)rows * cols * sizeof(float)))};
    for (size_t i = 0; i < rows * row_bytes / facet_dtype_bytes(dtype); i++)
        random_block(random, dtype, spread, m.data + i * facet_dtype_bytes(dtype));
    facet_dequantize(dtype, m.data, (uint64_t)rows * cols, m.values);
    return m;
}

static float *random_vector(facet_random *random, uint32_t n, double mean, double spread)
{
    float *v = need(malloc(n * sizeof *v));
    for (uint32_t i = 0; i < n; i++)
        v[i] = (float)(mean + spread * facet_random_normal(random));
    return v;
}

static uint32_t *random_perm(facet_random *random, uint32_t d_ff, uint32_t positions)
{
    uint32_t *perm = need(malloc(positions * sizeof *perm));
    for (uint32_t i = 0; i < positions; i++)
        perm[i] = i < d_ff ? i : UINT32_MAX;
    // Positions past d_ff stay at the end: a ragged last tile is kept or dropped whole.
    for (uint32_t i = d_ff; i-- > 1;) {
        const uint32_t j = (uint32_t)facet_random_below(random, i + 1), channel = perm[i];
        perm[i] = perm[j];
        perm[j] = channel;
    }
    return perm;
}

// Source blocks of a family's row: a refit would give any values, so quantised ones are random and
// `values` is what they mean; float types take the values that are there.
static void random_down_row(facet_random *random, facet_pack pack, uint32_t cols, float *values,
                            uint8_t *row)
{
    if (pack == FACET_PACK_F32) {
        memcpy(row, values, cols * sizeof(float));
        return;
    }
    for (uint32_t b = 0; b < cols / 32; b++) {
        facet_q6_0 six = {half_bits(0.004), {0}};
        uint8_t eight[34];
        put_half(eight, 0.001);
        for (uint32_t c = 0; c < 32; c++) {
            six.q[c] = (uint8_t)facet_random_below(random, 64);
            eight[2 + c] = (uint8_t)facet_random_u64(random);
        }
        if (pack == FACET_PACK_Q6_0) {
            memcpy(row + b * sizeof six, &six, sizeof six);
            for (uint32_t c = 0; c < 32; c++)
                values[32 * b + c] = facet_half_to_float(six.d) * (float)(six.q[c] - 32);
        } else {
            memcpy(row + b * sizeof eight, eight, sizeof eight);
            facet_dequantize(FACET_DTYPE_Q8_0, eight, 32, values + 32 * b);
        }
    }
}

// The kept columns of dense's down, in kept order.
static void gather_row(const tiny *t, const tiny_layer *l, uint32_t family, uint32_t row,
                       float *values)
{
    uint32_t at = 0;
    for (uint32_t p = 0; p < t->n_tiles * FACET_TILE; p++) {
        if (!t->kept[family][p / FACET_TILE]) continue;
        const uint32_t channel = l->perm ? l->perm[p] : p;
        values[at++] =
            channel < t->opts.d_ff ? l->down.values[(size_t)row * l->down.cols + channel] : 0.0f;
    }
}

static void random_down(facet_random *random, const tiny *t, tiny_layer *l, uint32_t family)
{
    const uint32_t d = t->opts.d_model, groups = (d + 15) / 16;
    tiny_down *down = &l->own[family];
    down->pack = t->opts.family_down;
    for (uint32_t i = 0; i < t->n_tiles; i++)
        down->cols += t->kept[family][i] ? FACET_TILE : 0;
    down->values = need(calloc((size_t)d * down->cols, sizeof(float)));
    const size_t row_bytes = (size_t)down->cols * sizeof(float); // no type needs more
    uint8_t *rows = need(calloc(d, row_bytes));
    for (uint32_t r = 0; r < d; r++) {
        float *values = down->values + (size_t)r * down->cols;
        gather_row(t, l, family, r, values);
        random_down_row(random, down->pack, down->cols, values, rows + r * row_bytes);
    }
    facet_pack_size(down->pack, d, down->cols, &down->packed_bytes);
    down->packed = need(malloc(down->packed_bytes));
    for (uint32_t g = 0; g < groups; g++) {
        const void *group[16] = {NULL};
        for (uint32_t r = 0; r < 16 && 16 * g + r < d; r++)
            group[r] = rows + (16 * g + r) * row_bytes;
        facet_pack_group(down->pack, group, down->cols,
                         down->packed + g * (down->packed_bytes / groups));
    }
    free(rows);
    if (family == 2) down->bias = random_vector(random, d, 0.0, 0.05);
}

static void random_layer(facet_random *random, const tiny *t, tiny_layer *l)
{
    const tiny_opts *o = &t->opts;
    const uint32_t d = o->d_model, q = o->n_heads * o->head_dim, kv = o->n_kv_heads * o->head_dim;
    const double in = 1.0 / sqrt(d), out = 0.5 / sqrt(o->d_ff);
    l->q = random_mat(random, o->attn, q, d, in);
    l->k = random_mat(random, o->attn, kv, d, in);
    l->v = random_mat(random, o->attn, kv, d, in);
    // Rows of o have q columns, which only some shapes make a multiple of 256.
    l->o =
        random_mat(random, q % facet_dtype_block(o->attn) ? FACET_DTYPE_Q4_1 : o->attn, d, q, in);
    l->gate = random_mat(random, o->gate, o->d_ff, d, in);
    l->up = random_mat(random, o->up, o->d_ff, d, in);
    l->down = random_mat(random, o->down, d, o->d_ff, out);
    float **shared = l->vectors[0];
    shared[TINY_ATTN_NORM] = random_vector(random, d, 1.0, 0.2);
    shared[TINY_FFN_NORM] = random_vector(random, d, 1.0, 0.2);
    if (o->biases) {
        shared[TINY_Q_BIAS] = random_vector(random, q, 0.0, 0.3);
        shared[TINY_K_BIAS] = random_vector(random, kv, 0.0, 0.3);
        shared[TINY_V_BIAS] = random_vector(random, kv, 0.0, 0.3);
        l->o_bias = random_vector(random, d, 0.0, 0.1);
    }
    if (o->head_norms) {
        l->q_norm = random_vector(random, o->head_dim, 1.0, 0.2);
        l->k_norm = random_vector(random, o->head_dim, 1.0, 0.2);
    }
    if (o->post_norms) {
        shared[TINY_ATTN_POST] = random_vector(random, d, 0.5, 0.1);
        shared[TINY_FFN_POST] = random_vector(random, d, 0.5, 0.1);
    }
    if (o->permuted) l->perm = random_perm(random, o->d_ff, t->n_tiles * FACET_TILE);
    for (uint32_t f = 1; f < TINY_FAMILIES; f++)
        random_down(random, t, l, f);
}

// A vector like `shared`, but another.
static float *changed_vector(facet_random *random, const float *shared, uint32_t n)
{
    float *v = need(malloc(n * sizeof *v));
    for (uint32_t i = 0; i < n; i++)
        v[i] = shared[i] + (float)(0.1 * facet_random_normal(random));
    return v;
}

// With random numbers of their own, so that everything else is what it would be without.
static void own_vectors(tiny *t)
{
    facet_random random = facet_random_seed(t->opts.seed + 1000);
    for (uint32_t i = 0; i < t->opts.n_layers; i++)
        for (uint32_t v = 0; v < TINY_VECTORS; v++) {
            float **vectors = t->layers[i].vectors[2];
            const float *shared = t->layers[i].vectors[0][v];
            if (shared) vectors[v] = changed_vector(&random, shared, tiny_vector_size(&t->opts, v));
        }
    for (uint32_t family = 2; family < TINY_FAMILIES; family++)
        t->out_norm[family] = changed_vector(&random, t->out_norm[0], t->opts.d_model);
}

const char *tiny_vector_name(tiny_vector vector)
{
    static const char *const names[TINY_VECTORS] = {"attn_norm", "ffn_norm",  "q_bias",  "k_bias",
                                                    "v_bias",    "attn_post", "ffn_post"};
    return names[vector];
}

uint32_t tiny_vector_size(const tiny_opts *o, tiny_vector vector)
{
    if (vector == TINY_Q_BIAS) return o->n_heads * o->head_dim;
    return vector == TINY_K_BIAS || vector == TINY_V_BIAS ? o->n_kv_heads * o->head_dim
                                                          : o->d_model;
}

const float *tiny_vector_of(const tiny_layer *layer, uint32_t family, tiny_vector vector)
{
    const float *own = layer->vectors[family][vector];
    return own ? own : layer->vectors[0][vector];
}

tiny *tiny_new(const tiny_opts *opts)
{
    facet_random random = facet_random_seed(opts->seed);
    tiny *t = need(calloc(1, sizeof *t));
    t->opts = *opts;
    t->n_vocab = 300;
    t->n_tiles = (opts->d_ff + FACET_TILE - 1) / FACET_TILE;
    for (uint32_t i = 0; i < t->n_tiles; i++) {
        t->kept[0][i] = t->kept[1][i] = 1;
        t->kept[2][i] = i % 2 == 0;
        t->kept[3][i] = i + 1 == t->n_tiles;
    }
    const double spread = 1.0 / opts->embed_scale;
    t->embed = random_mat(&random, opts->embed, t->n_vocab, opts->d_model, spread);
    if (opts->separate_head)
        t->head = random_mat(&random, opts->attn, t->n_vocab, opts->d_model, 0.2);
    t->out_norm[0] = random_vector(&random, opts->d_model, 1.0, 0.2);
    if (opts->rope_factors) t->rope_factors = random_vector(&random, opts->rope_dims / 2, 2.0, 0.2);
    t->layers = need(calloc(opts->n_layers, sizeof *t->layers));
    for (uint32_t i = 0; i < opts->n_layers; i++)
        random_layer(&random, t, &t->layers[i]);
    own_vectors(t);
    return t;
}

static void free_mat(tiny_mat *m)
{
    free(m->data);
    free(m->values);
}

void tiny_free(tiny *t)
{
    if (!t) return;
    for (uint32_t i = 0; i < t->opts.n_layers; i++) {
        tiny_layer *l = &t->layers[i];
        tiny_mat *mats[] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
        for (size_t m = 0; m < FACET_COUNT_OF(mats); m++)
            free_mat(mats[m]);
        for (size_t v = 0; v < (size_t)TINY_FAMILIES * TINY_VECTORS; v++)
            free(l->vectors[v / TINY_VECTORS][v % TINY_VECTORS]);
        free(l->o_bias);
        free(l->q_norm);
        free(l->k_norm);
        for (uint32_t f = 1; f < TINY_FAMILIES; f++) {
            free(l->own[f].packed);
            free(l->own[f].values);
            free(l->own[f].bias);
        }
        free(l->perm);
    }
    free(t->layers);
    free_mat(&t->embed);
    free_mat(&t->head);
    for (uint32_t f = 0; f < TINY_FAMILIES; f++)
        free(t->out_norm[f]);
    free(t->rope_factors);
    free(t);
}

void tiny_dir(char *path, size_t capacity)
{
    const char *parent = getenv("TMPDIR");
    if (facet_dir_temp(parent ? parent : "/tmp", "facet-test", path, capacity, NULL)) abort();
}

void tiny_remove(const char *path)
{
    if (facet_dir_remove(path, NULL)) abort();
}
