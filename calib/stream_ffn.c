// SPDX-License-Identifier: Apache-2.0
// The FFN of a layer, dense or pruned. An item of tokens lives in the lane of its place in the
// group:
//
//     xn = norm(x)    z = act(xn Wg) * (xn Wu)    y = z Wd + bias     on all threads
//     tap(xn, z, y, x)                                                on the caller, in token order
//     x += postnorm(y)                                                on all threads
#include <string.h>

#include "calib/activate.h"
#include "calib/stream_private.h"

typedef struct ffn_job {
    facet_stream *stream;
    uint32_t layer;
    const float *gate, *up; // (n_channels, d_model)
    const float *down;      // (d_model, n_channels), or (n_channels, d_model) when by_channel
    bool by_channel;
    bool no_down; // y is not wanted
    uint32_t n_channels;
    const float *bias; // (d_model) or NULL
    uint64_t first;    // token of the group
} ffn_job;

typedef struct ffn_buffers {
    float *xn, *z, *up, *y;
    uint64_t first; // token
    uint32_t n;
} ffn_buffers;

static ffn_buffers buffers_of(const ffn_job *job, uint64_t item)
{
    const facet_engine *engine = job->stream->engine;
    const size_t wide = (size_t)engine->unit * engine->model->hp.d_ff;
    const size_t narrow = (size_t)engine->unit * engine->model->hp.d_model;
    ffn_buffers b = {.first = job->first + item * engine->unit};
    const uint64_t left = job->stream->samples->n_tokens - b.first;
    b.n = left < engine->unit ? (uint32_t)left : engine->unit;
    b.xn = facet_engine_lane(engine, item);
    b.y = b.xn + narrow;
    b.z = b.y + narrow;
    b.up = b.z + wide;
    return b;
}

static void compute_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const ffn_job *job = ctx;
    const facet_engine *engine = job->stream->engine;
    const facet_hparams *hp = &engine->model->hp;
    const uint32_t d = hp->d_model, f = job->n_channels;
    const ffn_buffers b = buffers_of(job, item);
    facet_rms_norm(b.xn, job->stream->x + b.first * d,
                   facet_stream_vector(job->stream, false, FACET_ROLE_FFN_NORM, job->layer), b.n, d,
                   hp->rms_eps);
    facet_engine_product(engine, (const uint32_t[]){b.n, f, d}, b.xn, job->gate, true, b.z);
    facet_engine_product(engine, (const uint32_t[]){b.n, f, d}, b.xn, job->up, true, b.up);
    facet_activate(hp->act, b.z, b.up, (size_t)b.n * f);
    if (job->no_down) return;
    facet_engine_product(engine, (const uint32_t[]){b.n, d, f}, b.z, job->down, !job->by_channel,
                         b.y);
    for (uint32_t r = 0; job->bias && r < b.n; r++)
        for (uint32_t j = 0; j < d; j++)
            b.y[(size_t)r * d + j] += job->bias[j];
}

static void add_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const ffn_job *job = ctx;
    const facet_engine *engine = job->stream->engine;
    const facet_hparams *hp = &engine->model->hp;
    const ffn_buffers b = buffers_of(job, item);
    const float *post = facet_stream_vector(job->stream, false, FACET_ROLE_FFN_POST, job->layer);
    if (post) facet_rms_norm(b.y, b.y, post, b.n, hp->d_model, hp->rms_eps);
    float *x = job->stream->x + b.first * hp->d_model;
    for (size_t j = 0; j < (size_t)b.n * hp->d_model; j++)
        x[j] += b.y[j];
}

static facet_status tap_item(const ffn_job *job, uint64_t item, facet_ffn_tap *tap, void *ctx,
                             facet_err *err)
{
    const ffn_buffers b = buffers_of(job, item);
    const facet_ffn_chunk chunk = {
        .first = b.first,
        .n = b.n,
        .x = b.xn,
        .z = b.z,
        .y = job->no_down ? NULL : b.y,
        .res = job->stream->x + b.first * job->stream->engine->model->hp.d_model,
    };
    return tap(ctx, &chunk, err);
}

