// SPDX-License-Identifier: Apache-2.0
// The forward pass of a tiny model, token by token, on plain floats. It knows nothing of groups,
// tiles' packing, lanes or stages; of kernels/ it shares the activation rule only, written again.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/tiny.h"

typedef struct state {
    const tiny *t;
    float *keys, *values; // (n_layers, n tokens, kv dim), rounded to half precision
    uint32_t n;
} state;

static bool is_float(facet_dtype dtype)
{
    return dtype <= FACET_DTYPE_BF16;
}

// Rounds blocks of 16 to 127 steps of their largest value.
static void round_blocks(float *x, uint32_t n)
{
    for (uint32_t b = 0; b < n; b += 16) {
        const uint32_t end = b + 16 < n ? b + 16 : n;
        float amax = 0.0f;
        for (uint32_t i = b; i < end; i++)
            amax = fmaxf(amax, fabsf(x[i]));
        if (amax == 0.0f) continue;
        for (uint32_t i = b; i < end; i++)
            x[i] = rintf(x[i] * (127.0f / amax)) * (amax / 127.0f);
    }
}

// out[r] = row r . x, x rounded first when the matrix is quantised.
static void multiply(const float *values, uint32_t rows, uint32_t cols, bool rounded,
                     const float *x, float *out)
{
    float *copy = malloc(cols * sizeof *copy);
    if (!copy) abort();
    memcpy(copy, x, cols * sizeof *copy);
    if (rounded) round_blocks(copy, cols);
    for (uint32_t r = 0; r < rows; r++) {
        double sum = 0.0;
        for (uint32_t c = 0; c < cols; c++)
            sum += (double)values[(size_t)r * cols + c] * (double)copy[c];
        out[r] = (float)sum;
    }
    free(copy);
}

static void times(const tiny_mat *m, const float *x, float *out)
{
    multiply(m->values, m->rows, m->cols, !is_float(m->dtype), x, out);
}

static void add(float *x, const float *bias, uint32_t n)
{
    for (uint32_t i = 0; bias && i < n; i++)
        x[i] += bias[i];
}

static void norm(float *x, const float *gain, uint32_t n)
{
    double sum = 0.0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    const double factor = 1.0 / sqrt(sum / n + 1e-5);
    for (uint32_t i = 0; i < n; i++)
        x[i] = (float)((double)x[i] * factor * (double)gain[i]);
}

static bool windowed(const tiny_opts *o, uint32_t layer)
{
    return o->window && (layer + 1) % o->window_period != 0;
}

static void rotate(const tiny *t, uint32_t layer, uint32_t pos, float *head)
{
    const tiny_opts *o = &t->opts;
    const uint32_t half = o->rope_dims / 2;
    for (uint32_t i = 0; o->rope_style != FACET_ROPE_NONE && i < half; i++) {
        const bool local = windowed(o, layer);
        double angle = pos * pow(local ? 500.0 : 10000.0, -2.0 * i / o->rope_dims);
        if (!local) angle /= o->rope_scale;
        if (!local && t->rope_factors) angle /= (double)t->rope_factors[i];
        const uint32_t a = o->rope_style == FACET_ROPE_NEOX ? i : 2 * i;
        const uint32_t b = o->rope_style == FACET_ROPE_NEOX ? i + half : 2 * i + 1;
        const double x = (double)head[a], y = (double)head[b];
        head[a] = (float)(x * cos(angle) - y * sin(angle));
        head[b] = (float)(x * sin(angle) + y * cos(angle));
    }
}

static void to_half(float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = facet_half_to_float(facet_float_to_half(x[i]));
}

static void attend(const state *s, uint32_t layer, uint32_t pos, const float *q, float *out)
{
    const tiny_opts *o = &s->t->opts;
    const uint32_t hd = o->head_dim, kv = o->n_kv_heads * hd;
    const uint32_t first = windowed(o, layer) && pos + 1 > o->window ? pos + 1 - o->window : 0;
    double *weights = malloc((pos + 1) * sizeof *weights);
    if (!weights) abort();
    for (uint32_t h = 0; h < o->n_heads; h++) {
        const size_t at = (size_t)layer * s->n * kv + h / (o->n_heads / o->n_kv_heads) * hd;
        double top = -1e300, total = 0.0;
        for (uint32_t p = first; p <= pos; p++) {
            double dot = 0.0;
            for (uint32_t i = 0; i < hd; i++)
                dot += (double)q[h * hd + i] * (double)s->keys[at + (size_t)p * kv + i];
            weights[p] = dot / sqrt(hd);
            top = fmax(top, weights[p]);
        }
        for (uint32_t p = first; p <= pos; p++)
            total += weights[p] = exp(weights[p] - top);
        for (uint32_t i = 0; i < hd; i++) {
            double sum = 0.0;
            for (uint32_t p = first; p <= pos; p++)
                sum += weights[p] / total * (double)s->values[at + (size_t)p * kv + i];
            out[h * hd + i] = (float)sum;
        }
    }
    free(weights);
}

