// SPDX-License-Identifier: Apache-2.0
#include "tools/glue_build.h"

#include "calib/stream.h"
#include "tools/agree.h"
#include "tools/glue_check.h"
#include "tools/loss.h"
#include "tools/resolve.h"
#include "tools/score.h"
#include "train/distill.h"

// ---- streams
// --------------------------------------------------------------------------------------

static facet_status stream_new(void *ctx, const facet_model *model, const facet_samples *samples,
                               void **stream, facet_err *err)
{
    const facet_tool *tool = ctx;
    const facet_stream_opts opts = {
        .n_threads = tool->n_threads, .precision = tool->precision, .report = &tool->report};
    facet_stream *made;
    FACET_TRY(facet_stream_new(model, samples, &opts, &made, err));
    *stream = made;
    return FACET_OK;
}

static void stream_free(void *ctx, void *stream)
{
    (void)ctx;
    facet_stream_free(stream);
}

static facet_status stream_copy(void *ctx, const void *stream, void **copy, facet_err *err)
{
    (void)ctx;
    facet_stream *made;
    FACET_TRY(facet_stream_copy(stream, &made, err));
    *copy = made;
    return FACET_OK;
}

static void stream_own(void *ctx, void *stream, const facet_vectors *own, bool answers_only)
{
    (void)ctx;
    facet_stream_own(stream, own, answers_only);
}

static void stream_prompts(void *ctx, void *stream, const float *x)
{
    (void)ctx;
    facet_stream_prompts(stream, x);
}

static facet_status stream_attn(void *ctx, void *stream, facet_err *err)
{
    (void)ctx;
    return facet_stream_attn(stream, err);
}

// The two rooms may not share a struct, so a chunk is handed over field by field.
typedef struct tap_bridge {
    facet_build_tap *tap;
    void *ctx;
} tap_bridge;

static facet_status cross(void *ctx, const facet_ffn_chunk *chunk, facet_err *err)
{
    const tap_bridge *bridge = ctx;
    const facet_build_chunk given = {
        .first = chunk->first,
        .n = chunk->n,
        .x = chunk->x,
        .z = chunk->z,
        .y = chunk->y,
        .res = chunk->res,
    };
    return bridge->tap(bridge->ctx, &given, err);
}

static facet_status stream_ffn(void *ctx, void *stream, facet_build_tap *tap, void *tap_ctx,
                               facet_err *err)
{
    (void)ctx;
    tap_bridge bridge = {tap, tap_ctx};
    return facet_stream_ffn(stream, tap != NULL ? cross : NULL, &bridge, err);
}

static facet_status stream_look(void *ctx, void *stream, facet_build_tap *tap, void *tap_ctx,
                                facet_err *err)
{
    (void)ctx;
    tap_bridge bridge = {tap, tap_ctx};
    return facet_stream_ffn_look(stream, tap != NULL ? cross : NULL, &bridge, err);
}

static facet_status stream_look_kept(void *ctx, void *stream, const uint32_t *kept, uint32_t n_kept,
                                     facet_build_tap *tap, void *tap_ctx, facet_err *err)
{
    (void)ctx;
    tap_bridge bridge = {tap, tap_ctx};
    return facet_stream_ffn_look_kept(stream, kept, n_kept, cross, &bridge, err);
}

static facet_status stream_add(void *ctx, void *stream, float *y, facet_err *err)
{
    (void)ctx;
    return facet_stream_ffn_add(stream, y, err);
}

static facet_status stream_custom(void *ctx, void *stream, const facet_build_custom *custom,
                                  facet_err *err)
{
    (void)ctx;
    const facet_ffn_custom given = {
        .kept = custom->kept,
        .n_kept = custom->n_kept,
        .down = custom->down,
        .bias = custom->bias,
    };
    return facet_stream_ffn_custom(stream, &given, err);
}

static const float *stream_x(void *ctx, const void *stream)
{
    (void)ctx;
    return facet_stream_x(stream);
}

