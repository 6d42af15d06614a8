// SPDX-License-Identifier: Apache-2.0
// The stages of kernels/abi.h, one prologue and one body each, in stage order. Sums run in double
// and are rounded once, so that this is the more exact side of every comparison.
#include "kernels/reference.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "kernels/dot.h"
#include "kernels/unpack.h"

static uint32_t round32(uint32_t n)
{
    return (n + 31u) & ~31u;
}

static uint32_t q_dim(const facet_step *step)
{
    return step->shape->n_heads * step->shape->head_dim;
}

static facet_dot_input lane_input(const facet_lane *lane, uint32_t cols)
{
    return (facet_dot_input){lane->xn, lane->aq, lane->as, lane->asum, round32(cols)};
}

// ---- prologues ----------------------------------------------------------------------------------

static float rms_inverse(const float *x, uint32_t n, float eps)
{
    double sum = 0.0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return (float)(1.0 / sqrt(sum / n + (double)eps));
}

// The end of every prologue: zeros past the real columns of row t of xn, then its quantised form.
static void finish_row(const facet_lane *lane, uint32_t t, uint32_t cols, int quantised)
{
    const uint32_t stride = round32(cols);
    float *xn = lane->xn + (uint64_t)t * stride;
    for (uint32_t c = cols; c < stride; c++)
        xn[c] = 0.0f;
    if (!quantised) return;
    const uint64_t first = (uint64_t)t * (stride / FACET_BLOCK);
    facet_quantize_row(xn, stride, lane->aq + first * FACET_BLOCK, lane->as + 2 * first,
                       lane->asum + 2 * first);
}

typedef struct enter_facts {
    int add;           // add y to x first
    const float *post; // norm gain of y, or NULL
    const float *gain; // norm gain of x
    int quantised;
} enter_facts;

// x += y (normed by `post`); xn = norm(x) * gain.
static void enter(const facet_step *step, const facet_lane *lane, facet_range range,
                  const enter_facts *facts)
{
    const uint32_t d = step->shape->d_model;
    const float eps = step->shape->rms_eps;
    for (uint32_t t = range.begin; t < range.end; t += range.stride) {
        float *x = lane->x + (uint64_t)t * round32(d);
        float *xn = lane->xn + (uint64_t)t * round32(d);
        const float *y = step->y + (uint64_t)t * d;
        if (facts->add) {
            const float inverse = facts->post ? rms_inverse(y, d, eps) : 1.0f;
            for (uint32_t i = 0; i < d; i++)
                x[i] += facts->post ? y[i] * inverse * facts->post[i] : y[i];
        }
        const float inverse = rms_inverse(x, d, eps);
        for (uint32_t i = 0; i < d; i++)
            xn[i] = x[i] * inverse * facts->gain[i];
        finish_row(lane, t, d, facts->quantised);
    }
}

static void qkv_prologue(const facet_step *step, uint32_t layer, const facet_lane *lane,
                         facet_range range)
{
    const facet_layer *l = &step->layers[layer];
    enter(step, lane, range,
          &(enter_facts){.add = layer > 0,
                         .post = layer > 0 ? step->layers[layer - 1].ffn_post : NULL,
                         .gain = l->attn_norm,
                         .quantised = facet_pack_quantised(l->q.pack) ||
                                      facet_pack_quantised(l->k.pack) ||
                                      facet_pack_quantised(l->v.pack)});
}

static void out_prologue(const facet_step *step, uint32_t layer, const facet_lane *lane,
                         facet_range range)
{
    const uint32_t cols = q_dim(step);
    for (uint32_t t = range.begin; t < range.end; t += range.stride) {
        memcpy(lane->xn + (uint64_t)t * round32(cols), step->attn + (uint64_t)t * cols,
               cols * sizeof(float));
        finish_row(lane, t, cols, facet_pack_quantised(step->layers[layer].o.pack));
    }
}