// Every token, a group of one item a thread at a time; `add` moves the residual stream on.
static facet_status groups_run(ffn_job *job, facet_ffn_tap *tap, void *ctx, bool add,
                               facet_err *err)
{
    facet_engine *engine = job->stream->engine;
    const uint64_t n_tokens = job->stream->samples->n_tokens;
    const uint64_t group = (uint64_t)engine->unit * engine->n_threads;
    for (job->first = 0; job->first < n_tokens; job->first += group) {
        const uint64_t left = n_tokens - job->first;
        const uint64_t n_items =
            left < group ? (left + engine->unit - 1) / engine->unit : engine->n_threads;
        FACET_TRY(facet_stream_progress(job->stream, job->first, err));
        facet_each(engine->pool, n_items, compute_item, job);
        for (uint64_t item = 0; tap && item < n_items; item++)
            FACET_TRY(tap_item(job, item, tap, ctx, err));
        if (add) facet_each(engine->pool, n_items, add_item, job);
    }
    return FACET_OK;
}

// Runs the groups and moves the stream to the next layer, or marks it as failed.
static facet_status layer_finish(ffn_job *job, facet_ffn_tap *tap, void *ctx, facet_err *err)
{
    facet_stream *stream = job->stream;
    const facet_status status = groups_run(job, tap, ctx, true, err);
    stream->failed = status != FACET_OK;
    if (status != FACET_OK) return status;
    stream->attn_done = false;
    stream->layer++;
    return FACET_OK;
}

static facet_status dense_job(facet_stream *stream, ffn_job *job, facet_err *err)
{
    FACET_TRY(facet_stream_expect(stream, FACET_STREAM_FFN, err));
    facet_engine *engine = stream->engine;
    *job =
        (ffn_job){.stream = stream, .layer = stream->layer, .n_channels = engine->model->hp.d_ff};
    FACET_TRY(facet_engine_matrix(engine, FACET_ROLE_GATE, job->layer, &job->gate, err));
    FACET_TRY(facet_engine_matrix(engine, FACET_ROLE_UP, job->layer, &job->up, err));
    return facet_engine_matrix(engine, FACET_ROLE_DOWN, job->layer, &job->down, err);
}

facet_status facet_stream_ffn(facet_stream *stream, facet_ffn_tap *tap, void *ctx, facet_err *err)
{
    ffn_job job;
    FACET_TRY(dense_job(stream, &job, err));
    return layer_finish(&job, tap, ctx, err);
}

facet_status facet_stream_ffn_look(facet_stream *stream, facet_ffn_tap *tap, void *ctx,
                                   facet_err *err)
{
    ffn_job job;
    FACET_TRY(dense_job(stream, &job, err));
    return groups_run(&job, tap, ctx, false, err);
}

facet_status facet_ffn_custom_check(const facet_ffn_custom *custom, uint32_t d_ff, facet_err *err)
{
    for (uint32_t i = 0; i < custom->n_kept; i++)
        if (custom->kept[i] >= d_ff || (i > 0 && custom->kept[i] <= custom->kept[i - 1]))
            return facet_fail(err, FACET_BAD_INPUT,
                              "pruned FFN: kept channel %u is not ascending below %u; "
                              "pass a sorted channel set",
                              (unsigned)custom->kept[i], (unsigned)d_ff);
    return FACET_OK;
}

// The kept rows of gate and up, and the kept columns of down unless the caller brings his own or
// wants no y.
typedef struct gathered {
    float *gate, *up, *down;
} gathered;

static void gathered_fini(gathered *g, const facet_alloc *alloc)
{
    facet_mem_free_aligned(alloc, g->gate);
    facet_mem_free_aligned(alloc, g->up);
    facet_mem_free_aligned(alloc, g->down);
}

