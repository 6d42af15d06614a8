// SPDX-License-Identifier: Apache-2.0
#include "compiler/layer_fit.h"

#include <assert.h>
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "products/each.h"

void facet_layer_fit_fini(facet_layer_fit *fit)
{
    const facet_alloc *alloc = fit->b->alloc;
    facet_moments_fini(&fit->moments);
    facet_pool_free(fit->pool);
    facet_mem_free(alloc, fit->channels);
    facet_mem_free(alloc, fit->ascending);
    facet_mem_free(alloc, fit->order);
    facet_mem_free(alloc, fit->rows);
    facet_mem_free(alloc, fit->source);
    facet_mem_free(alloc, fit->z);
    facet_mem_free(alloc, fit->wanted);
    facet_mem_free(alloc, fit->weight);
    facet_mem_free(alloc, fit->read);
    *fit = (facet_layer_fit){.b = fit->b};
}

static facet_status mark_prompts(facet_layer_fit *fit, const facet_samples *samples, facet_err *err)
{
    fit->n_fitting = fit->n_fit;
    if (!samples || !fit->b->opts->dense_prompts) return FACET_OK;
    fit->read = facet_mem_new(fit->b->alloc, fit->n_tokens, 1);
    if (!fit->read) return facet_fail_memory(err, fit->n_tokens);
    for (uint64_t i = 0, t = 0; i < samples->n; t += samples->lengths[i++])
        memset(fit->read + t, 1, facet_samples_prompt(samples, (uint32_t)i));
    for (uint64_t t = 0; t < fit->n_fit; t++)
        fit->n_fitting -= fit->read[t];
    return FACET_OK;
}

// A layer that repairs all that the layers below it lost chases what its channels cannot say. Held
// out, half of it beats all and nothing (docs/TRIED.md).
static float repair_of(facet_refit_target target)
{
    assert(target != FACET_REFIT_AUTO && target != FACET_REFIT_BEST);
    if (target == FACET_REFIT_LAYER || target == FACET_REFIT_ONESHOT) return 0;
    return target == FACET_REFIT_RESIDUAL ? 1 : 0.5f;
}

bool facet_layer_fit_normed(const facet_model *model)
{
    return facet_model_tensor(model, FACET_ROLE_FFN_POST, 0) != NULL;
}

facet_status facet_layer_fit_init(facet_layer_fit *fit, const facet_building *b,
                                  facet_refit_target target, const facet_samples *samples,
                                  uint64_t n_fit, facet_err *err)
{
    const facet_alloc *alloc = b->alloc;
    const uint64_t n_tokens = samples ? samples->n_tokens : 0;
    const uint32_t d = b->model->hp.d_model, d_ff = b->model->hp.d_ff;
    const size_t places = (size_t)d_ff + FACET_TILE; // a ragged last tile counts as a whole one
    *fit = (facet_layer_fit){.b = b, .d = d, .d_ff = d_ff, .n_tokens = n_tokens, .n_fit = n_fit};
    if (b->opts->precision == FACET_PRECISION_BF16)
        FACET_TRY(facet_pool_new(b->opts->n_threads ? b->opts->n_threads : facet_cores(), alloc,
                                 &fit->pool, err));
    fit->post_norm = facet_layer_fit_normed(b->model);
    if (!fit->post_norm && b->opts->compensate != FACET_COMPENSATE_NONE)
        fit->repair = repair_of(target);
    fit->channels = facet_mem_new(alloc, places, sizeof *fit->channels);
    fit->ascending = facet_mem_new(alloc, places, sizeof *fit->ascending);
    fit->order = facet_mem_new(alloc, places, sizeof *fit->order);
    fit->rows = facet_mem_new(alloc, (size_t)d_ff + 1, d * sizeof(float));
    fit->source = facet_mem_new(alloc, d_ff, sizeof(float));
    fit->wanted = facet_mem_new(alloc, n_tokens, d * sizeof(float));
    fit->weight = facet_mem_new(alloc, n_tokens, sizeof(float));
    if (fit->channels && fit->ascending && fit->order && fit->rows && fit->source && fit->wanted &&
        fit->weight) {
        for (uint64_t t = 0; t < n_tokens; t++)
            fit->weight[t] = 1.0f;
        return mark_prompts(fit, samples, err);
    }
    facet_layer_fit_fini(fit);
    return facet_fail_memory(err, (n_tokens + d_ff) * d * sizeof(float));
}

