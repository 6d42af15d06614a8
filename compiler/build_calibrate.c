// SPDX-License-Identifier: Apache-2.0
// One set of kept channels through the layers, each layer compiled on the inputs that the compiled
// layers below it produce:
//
//     dense stream  --attn--ffn-->  x after the layer, dense        (residual targets only)
//     this stream   --attn--look--> z of kept channels, wanted y* -> moments
//                                   moments -> compensate -> quantise -> take
//                   --add z down--> x after the layer, compiled
//
// z of all tokens stays in memory for one layer, so no channel is computed twice.
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "compiler/build_parts.h"
#include "compiler/pack.h"
#include "compiler/weights.h"

typedef struct run {
    facet_building *b;
    facet_calibrate_job *job;
    uint32_t d, d_ff;
    void *stream, *dense, *follow;
    bool residual;  // wanted: the dense residual stream behind the layer
    bool post_norm; // rows are weighted by 1 / rms(y): the norm behind the FFN does that
    // Of the layer at hand.
    uint32_t *channels;  // (tiles * 32) stored order
    uint32_t *ascending; // (n_kept)
    uint32_t *order;     // (n_kept) place of each ascending channel in stored order
    uint32_t n_kept, n_cols;
    facet_moments moments;
    float *original; // (d_ff + 1, d) rows of the kept channels, then the bias
    float *sorted;   // (d_ff, d)
    float *source;   // (d_ff) one row of the source
    uint64_t n_tokens;
    size_t z_room; // floats
    float *z;      // (n_tokens, n_kept + 1) kept channels in stored order, then the constant
    float *wanted; // (n_tokens, d)
    float *weight; // (n_tokens) of a token's row in the moments, z's and wanted's
    double energy; // of the dense layer's output on the judging part
    double ridge;
    facet_pack pack;
} run;

static void run_fini(run *r)
{
    const facet_alloc *alloc = r->b->alloc;
    const facet_build_ops *ops = r->b->ops;
    if (r->stream) ops->stream_free(ops->ctx, r->stream);
    if (r->dense) ops->stream_free(ops->ctx, r->dense);
    if (r->follow) ops->stream_free(ops->ctx, r->follow);
    facet_moments_fini(&r->moments);
    facet_mem_free(alloc, r->channels);
    facet_mem_free(alloc, r->ascending);
    facet_mem_free(alloc, r->order);
    facet_mem_free(alloc, r->original);
    facet_mem_free(alloc, r->sorted);
    facet_mem_free(alloc, r->source);
    facet_mem_free(alloc, r->z);
    facet_mem_free(alloc, r->wanted);
    facet_mem_free(alloc, r->weight);
}

