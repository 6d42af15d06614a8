// SPDX-License-Identifier: Apache-2.0
// One set of kept channels through the layers, each layer compiled on the inputs that the compiled
// layers below it produce:
//
//     dense stream  --attn--ffn-->  x after the layer, dense     (unless the target is `layer`)
//     this stream   --attn--look--> z of kept channels, wanted y* -> moments
//                                   moments -> compensate -> quantise -> take
//                                   (tuned rows: moments -> quantise -> take; this stream then
//                                    has the family's vectors, the dense one never)
//                   --add z down--> x after the layer, compiled; where dense reads the prompts,
//                                   their x is the dense stream's
#include <string.h>

#include "base/clock.h"
#include "compiler/build_parts.h"
#include "compiler/build_tune.h"
#include "compiler/layer_fit.h"
#include "compiler/pack.h"
#include "compiler/weights.h"

typedef struct run {
    facet_building *b;
    facet_calibrate_job *job;
    facet_layer_fit fit;
    uint32_t n_cols; // stored columns of the layer at hand
    float *sorted;   // (d_ff, d) rows in ascending order
    void *stream, *dense, *follow, *follow_dense;
    const float *behind; // (n_tokens, d) dense's states behind the layer at hand, or NULL
    double ridge;
    facet_pack pack;
} run;

static void run_fini(run *r)
{
    const facet_build_ops *ops = r->b->ops;
    if (r->stream) ops->stream_free(ops->ctx, r->stream);
    if (r->dense) ops->stream_free(ops->ctx, r->dense);
    if (r->follow) ops->stream_free(ops->ctx, r->follow);
    if (r->follow_dense) ops->stream_free(ops->ctx, r->follow_dense);
    facet_layer_fit_fini(&r->fit);
    facet_mem_free(r->b->alloc, r->sorted);
}

// r->b is set, the rest is empty.
static facet_status run_init(run *r, facet_err *err)
{
    facet_building *b = r->b;
    const facet_calibrate_job *job = r->job;
    const facet_build_ops *ops = b->ops;
    const bool dense_prompts = b->opts->dense_prompts;
    FACET_TRY(facet_layer_fit_init(&r->fit, b, job->target, job->blind ? NULL : job->samples,
                                   job->n_fit, err));
    r->pack = FACET_PACK_COUNT;
    if (job->follow) {
        const size_t row = b->model->hp.d_model * sizeof(float);
        r->sorted = facet_mem_new(b->alloc, b->model->hp.d_ff, row);
        if (!r->sorted) return facet_fail_memory(err, b->model->hp.d_ff * row);
        FACET_TRY(ops->stream_new(ops->ctx, b->model, job->follow, &r->follow, err));
        if (dense_prompts) FACET_TRY(ops->stream_copy(ops->ctx, r->follow, &r->follow_dense, err));
    }
    if (job->blind) return FACET_OK;
    FACET_TRY(ops->stream_new(ops->ctx, b->model, job->samples, &r->stream, err));
    if ((r->fit.repair > 0 || dense_prompts) && !job->trail)
        FACET_TRY(ops->stream_copy(ops->ctx, r->stream, &r->dense, err));
    const facet_vectors *own = facet_tuned_own(job->given);
    if (own) ops->stream_own(ops->ctx, r->stream, own, dense_prompts);
    if (own && r->follow) ops->stream_own(ops->ctx, r->follow, own, dense_prompts);
    return FACET_OK;
}

static facet_status gather(run *r, uint32_t layer, facet_err *err)
{
    const facet_build_ops *ops = r->b->ops;
    const facet_trail *trail = r->job->trail;
    r->behind = NULL;
    if (r->dense) {
        FACET_TRY(facet_layer_fit_dense(&r->fit, r->dense, err));
        r->behind = ops->stream_x(ops->ctx, r->dense);
    } else if (trail) {
        r->behind = trail->x + layer * (size_t)r->fit.n_tokens * r->fit.d;
        r->fit.energy = trail->energy[layer];
    }
    FACET_TRY(ops->stream_attn(ops->ctx, r->stream, err));
    return facet_layer_fit_look(&r->fit, r->stream, r->fit.repair > 0 ? r->behind : NULL, err);
}

// ---- the layer's down projection
// -----------------------------------------------------------------