// Points `job` at the rows of `custom`; free *g with gathered_fini when the job is done.
static facet_status gather(ffn_job *job, const facet_ffn_custom *custom, gathered *g,
                           facet_err *err)
{
    const facet_engine *engine = job->stream->engine;
    const facet_hparams *hp = &engine->model->hp;
    const size_t d = hp->d_model, n = custom->n_kept;
    const bool own_down = !custom->down && !job->no_down;
    *g = (gathered){0};
    FACET_TRY(facet_ffn_custom_check(custom, hp->d_ff, err));
    g->gate = facet_mem_new_aligned(engine->alloc, n, d * sizeof(float));
    g->up = facet_mem_new_aligned(engine->alloc, n, d * sizeof(float));
    if (own_down) g->down = facet_mem_new_aligned(engine->alloc, n, d * sizeof(float));
    if (!g->gate || !g->up || (own_down && !g->down))
        return facet_fail_memory(err, n * d * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        memcpy(g->gate + i * d, job->gate + custom->kept[i] * d, d * sizeof(float));
        memcpy(g->up + i * d, job->up + custom->kept[i] * d, d * sizeof(float));
    }
    for (size_t row = 0; own_down && row < d; row++)
        for (size_t i = 0; i < n; i++)
            g->down[row * n + i] = job->down[row * hp->d_ff + custom->kept[i]];
    job->gate = g->gate;
    job->up = g->up;
    job->down = custom->down ? custom->down : g->down;
    job->by_channel = custom->down != NULL;
    job->n_channels = custom->n_kept;
    job->bias = custom->bias;
    return FACET_OK;
}

facet_status facet_stream_ffn_custom(facet_stream *stream, const facet_ffn_custom *custom,
                                     facet_err *err)
{
    ffn_job job;
    gathered g;
    FACET_TRY(dense_job(stream, &job, err));
    facet_status status = gather(&job, custom, &g, err);
    if (status == FACET_OK) status = layer_finish(&job, NULL, NULL, err);
    gathered_fini(&g, stream->engine->alloc);
    return status;
}

facet_status facet_stream_ffn_look_kept(facet_stream *stream, const uint32_t *kept, uint32_t n_kept,
                                        facet_ffn_tap *tap, void *ctx, facet_err *err)
{
    const facet_ffn_custom custom = {.kept = kept, .n_kept = n_kept};
    ffn_job job;
    gathered g;
    FACET_TRY(dense_job(stream, &job, err));
    job.no_down = true;
    facet_status status = gather(&job, &custom, &g, err);
    if (status == FACET_OK) status = groups_run(&job, tap, ctx, false, err);
    gathered_fini(&g, stream->engine->alloc);
    return status;
}

facet_status facet_stream_ffn_add(facet_stream *stream, float *y, facet_err *err)
{
    FACET_TRY(facet_stream_expect(stream, FACET_STREAM_FFN, err));
    const facet_hparams *hp = &stream->engine->model->hp;
    const float *post = facet_stream_vector(stream, false, FACET_ROLE_FFN_POST, stream->layer);
    for (uint64_t t = 0; t < stream->samples->n_tokens; t++) {
        float *row = y + t * hp->d_model, *x = stream->x + t * hp->d_model;
        if (post) facet_rms_norm(row, row, post, 1, hp->d_model, hp->rms_eps);
        for (uint32_t j = 0; j < hp->d_model; j++)
            x[j] += row[j];
    }
    stream->attn_done = false;
    stream->layer++;
    return FACET_OK;
}

#define TRANSPOSE_TILE 64u // both sides of a tile stay in the first cache

facet_status facet_stream_down(const facet_stream *stream, uint32_t layer, float *down,
                               facet_err *err)
{
    const facet_hparams *hp = &stream->engine->model->hp;
    const size_t d = hp->d_model, f = hp->d_ff;
    const float *rows; // (d_model, d_ff)
    FACET_TRY(facet_engine_matrix(stream->engine, FACET_ROLE_DOWN, layer, &rows, err));
    for (size_t c0 = 0; c0 < f; c0 += TRANSPOSE_TILE)
        for (size_t r0 = 0; r0 < d; r0 += TRANSPOSE_TILE)
            for (size_t c = c0; c < f && c < c0 + TRANSPOSE_TILE; c++)
                for (size_t r = r0; r < d && r < r0 + TRANSPOSE_TILE; r++)
                    down[c * d + r] = rows[r * f + c];
    return FACET_OK;
}