static facet_status run_init(run *r, facet_building *b, facet_calibrate_job *job, facet_err *err)
{
    const facet_alloc *alloc = b->alloc;
    const size_t places = (size_t)b->layout.n_tiles * FACET_TILE;
    *r = (run){.b = b,
               .job = job,
               .d = b->model->hp.d_model,
               .d_ff = b->model->hp.d_ff,
               .pack = FACET_PACK_COUNT};
    r->post_norm = facet_model_tensor(b->model, FACET_ROLE_FFN_POST, 0) != NULL;
    // Behind a post norm only the direction of y counts, and the residual stream cannot be reached
    // by a linear map: there the layer's own output is the target.
    r->residual = b->opts->refit_target != FACET_REFIT_LAYER && !r->post_norm &&
                  b->opts->compensate != FACET_COMPENSATE_NONE;
    r->channels = facet_mem_new(alloc, places, sizeof *r->channels);
    r->ascending = facet_mem_new(alloc, places, sizeof *r->ascending);
    r->order = facet_mem_new(alloc, places, sizeof *r->order);
    r->original = facet_mem_new(alloc, (size_t)r->d_ff + 1, r->d * sizeof(float));
    r->sorted = facet_mem_new(alloc, r->d_ff, r->d * sizeof(float));
    r->source = facet_mem_new(alloc, r->d_ff, sizeof(float));
    if (!r->channels || !r->ascending || !r->order || !r->original || !r->sorted || !r->source)
        return facet_fail_memory(err, (size_t)r->d_ff * r->d * sizeof(float));
    const facet_build_ops *ops = b->ops;
    if (job->follow) FACET_TRY(ops->stream_new(ops->ctx, b->model, job->follow, &r->follow, err));
    if (job->blind) return FACET_OK;
    r->n_tokens = job->samples->n_tokens;
    r->wanted = facet_mem_new(alloc, r->n_tokens, r->d * sizeof(float));
    r->weight = facet_mem_new(alloc, r->n_tokens, sizeof(float));
    if (!r->wanted || !r->weight) return facet_fail_memory(err, r->n_tokens * r->d * sizeof(float));
    FACET_TRY(ops->stream_new(ops->ctx, b->model, job->samples, &r->stream, err));
    return r->residual ? ops->stream_copy(ops->ctx, r->stream, &r->dense, err) : FACET_OK;
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

static facet_status begin_layer(run *r, uint32_t layer, facet_err *err)
{
    const facet_alloc *alloc = r->b->alloc;
    r->n_kept = r->job->channels(r->job->ctx, layer, r->channels, &r->n_cols);
    placed *list = facet_mem_new(alloc, r->n_kept, sizeof *list);
    if (!list) return facet_fail_memory(err, r->n_kept * sizeof *list);
    for (uint32_t i = 0; i < r->n_kept; i++)
        list[i] = (placed){r->channels[i], i};
    qsort(list, r->n_kept, sizeof *list, placed_order);
    for (uint32_t i = 0; i < r->n_kept; i++) {
        r->ascending[i] = list[i].channel;
        r->order[i] = list[i].place;
    }
    facet_mem_free(alloc, list);
    // Rows of the down tensor are outputs: channel j is its column j.
    const facet_tensor *down = facet_model_tensor(r->b->model, FACET_ROLE_DOWN, layer);
    for (uint32_t out = 0; out < r->d; out++) {
        facet_tensor_row(down, out, r->source);
        for (uint32_t i = 0; i < r->n_kept; i++)
            r->original[(size_t)i * r->d + out] = r->source[r->channels[i]];
    }
    memset(r->original + (size_t)r->n_kept * r->d, 0, r->d * sizeof(float));
    return FACET_OK;
}

// ---- moments
// -------------------------------------------------------------------------------------

enum { block_tokens = 1024 }; // summed on their own before they join the sums, for precision

static facet_status reserve_z(run *r, facet_err *err)
{
    size_t floats;
    if (!facet_mul_size((size_t)r->n_tokens, (size_t)r->n_kept + 1, &floats))
        return facet_fail_memory(err, SIZE_MAX);
    if (floats <= r->z_room) return FACET_OK;
    facet_mem_free(r->b->alloc, r->z);
    r->z_room = 0;
    r->z = facet_mem_new(r->b->alloc, floats, sizeof *r->z);
    if (!r->z) return facet_fail_memory(err, floats * sizeof *r->z);
    r->z_room = floats;
    return FACET_OK;
}

static double squares(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

// Energy of y in the tokens of a chunk that judge, rows weighted.
static void add_energy(run *r, const facet_build_chunk *chunk)
{
    for (uint32_t t = 0; t < chunk->n; t++) {
        const double weight = (double)r->weight[chunk->first + t];
        if (chunk->first + t < r->job->n_fit) continue;
        r->energy += weight * weight * squares(chunk->y + (size_t)t * r->d, r->d);
    }
}

static facet_status tap_dense(void *ctx, const facet_build_chunk *chunk, facet_err *err)
{
    (void)err;
    add_energy(ctx, chunk);
    return FACET_OK;
}

// Residual targets: z holds the kept channels, ascending.
static facet_status tap_kept(void *ctx, const facet_build_chunk *chunk, facet_err *err)
{
    (void)err;
    run *r = ctx;
    const float *dense = r->b->ops->stream_x(r->b->ops->ctx, r->dense) + chunk->first * r->d;
    float *wanted = r->wanted + chunk->first * r->d;
    for (uint32_t t = 0; t < chunk->n; t++) {
        const float *from = chunk->z + (size_t)t * r->n_kept;
        float *z = r->z + (chunk->first + t) * ((size_t)r->n_kept + 1);
        for (uint32_t i = 0; i < r->n_kept; i++)
            z[r->order[i]] = from[i];
        z[r->n_kept] = 1.0f;
    }
    for (size_t i = 0; i < (size_t)chunk->n * r->d; i++)
        wanted[i] = dense[i] - chunk->res[i];
    return FACET_OK;
}

// The layer's own output as the target: z holds all channels.
static facet_status tap_all(void *ctx, const facet_build_chunk *chunk, facet_err *err)
{
    (void)err;
    run *r = ctx;
    for (uint32_t t = 0; t < chunk->n; t++) {
        const float *from = chunk->z + (size_t)t * r->d_ff, *y = chunk->y + (size_t)t * r->d;
        const uint64_t token = chunk->first + t;
        const float weight =
            r->post_norm ? (float)(1.0 / sqrt(squares(y, r->d) / r->d + 1e-12)) : 1.0f;
        float *z = r->z + token * ((size_t)r->n_kept + 1);
        for (uint32_t i = 0; i < r->n_kept; i++)
            z[i] = weight * from[r->channels[i]];
        z[r->n_kept] = weight;
        r->weight[token] = weight;
        for (uint32_t i = 0; i < r->d; i++)
            r->wanted[token * r->d + i] = weight * y[i];
    }
    add_energy(r, chunk);
    return FACET_OK;
}

static void sum_moments(run *r)
{
    for (uint64_t t = 0, n; t < r->n_tokens; t += n) {
        const int part = t < r->job->n_fit ? FACET_PART_FIT : FACET_PART_JUDGE;
        const uint64_t end = part == FACET_PART_FIT ? r->job->n_fit : r->n_tokens;
        n = end - t < block_tokens ? end - t : block_tokens;
        const facet_moments_rows rows = {(uint32_t)n, r->z + t * ((size_t)r->n_kept + 1),
                                         r->wanted + t * r->d};
        facet_moments_add(&r->moments, part, &rows);
    }
    r->moments.energy = r->energy;
}

static facet_status gather(run *r, facet_err *err)
{
    const facet_build_ops *ops = r->b->ops;
    FACET_TRY(reserve_z(r, err));
    facet_moments_fini(&r->moments);
    FACET_TRY(facet_moments_init(&r->moments, r->n_kept, r->d, r->b->alloc, err));
    for (uint64_t t = 0; t < r->n_tokens; t++)
        r->weight[t] = 1.0f;
    r->energy = 0;
    if (r->dense) {
        FACET_TRY(ops->stream_attn(ops->ctx, r->dense, err));
        FACET_TRY(ops->stream_ffn(ops->ctx, r->dense, tap_dense, r, err));
    }
    FACET_TRY(ops->stream_attn(ops->ctx, r->stream, err));
    if (r->dense)
        FACET_TRY(
            ops->stream_look_kept(ops->ctx, r->stream, r->ascending, r->n_kept, tap_kept, r, err));
    else
        FACET_TRY(ops->stream_look(ops->ctx, r->stream, tap_all, r, err));
    sum_moments(r);
    return FACET_OK;
}

// ---- the layer's down projection
// -----------------------------------------------------------------

static facet_status store(run *r, uint32_t layer, double error, facet_quantized *down,
                          facet_err *err)
{
    const facet_pack source = facet_weights_pack(r->b->model, FACET_ROLE_DOWN, layer);
    facet_quantize_problem problem = {
        .n = r->n_kept, .n_cols = r->n_cols, .d = r->d, .rows = r->original, .alloc = r->b->alloc};
    // Float sources stay what they are.
    if (facet_pack_cols(source) == 1) return facet_quantize(&problem, source, down, err);
    float *feedback = NULL;
    facet_quantize_choice choice = {.moments = r->job->blind ? NULL : &r->moments, .error = error};
    if (choice.moments) FACET_TRY(facet_quantize_feedback(&r->moments, &feedback, err));
    problem.feedback = feedback;
    const facet_status status = facet_quantize_best(&problem, &choice, &r->pack, down, err);
    facet_mem_free(r->b->alloc, feedback);
    r->job->quantize_error += choice.added / r->b->model->hp.n_layers;
    return status;
}

// y = z down + bias of the stored values, without the weights that the moments had.
static facet_status add_compiled(run *r, const facet_quantized *down, const float *bias,
                                 facet_err *err)
{
    const int n = (int)r->n_kept, d = (int)r->d, ld = n + 1;
    for (uint64_t t = 0; t < r->n_tokens; t++) {
        float *y = r->wanted + t * r->d;
        for (int i = 0; i < d; i++)
            y[i] = bias ? bias[i] : 0;
    }
    for (uint64_t t = 0, rows; t < r->n_tokens; t += rows) {
        rows = r->n_tokens - t < block_tokens ? r->n_tokens - t : block_tokens;
        float *z = r->z + t * (size_t)ld;
        for (uint64_t i = 0; r->post_norm && i < rows; i++)
            cblas_sscal(n, 1.0f / r->weight[t + i], z + i * (size_t)ld, 1);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, d, n, 1.0f, z, ld,
                    down->values, d, 1.0f, r->wanted + t * r->d, d);
    }
    return r->b->ops->stream_add(r->b->ops->ctx, r->stream, r->wanted, err);
}

// The rest of the network sees what is stored, rounding included.
static facet_status advance(run *r, const facet_quantized *down, const float *bias, facet_err *err)
{
    if (r->stream) FACET_TRY(add_compiled(r, down, bias, err));
    if (!r->follow) return FACET_OK;
    for (uint32_t i = 0; i < r->n_kept; i++)
        memcpy(r->sorted + (size_t)i * r->d, down->values + (size_t)r->order[i] * r->d,
               r->d * sizeof(float));
    const facet_build_custom custom = {r->ascending, r->n_kept, r->sorted, bias};
    const facet_build_ops *ops = r->b->ops;
    FACET_TRY(ops->stream_attn(ops->ctx, r->follow, err));
    return ops->stream_custom(ops->ctx, r->follow, &custom, err);
}

static facet_status compile_layer(run *r, uint32_t layer, facet_err *err)
{
    facet_building *b = r->b;
    const uint32_t n_layers = b->model->hp.n_layers;
    uint64_t since = facet_clock_ns();
    facet_compensated compensated = {.method = FACET_COMPENSATE_NONE};
    FACET_TRY(begin_layer(r, layer, err));
    if (!r->job->blind) {
        FACET_TRY(gather(r, err));
        FACET_TRY(facet_compensate_layer(&r->moments, b->opts->compensate, layer, &r->ridge,
                                         r->original, &compensated, err));
    }
    b->result.seconds[FACET_STEP_COMPENSATE] += facet_clock_seconds(since);
    since = facet_clock_ns();
    facet_quantized down;
    FACET_TRY(store(r, layer, compensated.error, &down, err));
    b->result.seconds[FACET_STEP_QUANTIZE] += facet_clock_seconds(since);
    since = facet_clock_ns();
    const double energy = r->job->blind ? 0 : r->moments.energy;
    if (energy > 0) r->job->layer_error += compensated.error / energy / n_layers;
    r->job->refitted += compensated.method == FACET_COMPENSATE_REFIT;
    r->job->down_bits += 8.0 * facet_quantize_block_bytes(down.pack) / FACET_BLOCK / n_layers;
    const float *bias =
        compensated.method == FACET_COMPENSATE_NONE ? NULL : r->original + (size_t)r->n_kept * r->d;
    facet_status status = r->job->take(r->job->ctx, layer, &down, bias, err);
    if (status == FACET_OK) status = advance(r, &down, bias, err);
    facet_quantized_fini(&down);
    b->result.seconds[FACET_STEP_COMPENSATE] += facet_clock_seconds(since);
    FACET_TRY(status);
    return facet_report_progress(b->opts->report, r->job->name, layer + 1, n_layers, err);
}

static void warn_of_few_tokens(const run *r)
{
    const uint64_t n_fit = r->job->n_fit;
    const double kept = r->b->keep * r->d_ff;
    if (r->job->blind || r->job->follow || r->b->opts->compensate != FACET_COMPENSATE_REFIT ||
        (double)n_fit >= 2.0 * kept)
        return;
    facet_report_log(r->b->opts->report, FACET_LOG_WARN,
                     "%s: %llu calibration tokens are few for a refit of %.0f channels a layer; a "
                     "stronger ridge is used; more text helps",
                     r->job->name, (unsigned long long)n_fit, kept);
}

facet_status facet_build_calibrate(facet_building *b, facet_calibrate_job *job, facet_err *err)
{
    run r;
    facet_status status = run_init(&r, b, job, err);
    if (status == FACET_OK) warn_of_few_tokens(&r);
    for (uint32_t layer = 0; layer < b->model->hp.n_layers && status == FACET_OK; layer++)
        status = compile_layer(&r, layer, err);
    if (status == FACET_OK && r.follow)
        status =
            b->ops->stream_nll(b->ops->ctx, r.follow, &job->follow_nats, &job->follow_scored, err);
    run_fini(&r);
    return status;
}