static void ffn_in_prologue(const facet_step *step, uint32_t layer, const facet_lane *lane,
                            facet_range range)
{
    const facet_layer *l = &step->layers[layer];
    enter(step, lane, range,
          &(enter_facts){.add = 1,
                         .post = l->attn_post,
                         .gain = l->ffn_norm,
                         .quantised = facet_pack_quantised(l->gate.pack) ||
                                      facet_pack_quantised(l->up.pack)});
}

// Dense only: a family's z is already in the form that its DOWN reads.
static void down_prologue(const facet_step *step, uint32_t layer, const facet_lane *lane,
                          facet_range range)
{
    const facet_layer *l = &step->layers[layer];
    if (!l->perm) return;
    const uint32_t cols = l->down.n_cols, stride = round32(cols), d_ff = step->shape->d_ff;
    for (uint32_t t = range.begin; t < range.end; t += range.stride) {
        // Columns past d_ff are padding that FFN_IN never writes.
        float *xn = lane->xn + (uint64_t)t * stride;
        memset(xn, 0, stride * sizeof(float));
        memcpy(xn, step->z + (uint64_t)t * stride, d_ff * sizeof(float));
        finish_row(lane, t, cols, facet_pack_quantised(l->down.pack));
    }
}

static void head_prologue(const facet_step *step, uint32_t layer, const facet_lane *lane,
                          facet_range range)
{
    enter(step, lane, range,
          &(enter_facts){.add = layer > 0,
                         .post = layer > 0 ? step->layers[layer - 1].ffn_post : NULL,
                         .gain = step->out_norm,
                         .quantised = facet_pack_quantised(step->head.pack)});
}

// ---- QKV ----------------------------------------------------------------------------------------

// Bias, the head's own norm and rope, in that order. x: (head_dim); cs: (rope_dims / 2, 2) or NULL.
static void finish_head(const facet_shape *shape, float *x, const float *bias, const float *norm,
                        const float *cs)
{
    const uint32_t n = shape->head_dim, half = shape->rope_dims / 2;
    for (uint32_t i = 0; bias && i < n; i++)
        x[i] += bias[i];
    if (norm) {
        const float inverse = rms_inverse(x, n, shape->rms_eps);
        for (uint32_t i = 0; i < n; i++)
            x[i] = x[i] * inverse * norm[i];
    }
    if (!cs || shape->rope_style == FACET_ROPE_NONE) return;
    const int neox = shape->rope_style == FACET_ROPE_NEOX;
    for (uint32_t i = 0; i < half; i++) {
        float *a = &x[neox ? i : 2 * i], *b = &x[neox ? i + half : 2 * i + 1];
        const float c = cs[2 * i], s = cs[2 * i + 1], a0 = *a, b0 = *b;
        *a = a0 * c - b0 * s;
        *b = a0 * s + b0 * c;
    }
}

static const float *rope_row(const facet_step *step, const facet_layer *l, uint32_t t)
{
    return step->rope[l->rope] + (uint64_t)t * (step->shape->rope_dims / 2) * 2;
}

static void query_head(const facet_step *step, const facet_layer *l, const facet_dot_input *in,
                       uint32_t head)
{
    const uint32_t n = step->shape->head_dim, stride = q_dim(step);
    float *q = step->q + head * n;
    facet_dot_rows(&l->q, (facet_rows){head * n, (head + 1) * n}, in, 0, step->n_tokens, q, stride);
    for (uint32_t t = 0; t < step->n_tokens; t++)
        finish_head(step->shape, q + (uint64_t)t * stride, l->q_bias ? l->q_bias + head * n : NULL,
                    l->q_norm, rope_row(step, l, t));
}

typedef struct cache_head {
    const facet_mat *mat;
    const float *bias, *norm;
    uint32_t layer, head; // kv head
    int is_key;
} cache_head;