// ---- the layer's channels
// ------------------------------------------------------------------------

typedef struct placed {
    uint32_t channel, place;
} placed;

static int placed_order(const void *a, const void *b)
{
    const placed *x = a, *y = b;
    return (x->channel > y->channel) - (x->channel < y->channel);
}

facet_status facet_layer_fit_begin(facet_layer_fit *fit, uint32_t layer, uint32_t n_kept,
                                   facet_err *err)
{
    const facet_alloc *alloc = fit->b->alloc;
    fit->n_kept = n_kept;
    placed *list = facet_mem_new(alloc, fit->n_kept, sizeof *list);
    if (!list) return facet_fail_memory(err, fit->n_kept * sizeof *list);
    for (uint32_t i = 0; i < fit->n_kept; i++)
        list[i] = (placed){fit->channels[i], i};
    qsort(list, fit->n_kept, sizeof *list, placed_order);
    for (uint32_t i = 0; i < fit->n_kept; i++) {
        fit->ascending[i] = list[i].channel;
        fit->order[i] = list[i].place;
    }
    facet_mem_free(alloc, list);
    // Rows of the down tensor are outputs: channel j is its column j.
    const facet_tensor *down = facet_model_tensor(fit->b->model, FACET_ROLE_DOWN, layer);
    for (uint32_t out = 0; out < fit->d; out++) {
        facet_tensor_row(down, out, fit->source);
        for (uint32_t i = 0; i < fit->n_kept; i++)
            fit->rows[(size_t)i * fit->d + out] = fit->source[fit->channels[i]];
    }
    memset(fit->rows + (size_t)fit->n_kept * fit->d, 0, fit->d * sizeof(float));
    return FACET_OK;
}

// ---- moments
// -------------------------------------------------------------------------------------

enum { block_tokens = 1024 }; // summed on their own before they join the sums, for precision

static facet_status reserve_z(facet_layer_fit *fit, facet_err *err)
{
    size_t floats;
    if (!facet_mul_size((size_t)fit->n_tokens, (size_t)fit->n_kept + 1, &floats))
        return facet_fail_memory(err, SIZE_MAX);
    if (floats <= fit->z_room) return FACET_OK;
    facet_mem_free(fit->b->alloc, fit->z);
    fit->z_room = 0;
    fit->z = facet_mem_new(fit->b->alloc, floats, sizeof *fit->z);
    if (!fit->z) return facet_fail_memory(err, floats * sizeof *fit->z);
    fit->z_room = floats;
    return FACET_OK;
}

static bool is_read(const facet_layer_fit *fit, uint64_t token)
{
    return fit->read && fit->read[token];
}

// 1 / root mean square of a + b; b may be NULL.
static double inverse_length(const float *a, const float *b, uint32_t d)
{
    double sum = 0;
    for (uint32_t i = 0; i < d; i++) {
        const double x = b ? (double)a[i] + (double)b[i] : (double)a[i];
        sum += x * x;
    }
    return 1.0 / sqrt(sum / d + 1e-12);
}

// Of a token in the moments. What follows a layer divides by the root mean square of what it reads,
// so an error counts by its size beside that; but the longest states (of the first token, a
// thousand times as long as others) are what attention rests on, and count more. Between squared
// errors and relative ones lies the error over the root of the length (docs/TRIED.md).
static float weight_of(const float *a, const float *b, uint32_t d)
{
    return (float)sqrt(inverse_length(a, b, d));
}

// Energy of y in the tokens of a chunk that judge, rows weighted.
static void add_energy(facet_layer_fit *fit, const facet_build_chunk *chunk)
{
    for (uint32_t t = 0; t < chunk->n; t++) {
        const double weight = (double)fit->weight[chunk->first + t];
        if (chunk->first + t < fit->n_fit || is_read(fit, chunk->first + t)) continue;
        fit->energy += weight * weight * facet_squares(chunk->y + (size_t)t * fit->d, fit->d);
    }
}