static facet_status store(run *r, uint32_t layer, double error, facet_quantized *down,
                          facet_err *err)
{
    const facet_pack source = facet_weights_pack(r->b->model, FACET_ROLE_DOWN, layer);
    facet_quantize_problem problem = {.n = r->fit.n_kept,
                                      .n_cols = r->n_cols,
                                      .d = r->fit.d,
                                      .rows = r->fit.rows,
                                      .alloc = r->b->alloc};
    const bool given = r->b->opts->down_8bit;
    // Float sources stay what they are.
    if (facet_pack_cols(source) == 1 && !given) return facet_quantize(&problem, source, down, err);
    float *feedback = NULL;
    facet_quantize_choice choice = {
        .moments = r->job->blind ? NULL : &r->fit.moments, .error = error, .only_8bit = given};
    if (choice.moments) FACET_TRY(facet_quantize_feedback(&r->fit.moments, &feedback, err));
    problem.feedback = feedback;
    const facet_status status = facet_quantize_best(&problem, &choice, &r->pack, down, err);
    facet_mem_free(r->b->alloc, feedback);
    r->job->quantize_error += choice.added / r->b->model->hp.n_layers;
    return status;
}

// The stream of what fits and judges.
static facet_status advance_stream(run *r, const float *rows, const float *bias, facet_err *err)
{
    const facet_build_ops *ops = r->b->ops;
    if (r->job->target == FACET_REFIT_ONESHOT && !r->job->given)
        return ops->stream_ffn(ops->ctx, r->stream, NULL, NULL, err);
    facet_layer_fit_output(&r->fit, rows, bias);
    FACET_TRY(ops->stream_add(ops->ctx, r->stream, r->fit.wanted, err));
    if (r->b->opts->dense_prompts) ops->stream_prompts(ops->ctx, r->stream, r->behind);
    return FACET_OK;
}

// The rest of the network sees what is stored, rounding included.
static facet_status advance(run *r, const float *rows, const float *bias, facet_err *err)
{
    const facet_build_ops *ops = r->b->ops;
    const facet_layer_fit *fit = &r->fit;
    if (r->stream) FACET_TRY(advance_stream(r, rows, bias, err));
    if (!r->follow) return FACET_OK;
    for (uint32_t i = 0; i < fit->n_kept; i++)
        memcpy(r->sorted + (size_t)i * fit->d, rows + (size_t)fit->order[i] * fit->d,
               fit->d * sizeof(float));
    const facet_build_custom custom = {fit->ascending, fit->n_kept, r->sorted, bias};
    FACET_TRY(ops->stream_attn(ops->ctx, r->follow, err));
    FACET_TRY(ops->stream_custom(ops->ctx, r->follow, &custom, err));
    if (!r->follow_dense) return FACET_OK;
    FACET_TRY(ops->stream_attn(ops->ctx, r->follow_dense, err));
    FACET_TRY(ops->stream_ffn(ops->ctx, r->follow_dense, NULL, NULL, err));
    ops->stream_prompts(ops->ctx, r->follow, ops->stream_x(ops->ctx, r->follow_dense));
    return FACET_OK;
}

// The rows of the layer: solved for, or those that were given, whose error is measured.
static facet_status solve(run *r, uint32_t layer, facet_compensated *compensated, facet_err *err)
{
    facet_layer_fit *fit = &r->fit;
    *compensated = (facet_compensated){.method = FACET_COMPENSATE_NONE};
    if (r->job->blind) return FACET_OK;
    FACET_TRY(gather(r, layer, err));
    if (!r->job->given) {
        const facet_compensation method =
            r->job->rehearses ? facet_build_trial_method(r->b) : facet_build_method(r->b);
        return facet_compensate_layer(&fit->moments, method, layer, &r->ridge, fit->rows,
                                      compensated, err);
    }
    FACET_TRY(facet_moments_check(&fit->moments, layer, err));
    facet_tuned_get(r->job->given, layer, fit);
    const size_t cells = ((size_t)fit->n_kept + 1) * fit->d;
    float *scratch = facet_mem_new(r->b->alloc, cells, sizeof *scratch);
    if (!scratch) return facet_fail_memory(err, cells * sizeof *scratch);
    compensated->method = FACET_COMPENSATE_TUNE;
    compensated->error = facet_moments_error(&fit->moments, FACET_PART_JUDGE, fit->rows, scratch);
    facet_mem_free(r->b->alloc, scratch);
    return FACET_OK;
}