static void store_head(const facet_step *step, const cache_head *h, uint32_t t, const float *x)
{
    const facet_shape *shape = step->shape;
    const facet_kv *kv = &step->kv[t];
    const uint64_t row =
        ((uint64_t)h->layer * shape->n_kv_heads + h->head) * kv->n_ctx + step->pos[t];
    uint16_t *dst = (h->is_key ? kv->k : kv->v) + row * shape->head_dim;
    for (uint32_t i = 0; i < shape->head_dim; i++)
        dst[i] = facet_f32_to_f16(x[i]);
}

// A key or value head of every token, through the thread's scratch, which holds at least one.
static void key_value_head(const facet_step *step, const facet_lane *lane,
                           const facet_dot_input *in, const cache_head *h)
{
    const uint32_t n = step->shape->head_dim;
    const uint32_t room = (step->kv[0].n_ctx + n) / n;
    const uint32_t chunk = room < FACET_DOT_TOKENS ? room : FACET_DOT_TOKENS;
    const facet_layer *l = &step->layers[h->layer];
    for (uint32_t first = 0; first < step->n_tokens; first += chunk) {
        const uint32_t left = step->n_tokens - first, count = left < chunk ? left : chunk;
        facet_dot_rows(h->mat, (facet_rows){h->head * n, (h->head + 1) * n}, in, first, count,
                       lane->scratch, n);
        for (uint32_t t = 0; t < count; t++) {
            float *x = lane->scratch + (uint64_t)t * n;
            finish_head(step->shape, x, h->bias ? h->bias + h->head * n : NULL, h->norm,
                        h->is_key ? rope_row(step, l, first + t) : NULL);
            store_head(step, h, first + t, x);
        }
    }
}

static void qkv_body(const facet_step *step, uint32_t layer, const facet_lane *lane,
                     facet_range range)
{
    const facet_layer *l = &step->layers[layer];
    const uint32_t n_heads = step->shape->n_heads, n_kv = step->shape->n_kv_heads;
    const facet_dot_input in = lane_input(lane, step->shape->d_model);
    for (uint32_t u = range.begin; u < range.end; u += range.stride) {
        if (u < n_heads) {
            query_head(step, l, &in, u);
        } else if (u < n_heads + n_kv) {
            const cache_head key = {&l->k, l->k_bias, l->k_norm, layer, u - n_heads, 1};
            key_value_head(step, lane, &in, &key);
        } else {
            const cache_head value = {&l->v, l->v_bias, NULL, layer, u - n_heads - n_kv, 0};
            key_value_head(step, lane, &in, &value);
        }
    }
}

// ---- ATTN ---------------------------------------------------------------------------------------

// Scores of positions first .. pos into `scores`, as weights that sum to one.
static void attend_weights(const facet_shape *shape, const float *q, const uint16_t *keys,
                           uint32_t count, float *scores)
{
    float max = -INFINITY;
    for (uint32_t p = 0; p < count; p++) {
        const uint16_t *key = keys + (uint64_t)p * shape->head_dim;
        double dot = 0.0;
        for (uint32_t i = 0; i < shape->head_dim; i++)
            dot += (double)q[i] * (double)facet_f16_to_f32(key[i]);
        scores[p] = (float)dot * shape->attn_scale;
        if (scores[p] > max) max = scores[p];
    }
    double sum = 0.0;
    for (uint32_t p = 0; p < count; p++) {
        scores[p] = expf(scores[p] - max);
        sum += (double)scores[p];
    }
    for (uint32_t p = 0; p < count; p++)
        scores[p] = (float)((double)scores[p] / sum);
}

static void attend_values(const facet_shape *shape, const float *weights, const uint16_t *values,
                          uint32_t count, float *out)
{
    enum { LANES = 32 };
    for (uint32_t first = 0; first < shape->head_dim; first += LANES) {
        const uint32_t left = shape->head_dim - first, n = left < LANES ? left : LANES;
        double sum[LANES] = {0.0};
        for (uint32_t p = 0; p < count; p++) {
            const uint16_t *value = values + (uint64_t)p * shape->head_dim + first;
            for (uint32_t i = 0; i < n; i++)
                sum[i] += (double)weights[p] * (double)facet_f16_to_f32(value[i]);
        }
        for (uint32_t i = 0; i < n; i++)
            out[first + i] = (float)sum[i];
    }
}