static void attention(const state *s, uint32_t layer, uint32_t family, uint32_t pos,
                      const float *xn, float *y)
{
    const tiny_opts *o = &s->t->opts;
    const tiny_layer *l = &s->t->layers[layer];
    const uint32_t hd = o->head_dim, n_q = o->n_heads * hd, kv = o->n_kv_heads * hd;
    float *q = malloc(2 * n_q * sizeof *q), *mixed = q + n_q;
    if (!q) abort();
    float *k = s->keys + ((size_t)layer * s->n + pos) * kv;
    float *v = s->values + ((size_t)layer * s->n + pos) * kv;
    times(&l->q, xn, q);
    times(&l->k, xn, k);
    times(&l->v, xn, v);
    add(q, tiny_vector_of(l, family, TINY_Q_BIAS), n_q);
    add(k, tiny_vector_of(l, family, TINY_K_BIAS), kv);
    add(v, tiny_vector_of(l, family, TINY_V_BIAS), kv);
    for (uint32_t h = 0; h < o->n_heads; h++) {
        if (l->q_norm) norm(q + h * hd, l->q_norm, hd);
        rotate(s->t, layer, pos, q + h * hd);
    }
    for (uint32_t h = 0; h < o->n_kv_heads; h++) {
        if (l->k_norm) norm(k + h * hd, l->k_norm, hd);
        rotate(s->t, layer, pos, k + h * hd);
    }
    to_half(k, kv);
    to_half(v, kv);
    attend(s, layer, pos, q, mixed);
    times(&l->o, mixed, y);
    add(y, l->o_bias, o->d_model);
    free(q);
}

static float activate(uint32_t act, float g)
{
    const double x = (double)g;
    if (act == FACET_ACT_SILU) return (float)(x / (1.0 + exp(-x)));
    return (float)(0.5 * x *
                   (1.0 + tanh(sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x))));
}

static void feed_forward(const tiny *t, uint32_t layer, uint32_t family, const float *xn, float *y)
{
    const tiny_layer *l = &t->layers[layer];
    const uint32_t f = t->opts.d_ff, d = t->opts.d_model;
    float *gate = calloc(3 * (size_t)t->n_tiles * FACET_TILE, sizeof *gate);
    if (!gate) abort();
    float *up = gate + f, *kept = up + f;
    times(&l->gate, xn, gate);
    times(&l->up, xn, up);
    for (uint32_t j = 0; j < f; j++)
        gate[j] = activate(t->opts.act, gate[j]) * up[j];
    if (family == 0) {
        times(&l->down, gate, y);
    } else {
        const tiny_down *down = &l->own[family];
        uint32_t n = 0;
        for (uint32_t p = 0; p < t->n_tiles * FACET_TILE; p++) {
            if (!t->kept[family][p / FACET_TILE]) continue;
            const uint32_t channel = l->perm ? l->perm[p] : p;
            kept[n++] = channel < f ? gate[channel] : 0.0f;
        }
        multiply(down->values, d, down->cols, down->pack > FACET_PACK_BF16, kept, y);
        add(y, down->bias, d);
    }
    free(gate);
}

static void run_layer(const state *s, uint32_t layer, uint32_t family, uint32_t pos, float *x)
{
    const tiny_layer *l = &s->t->layers[layer];
    const uint32_t d = s->t->opts.d_model;
    float *xn = malloc(2 * d * sizeof *xn), *y = xn + d;
    if (!xn) abort();
    memcpy(xn, x, d * sizeof *xn);
    norm(xn, tiny_vector_of(l, family, TINY_ATTN_NORM), d);
    attention(s, layer, family, pos, xn, y);
    const float *attn_post = tiny_vector_of(l, family, TINY_ATTN_POST);
    if (attn_post) norm(y, attn_post, d);
    add(x, y, d);
    memcpy(xn, x, d * sizeof *xn);
    norm(xn, tiny_vector_of(l, family, TINY_FFN_NORM), d);
    feed_forward(s->t, layer, family, xn, y);
    const float *ffn_post = tiny_vector_of(l, family, TINY_FFN_POST);
    if (ffn_post) norm(y, ffn_post, d);
    add(x, y, d);
    free(xn);
}

void tiny_forward(const tiny *t, uint32_t family, uint32_t prefill_family, uint32_t prefill,
                  const uint32_t *tokens, uint32_t n, float *logits)
{
    const tiny_opts *o = &t->opts;
    const size_t cache = (size_t)o->n_layers * n * o->n_kv_heads * o->head_dim;
    float *x = calloc(o->d_model, sizeof *x);
    state s = {.t = t, .n = n};
    s.keys = calloc(cache, sizeof(float));
    s.values = calloc(cache, sizeof(float));
    if (!x || !s.keys || !s.values) abort();
    for (uint32_t pos = 0; pos < n; pos++) {
        for (uint32_t i = 0; i < o->d_model; i++)
            x[i] = t->embed.values[(size_t)tokens[pos] * o->d_model + i] * (float)o->embed_scale;
        const uint32_t reader = pos < prefill ? prefill_family : family;
        for (uint32_t layer = 0; layer < o->n_layers; layer++)
            run_layer(&s, layer, reader, pos, x);
        norm(x, t->out_norm[reader] ? t->out_norm[reader] : t->out_norm[0], o->d_model);
        times(t->head.values ? &t->head : &t->embed, x, logits + (size_t)pos * t->n_vocab);
    }
    free(s.keys);
    free(s.values);
    free(x);
}

double tiny_distance(const float *a, const float *b, size_t n)
{
    double top = 0, worst = 0;
    for (size_t i = 0; i < n; i++) {
        top = fmax(top, fabs((double)b[i]));
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    }
    return worst / top;
}