static facet_status tap_dense(void *ctx, const facet_build_chunk *chunk, facet_err *err)
{
    (void)err;
    facet_layer_fit *fit = ctx;
    for (uint32_t t = 0; t < chunk->n; t++) {
        const size_t at = (size_t)t * fit->d;
        fit->weight[chunk->first + t] = weight_of(chunk->res + at, chunk->y + at, fit->d);
    }
    add_energy(fit, chunk);
    return FACET_OK;
}

typedef struct look {
    facet_layer_fit *fit;
    const float *dense; // (n_tokens, d) the dense residual stream behind the layer, or NULL
} look;

// All that the stream lacks of dense: z holds the kept channels, ascending.
static facet_status tap_kept(void *ctx, const facet_build_chunk *chunk, facet_err *err)
{
    (void)err;
    const look *l = ctx;
    facet_layer_fit *fit = l->fit;
    const float *dense = l->dense + chunk->first * fit->d;
    float *wanted = fit->wanted + chunk->first * fit->d;
    for (uint32_t t = 0; t < chunk->n; t++) {
        const float *from = chunk->z + (size_t)t * fit->n_kept;
        float *z = fit->z + (chunk->first + t) * ((size_t)fit->n_kept + 1);
        const float weight = fit->weight[chunk->first + t];
        for (uint32_t i = 0; i < fit->n_kept; i++)
            z[fit->order[i]] = weight * from[i];
        z[fit->n_kept] = weight;
        for (size_t i = (size_t)t * fit->d; i < ((size_t)t + 1) * fit->d; i++)
            wanted[i] = weight * (dense[i] - chunk->res[i]);
    }
    return FACET_OK;
}

// The layer's own output y and a share of what the stream then lacks of dense. z holds all
// channels.
static facet_status tap_all(void *ctx, const facet_build_chunk *chunk, facet_err *err)
{
    (void)err;
    const look *l = ctx;
    facet_layer_fit *fit = l->fit;
    for (uint32_t t = 0; t < chunk->n; t++) {
        const float *from = chunk->z + (size_t)t * fit->d_ff, *y = chunk->y + (size_t)t * fit->d;
        const float *res = chunk->res + (size_t)t * fit->d;
        const uint64_t token = chunk->first + t;
        if (!l->dense)
            fit->weight[token] =
                fit->post_norm ? (float)inverse_length(y, NULL, fit->d) : weight_of(y, res, fit->d);
        const float weight = fit->weight[token];
        float *z = fit->z + token * ((size_t)fit->n_kept + 1);
        for (uint32_t i = 0; i < fit->n_kept; i++)
            z[i] = weight * from[fit->channels[i]];
        z[fit->n_kept] = weight;
        const float *dense = l->dense ? l->dense + token * fit->d : NULL;
        for (uint32_t i = 0; i < fit->d; i++) {
            const float lacking = dense ? fit->repair * (dense[i] - res[i] - y[i]) : 0;
            fit->wanted[token * fit->d + i] = weight * (y[i] + lacking);
        }
    }
    if (!l->dense) add_energy(fit, chunk);
    return FACET_OK;
}

// Tokens from t on that are summed in one block of a part; 0: dense reads token t.
static uint64_t block_at(const facet_layer_fit *fit, uint64_t t)
{
    const uint64_t end = t < fit->n_fit ? fit->n_fit : fit->n_tokens;
    uint64_t n = 0;
    while (t + n < end && n < block_tokens && !is_read(fit, t + n))
        n++;
    return n;
}

static void sum_moments(facet_layer_fit *fit)
{
    uint64_t t = 0;
    while (t < fit->n_tokens) {
        const int part = t < fit->n_fit ? FACET_PART_FIT : FACET_PART_JUDGE;
        const uint64_t n = block_at(fit, t);
        const facet_moments_rows rows = {(uint32_t)n, fit->z + t * ((size_t)fit->n_kept + 1),
                                         fit->wanted + t * fit->d};
        if (n > 0 && fit->pool)
            facet_moments_add_bf16(&fit->moments, part, &rows, fit->pool);
        else if (n > 0)
            facet_moments_add(&fit->moments, part, &rows);
        t += n > 0 ? n : 1;
    }
    fit->moments.energy = fit->energy;
}