static void attn_body(const facet_step *step, uint32_t layer, const facet_lane *lane,
                      facet_range range)
{
    const facet_shape *shape = step->shape;
    const uint32_t window = step->layers[layer].window, n = shape->head_dim;
    for (uint32_t u = range.begin; u < range.end; u += range.stride) {
        const uint32_t t = u / shape->n_heads, head = u % shape->n_heads;
        const facet_kv *kv = &step->kv[t];
        const uint32_t end = step->pos[t] + 1;
        const uint32_t first = window != 0 && end > window ? end - window : 0;
        const uint32_t kv_head = head / (shape->n_heads / shape->n_kv_heads);
        const uint64_t base =
            (((uint64_t)layer * shape->n_kv_heads + kv_head) * kv->n_ctx + first) * n;
        const uint64_t row = (uint64_t)t * q_dim(step) + (uint64_t)head * n;
        attend_weights(shape, step->q + row, kv->k + base, end - first, lane->scratch);
        attend_values(shape, lane->scratch, kv->v + base, end - first, step->attn + row);
    }
}

// ---- OUT, DOWN, HEAD ----------------------------------------------------------------------------

// Groups of 16 rows of one matrix into dst (n_tokens, mat->n_rows).
static void groups_body(const facet_step *step, const facet_mat *mat, const float *bias,
                        const facet_dot_input *in, facet_range range, float *dst)
{
    for (uint32_t u = range.begin; u < range.end; u += range.stride) {
        const uint32_t begin = u * FACET_GROUP, left = mat->n_rows - begin;
        const uint32_t n = left < FACET_GROUP ? left : FACET_GROUP;
        facet_dot_rows(mat, (facet_rows){begin, begin + n}, in, 0, step->n_tokens, dst + begin,
                       mat->n_rows);
        for (uint32_t t = 0; bias && t < step->n_tokens; t++) {
            for (uint32_t r = begin; r < begin + n; r++)
                dst[(uint64_t)t * mat->n_rows + r] += bias[r];
        }
    }
}

static void out_body(const facet_step *step, uint32_t layer, const facet_lane *lane,
                     facet_range range)
{
    const facet_layer *l = &step->layers[layer];
    const facet_dot_input in = lane_input(lane, q_dim(step));
    groups_body(step, &l->o, l->o_bias, &in, range, step->y);
}

static void down_body(const facet_step *step, uint32_t layer, const facet_lane *lane,
                      facet_range range)
{
    const facet_layer *l = &step->layers[layer];
    const facet_dot_input dense = lane_input(lane, l->down.n_cols);
    const facet_dot_input family = {step->z, step->zq, step->zs, step->zsum,
                                    round32(l->down.n_cols)};
    groups_body(step, &l->down, l->down_bias, l->perm ? &dense : &family, range, step->y);
}

static void head_body(const facet_step *step, uint32_t layer, const facet_lane *lane,
                      facet_range range)
{
    (void)layer;
    const facet_dot_input in = lane_input(lane, step->shape->d_model);
    groups_body(step, &step->head, NULL, &in, range, step->logits);
}

// ---- FFN_IN -------------------------------------------------------------------------------------

static float activate(uint32_t act, float gate)
{
    const double g = (double)gate;
    if (act == FACET_ACT_SILU) return (float)(g / (1.0 + exp(-g)));
    const double inner = 0.79788456080286535588 * (g + 0.044715 * g * g * g); // sqrt(2 / pi)
    return (float)(0.5 * g * (1.0 + tanh(inner)));
}

