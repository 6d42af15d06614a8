// SPDX-License-Identifier: Apache-2.0
// One set of kept channels through the layers, each layer compiled on the inputs that the compiled
// layers below it produce:
//
//     dense stream  --attn--ffn-->  x after the layer, dense        (residual targets only)
//     this stream   --attn--look--> z of kept channels, wanted y* -> moments
//                                   moments -> compensate -> quantise -> take
//                   --custom------> x after the layer, compiled
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
    float *original;   // (d_ff + 1, d) rows of the kept channels, then the bias
    float *sorted;     // (d_ff, d)
    float *source;     // (d_ff) one row of the source
    float *z, *wanted; // (chunk, n_kept + 1), (chunk, d)
    uint32_t chunk;
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

static facet_status reserve_chunk(run *r, uint32_t n, facet_err *err)
{
    if (n <= r->chunk) return FACET_OK;
    const facet_alloc *alloc = r->b->alloc;
    const size_t width = (size_t)r->d_ff + 1;
    float *z = facet_mem_resize(alloc, r->z, n, width * sizeof *z);
    if (!z) return facet_fail_memory(err, n * width * sizeof *z);
    r->z = z;
    float *wanted = facet_mem_resize(alloc, r->wanted, n, 2 * (size_t)r->d * sizeof *wanted);
    if (!wanted) return facet_fail_memory(err, n * 2 * (size_t)r->d * sizeof *wanted);
    r->wanted = wanted;
    r->chunk = n;
    return FACET_OK;
}

static float row_weight(const run *r, const float *y)
{
    if (!r->post_norm) return 1.0f;
    double sum = 0;
    for (uint32_t i = 0; i < r->d; i++)
        sum += (double)y[i] * (double)y[i];
    return (float)(1.0 / sqrt(sum / r->d + 1e-12));
}

static facet_status tap(void *ctx, const facet_build_chunk *chunk, facet_err *err)
{
    run *r = ctx;
    FACET_TRY(reserve_chunk(r, chunk->n, err));
    const uint32_t d = r->d, n = r->n_kept + 1;
    const float *dense =
        r->residual ? r->b->ops->stream_x(r->b->ops->ctx, r->dense) + chunk->first * d : NULL;
    float *y = r->wanted + (size_t)r->chunk * d;
    for (uint32_t t = 0; t < chunk->n; t++) {
        const float *from = chunk->z + (size_t)t * r->d_ff;
        const float weight = row_weight(r, chunk->y + (size_t)t * d);
        float *z = r->z + (size_t)t * n;
        for (uint32_t i = 0; i < r->n_kept; i++)
            z[i] = weight * from[r->channels[i]];
        z[n - 1] = weight;
        for (uint32_t i = 0; i < d; i++) {
            const size_t at = (size_t)t * d + i;
            y[at] = weight * chunk->y[at];
            r->wanted[at] = dense ? dense[at] - chunk->res[at] : y[at];
        }
    }
    const uint64_t fit = r->job->n_fit <= chunk->first ? 0 : r->job->n_fit - chunk->first;
    const uint32_t n_fit = fit < chunk->n ? (uint32_t)fit : chunk->n;
    const facet_moments_rows rows[FACET_PART_COUNT] = {
        {n_fit, r->z, r->wanted, y},
        {chunk->n - n_fit, r->z + (size_t)n_fit * n, r->wanted + (size_t)n_fit * d,
         y + (size_t)n_fit * d},
    };
    for (int part = 0; part < FACET_PART_COUNT; part++)
        facet_moments_add(&r->moments, part, &rows[part]);
    return FACET_OK;
}

static facet_status gather(run *r, facet_err *err)
{
    const facet_build_ops *ops = r->b->ops;
    if (r->dense) {
        FACET_TRY(ops->stream_attn(ops->ctx, r->dense, err));
        FACET_TRY(ops->stream_ffn(ops->ctx, r->dense, NULL, NULL, err));
    }
    FACET_TRY(ops->stream_attn(ops->ctx, r->stream, err));
    facet_moments_fini(&r->moments);
    FACET_TRY(facet_moments_init(&r->moments, r->n_kept, r->d, r->b->alloc, err));
    return ops->stream_look(ops->ctx, r->stream, tap, r, err);
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

// The rest of the network sees what is stored, rounding included.
static facet_status advance(run *r, const facet_quantized *down, const float *bias, facet_err *err)
{
    for (uint32_t i = 0; i < r->n_kept; i++)
        memcpy(r->sorted + (size_t)i * r->d, down->values + (size_t)r->order[i] * r->d,
               r->d * sizeof(float));
    const facet_build_custom custom = {r->ascending, r->n_kept, r->sorted, bias};
    const facet_build_ops *ops = r->b->ops;
    if (r->stream) FACET_TRY(ops->stream_custom(ops->ctx, r->stream, &custom, err));
    if (!r->follow) return FACET_OK;
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
    const double energy = r->job->blind ? 0 : r->moments.energy[FACET_PART_JUDGE];
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