facet_status facet_layer_fit_dense(facet_layer_fit *fit, void *dense, facet_err *err)
{
    const facet_build_ops *ops = fit->b->ops;
    fit->energy = 0;
    FACET_TRY(ops->stream_attn(ops->ctx, dense, err));
    return ops->stream_ffn(ops->ctx, dense, tap_dense, fit, err);
}

static facet_status look_begin(facet_layer_fit *fit, const float *dense, facet_err *err)
{
    FACET_TRY(reserve_z(fit, err));
    facet_moments_fini(&fit->moments);
    FACET_TRY(facet_moments_init(&fit->moments, fit->n_kept, fit->d, fit->b->alloc, err));
    if (!dense) fit->energy = 0;
    for (uint64_t t = 0; dense && t < fit->n_tokens; t++)
        fit->weight[t] = weight_of(dense + t * fit->d, NULL, fit->d);
    return FACET_OK;
}

static facet_status look_through(look *l, void *stream, bool pass, facet_err *err)
{
    const facet_layer_fit *fit = l->fit;
    const facet_build_ops *ops = fit->b->ops;
    if (pass) return ops->stream_ffn(ops->ctx, stream, tap_all, l, err);
    if (!l->dense || fit->repair < 1) return ops->stream_look(ops->ctx, stream, tap_all, l, err);
    return ops->stream_look_kept(ops->ctx, stream, fit->ascending, fit->n_kept, tap_kept, l, err);
}

static facet_status look_run(facet_layer_fit *fit, void *stream, const float *dense, bool pass,
                             facet_err *err)
{
    FACET_TRY(look_begin(fit, dense, err));
    FACET_TRY(look_through(&(look){fit, dense}, stream, pass, err));
    sum_moments(fit);
    return FACET_OK;
}

facet_status facet_layer_fit_look(facet_layer_fit *fit, void *stream, const float *dense,
                                  facet_err *err)
{
    return look_run(fit, stream, dense, false, err);
}

facet_status facet_layer_fit_pass(facet_layer_fit *fit, void *stream, const float *dense,
                                  facet_err *err)
{
    return look_run(fit, stream, dense, true, err);
}

typedef struct output_job {
    facet_layer_fit *fit;
    const float *rows;
    uint64_t block; // tokens of an item
} output_job;

static void output_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const output_job *job = ctx;
    const facet_layer_fit *fit = job->fit;
    const size_t n = fit->n_kept, d = fit->d;
    const uint64_t t = item * job->block, left = fit->n_tokens - t;
    const facet_gemm gemm = {.add = true,
                             .m = left < job->block ? left : job->block,
                             .n = d,
                             .k = n,
                             .alpha = 1,
                             .a = fit->z + t * (n + 1),
                             .b = job->rows,
                             .c = fit->wanted + t * d,
                             .stride_a = n + 1,
                             .stride_b = d,
                             .stride_c = d};
    // Without the weights that the moments had.
    for (uint64_t i = 0; i < gemm.m; i++)
        cblas_sscal((int)n, 1.0f / fit->weight[t + i], fit->z + (t + i) * (n + 1), 1);
    facet_gemm_run(&gemm, fit->pool ? FACET_PRECISION_BF16 : FACET_PRECISION_F32);
}

void facet_layer_fit_output(facet_layer_fit *fit, const float *rows, const float *bias)
{
    for (uint64_t t = 0; t < fit->n_tokens; t++) {
        float *y = fit->wanted + t * fit->d;
        for (uint32_t i = 0; i < fit->d; i++)
            y[i] = bias ? bias[i] : 0;
    }
    output_job job = {fit, rows, block_tokens};
    const uint64_t n_items = (fit->n_tokens + block_tokens - 1) / block_tokens;
    if (fit->pool) facet_each(fit->pool, n_items, output_item, &job);
    for (uint64_t i = 0; !fit->pool && i < n_items; i++)
        output_item(&job, 0, i);
}