// Stores the 32 z values of kept tile i: in place for dense, in kept order for a family, and
// quantised when the family's down is.
static void store_tile(const facet_step *step, const facet_layer *l, uint32_t i, uint32_t t,
                       const float z[FACET_TILE])
{
    const uint64_t stride = round32(l->down.n_cols);
    const uint32_t at = i * FACET_TILE;
    if (l->perm) {
        const uint32_t *channels = l->perm + (uint64_t)l->tiles[i] * FACET_TILE;
        for (uint32_t c = 0; c < FACET_TILE; c++) {
            if (channels[c] != UINT32_MAX) step->z[t * stride + channels[c]] = z[c];
        }
    } else if (!facet_pack_quantised(l->down.pack)) {
        memcpy(step->z + t * stride + at, z, FACET_TILE * sizeof(float));
    } else {
        const uint64_t block = (t * stride + at) / FACET_BLOCK;
        facet_quantize_row(z, FACET_TILE, step->zq + block * FACET_BLOCK, step->zs + 2 * block,
                           step->zsum + 2 * block);
    }
}

typedef double group_sums[FACET_DOT_TOKENS][FACET_GROUP];

static void tile_body(const facet_step *step, const facet_layer *l, const facet_dot_input *in,
                      uint32_t i)
{
    const uint64_t gate_bytes = facet_group_bytes(l->gate.pack, l->gate.n_cols);
    const uint64_t up_bytes = facet_group_bytes(l->up.pack, l->up.n_cols);
    const uint8_t *gate = l->gate_up + l->tiles[i] * facet_tile_bytes(l);
    const uint8_t *up = gate + 2 * gate_bytes;
    for (uint32_t first = 0; first < step->n_tokens; first += FACET_DOT_TOKENS) {
        const uint32_t left = step->n_tokens - first;
        const uint32_t n = left < FACET_DOT_TOKENS ? left : FACET_DOT_TOKENS;
        group_sums g[2], u[2];
        for (uint32_t h = 0; h < 2; h++) {
            facet_dot_group(l->gate.pack, gate + h * gate_bytes, l->gate.n_cols, in, first, n,
                            g[h]);
            facet_dot_group(l->up.pack, up + h * up_bytes, l->up.n_cols, in, first, n, u[h]);
        }
        for (uint32_t t = 0; t < n; t++) {
            float z[FACET_TILE];
            for (uint32_t c = 0; c < FACET_TILE; c++) {
                const uint32_t h = c / FACET_GROUP, r = c % FACET_GROUP;
                z[c] = activate(step->shape->act, (float)g[h][t][r]) * (float)u[h][t][r];
            }
            store_tile(step, l, i, first + t, z);
        }
    }
}

static void ffn_in_body(const facet_step *step, uint32_t layer, const facet_lane *lane,
                        facet_range range)
{
    const facet_dot_input in = lane_input(lane, step->shape->d_model);
    for (uint32_t u = range.begin; u < range.end; u += range.stride)
        tile_body(step, &step->layers[layer], &in, u);
}

// ---- tables -------------------------------------------------------------------------------------

const facet_stage facet_reference_stages[FACET_STAGE_COUNT] = {
    [FACET_STAGE_QKV] = {qkv_prologue, qkv_body, 0},
    [FACET_STAGE_ATTN] = {NULL, attn_body, 0},
    [FACET_STAGE_OUT] = {out_prologue, out_body, 0},
    [FACET_STAGE_FFN_IN] = {ffn_in_prologue, ffn_in_body, 0},
    [FACET_STAGE_DOWN] = {down_prologue, down_body, 0},
};

const facet_stage facet_reference_head = {head_prologue, head_body, 0};

uint32_t facet_stage_units(const facet_step *step, uint32_t layer, uint32_t stage)
{
    const facet_shape *shape = step->shape;
    switch (stage) {
    case FACET_STAGE_QKV:
        return shape->n_heads + 2 * shape->n_kv_heads;
    case FACET_STAGE_ATTN:
        return shape->n_heads;
    case FACET_STAGE_FFN_IN:
        return step->layers[layer].n_tiles;
    case FACET_STAGE_OUT:
    case FACET_STAGE_DOWN:
        return (shape->d_model + FACET_GROUP - 1) / FACET_GROUP;
    default:
        return (shape->n_vocab + FACET_GROUP - 1) / FACET_GROUP;
    }
}