static facet_status stream_nll(void *ctx, void *stream, double *nats, uint64_t *scored,
                               facet_err *err)
{
    (void)ctx;
    return facet_stream_nll(stream, nats, scored, NULL, err);
}

// ---- training
// -----------------------------------------------------------------------------------

static facet_status tune(void *ctx, const facet_model *model, facet_build_tuning *tuning,
                         facet_err *err)
{
    const facet_tool *tool = ctx;
    const uint32_t n_layers = model->hp.n_layers;
    facet_distill_layer *layers = facet_mem_new(NULL, n_layers, sizeof *layers);
    if (layers == NULL) return facet_fail_memory(err, n_layers * sizeof *layers);
    for (uint32_t i = 0; i < n_layers; i++) {
        const facet_build_rows *rows = &tuning->layers[i];
        layers[i] = (facet_distill_layer){rows->kept, rows->n_kept, rows->down, rows->bias};
    }
    const facet_distill_data data = {.model = model,
                                     .layers = layers,
                                     .train = &tuning->fit,
                                     .judge = &tuning->judge,
                                     .own = tuning->own,
                                     .dense_prompts = tuning->dense_prompts};
    facet_distill_opts opts = FACET_DISTILL_OPTS_DEFAULT;
    opts.epochs = tuning->passes;
    opts.text = tuning->text;
    opts.seed = tuning->seed;
    opts.n_threads = tool->n_threads;
    opts.precision = tool->precision;
    opts.report = &tool->report;
    facet_distill_result result = {0};
    const facet_status status = facet_distill(&data, &opts, &result, err);
    facet_mem_free(NULL, layers);
    tuning->changed = result.best_step > 0;
    tuning->loss_before = result.before;
    tuning->loss_after = result.after;
    tuning->tokens = result.tokens;
    return status;
}

// ---- the runtime
// ------------------------------------------------------------------------------------

static facet_status check(void *ctx, const char *path, const facet_plan *plan, facet_err *err)
{
    const facet_tool *tool = ctx;
    facet_check_result result;
    return facet_glue_check(tool, path, plan, &result, err);
}

static facet_status loss(void *ctx, const char *bundle_path, const char *family,
                         const facet_samples *samples, bool dense_prompts, double *nats,
                         uint64_t *scored, facet_err *err)
{
    const facet_tool *tool = ctx;
    facet_bundle *bundle;
    FACET_TRY(facet_resolve_bundle(tool, bundle_path, &bundle, err));
    const char *reader = dense_prompts ? "dense" : family;
    const facet_status status =
        facet_loss_samples(tool, bundle, reader, family, samples, nats, scored, err);
    facet_close(bundle);
    return status;
}

static facet_status agree(void *ctx, const char *bundle_path, const char *family,
                          const facet_samples *samples, bool dense_prompts,
                          facet_build_agreement *out, facet_err *err)
{
    const facet_tool *tool = ctx;
    facet_bundle *bundle;
    FACET_TRY(facet_resolve_bundle(tool, bundle_path, &bundle, err));
    const char *reader = dense_prompts ? "dense" : family;
    const facet_status status =
        facet_agree_samples(tool, bundle, reader, family, samples, out, err);
    facet_close(bundle);
    return status;
}

static facet_status score(void *ctx, const char *bundle_path, const char *family,
                          const facet_build_score *asked, double *value, facet_err *err)
{
    return facet_score_run(ctx, bundle_path, family, asked, value, err);
}

facet_build_ops facet_glue_build(facet_tool *tool)
{
    return (facet_build_ops){
        .ctx = tool,
        .stream_new = stream_new,
        .stream_free = stream_free,
        .stream_copy = stream_copy,
        .stream_own = stream_own,
        .stream_prompts = stream_prompts,
        .stream_attn = stream_attn,
        .stream_ffn = stream_ffn,
        .stream_look = stream_look,
        .stream_look_kept = stream_look_kept,
        .stream_add = stream_add,
        .stream_custom = stream_custom,
        .stream_x = stream_x,
        .stream_nll = stream_nll,
        .tune = tune,
        .check = check,
        .loss = loss,
        .agree = agree,
        .score = score,
    };
}