// Rounds the rows, hands them over and moves on.
static facet_status store_layer(run *r, uint32_t layer, double error, const float *bias,
                                facet_err *err)
{
    facet_building *b = r->b;
    uint64_t since = facet_clock_ns();
    facet_quantized down;
    FACET_TRY(store(r, layer, error, &down, err));
    b->result.seconds[FACET_STEP_QUANTIZE] += facet_clock_seconds(since);
    since = facet_clock_ns();
    r->job->down_bits +=
        8.0 * facet_quantize_block_bytes(down.pack) / FACET_BLOCK / b->model->hp.n_layers;
    facet_status status =
        r->job->take ? r->job->take(r->job->ctx, layer, &down, bias, err) : FACET_OK;
    if (status == FACET_OK) status = advance(r, down.values, bias, err);
    facet_quantized_fini(&down);
    b->result.seconds[FACET_STEP_COMPENSATE] += facet_clock_seconds(since);
    return status;
}

static const double tuned_error = 0.25; // of the output's energy

static facet_status compile_layer(run *r, uint32_t layer, facet_err *err)
{
    facet_building *b = r->b;
    facet_calibrate_job *job = r->job;
    const uint32_t n_layers = b->model->hp.n_layers;
    const uint64_t since = facet_clock_ns();
    facet_compensated compensated;
    const uint32_t n_kept = job->channels(job->ctx, layer, r->fit.channels, &r->n_cols);
    FACET_TRY(facet_layer_fit_begin(&r->fit, layer, n_kept, err));
    FACET_TRY(solve(r, layer, &compensated, err));
    const double energy = job->blind ? 0 : r->fit.moments.energy;
    if (energy > 0) job->layer_error += compensated.error / energy / n_layers;
    job->refitted += compensated.method == FACET_COMPENSATE_REFIT;
    const float *bias = compensated.method == FACET_COMPENSATE_NONE
                            ? NULL
                            : r->fit.rows + (size_t)r->fit.n_kept * r->fit.d;
    if (job->collect) FACET_TRY(facet_tuned_put(job->collect, layer, &r->fit, err));
    if (job->rehearses) FACET_TRY(advance(r, r->fit.rows, bias, err));
    b->result.seconds[FACET_STEP_COMPENSATE] += facet_clock_seconds(since);
    // Tuned rows do not follow the dense stream, so their distance to it says nothing about how
    // finely they must be stored; a refit leaves about this much.
    const double left = job->given && compensated.error > tuned_error * energy
                            ? tuned_error * energy
                            : compensated.error;
    if (!job->rehearses) FACET_TRY(store_layer(r, layer, left, bias, err));
    return facet_report_progress(b->opts->report, job->name, layer + 1, n_layers, err);
}

static void warn_of_few_tokens(const run *r)
{
    const uint64_t n_fit = r->fit.n_fitting;
    const double kept = r->b->keep * r->fit.d_ff;
    if (r->job->blind || r->job->follow || r->job->given ||
        facet_build_method(r->b) != FACET_COMPENSATE_REFIT || (double)n_fit >= 2.0 * kept)
        return;
    facet_report_log(r->b->opts->report, FACET_LOG_WARN,
                     "%s: %llu calibration tokens are few for a refit of %.0f channels a layer; a "
                     "stronger ridge is used; more text or --calibration-tokens helps",
                     r->job->name, (unsigned long long)n_fit, kept);
}

facet_status facet_build_calibrate(facet_building *b, facet_calibrate_job *job, facet_err *err)
{
    run r = {.b = b, .job = job, .fit = {.b = b}};
    facet_status status = run_init(&r, err);
    if (status == FACET_OK) warn_of_few_tokens(&r);
    for (uint32_t layer = 0; layer < b->model->hp.n_layers && status == FACET_OK; layer++)
        status = compile_layer(&r, layer, err);
    if (status == FACET_OK && r.follow)
        status =
            b->ops->stream_nll(b->ops->ctx, r.follow, &job->follow_nats, &job->follow_scored, err);
    run_fini(&r);
    return status;
}
