// SPDX-License-Identifier: Apache-2.0
// The attention block of a layer, for batches of whole samples:
//
//     x --norm--> xn --Wq Wk Wv, biases, q/k norms, rotary--> q, k, v      items: rows of tokens
//     q --softmax(q k^T) v, causal, windowed--> q's place                 items: (sample, head)
//     q --Wo, bias, post norm--> added to x                               items: rows of tokens
#include <cblas.h>
#include <math.h>
#include <string.h>

#include "calib/exp.h"
#include "calib/rotary.h"
#include "calib/stream_private.h"

typedef struct attn_job {
    facet_stream *stream;
    uint32_t layer;
    bool local;
    const float *wq, *wk, *wv, *wo;
    float *q, *k, *v;           // (n_tokens of the batch, heads of each * head_dim)
    uint32_t sample, n_samples; // the batch
    uint64_t token, n_tokens;
    const uint32_t *position; // (n_tokens of the stream) within the sample
    const uint64_t *start;    // (n samples of the stream) first token
    float *keep_k, *keep_v;   // where the next prompt's keys and values go, or NULL
} attn_job;

// Rows of the item: first row within the batch, and how many.
static uint32_t item_rows(const attn_job *job, uint64_t item, uint64_t *first)
{
    const uint32_t unit = job->stream->engine->unit;
    *first = item * unit;
    const uint64_t left = job->n_tokens - *first;
    return left < unit ? (uint32_t)left : unit;
}

static void add_bias(float *rows, const float *bias, uint32_t n_rows, uint32_t n)
{
    if (!bias) return;
    for (uint32_t r = 0; r < n_rows; r++)
        for (uint32_t j = 0; j < n; j++)
            rows[(size_t)r * n + j] += bias[j];
}

// One of q, k, v for the rows of an item: product, bias, norm of each head, rotary.
static void project(const attn_job *job, const float *xn, uint64_t first, uint32_t n_rows,
                    facet_role role, float *out)
{
    const facet_engine *engine = job->stream->engine;
    const facet_hparams *hp = &engine->model->hp;
    const bool is_q = role == FACET_ROLE_Q, is_v = role == FACET_ROLE_V;
    const float *w = is_q ? job->wq : is_v ? job->wv : job->wk;
    const facet_role bias = is_q ? FACET_ROLE_Q_BIAS : is_v ? FACET_ROLE_V_BIAS : FACET_ROLE_K_BIAS;
    const uint32_t n_heads = is_q ? hp->n_heads : hp->n_kv_heads;
    const uint32_t n = n_heads * hp->head_dim;
    const facet_role norm = is_q ? FACET_ROLE_Q_NORM : FACET_ROLE_K_NORM;
    float *rows = out + (size_t)first * n;
    facet_engine_product(engine, (const uint32_t[]){n_rows, n, hp->d_model}, xn, w, true, rows);
    facet_stream_run run;
    for (uint32_t r = 0; r < n_rows; r += run.n) {
        run = facet_stream_run_at(job->stream, job->token + first + r, n_rows - r);
        float *own = rows + (size_t)r * n;
        add_bias(own, facet_stream_vector(job->stream, run.model, bias, job->layer), run.n, n);
        if (is_v) continue;
        const float *gain = facet_stream_vector(job->stream, run.model, norm, job->layer);
        if (gain) facet_rms_norm(own, own, gain, run.n * n_heads, hp->head_dim, hp->rms_eps);
    }
    if (is_v || hp->rotary == FACET_ROTARY_NONE) return;
    for (uint32_t r = 0; r < n_rows; r++) {
        const size_t position = job->position[job->token + first + r];
        const float *angles =
            engine->rotary[job->local] + position * ((size_t)hp->rope_dims / 2 * 2);
        facet_rotary_apply(hp, angles, n_heads, rows + (size_t)r * n);
    }
}

static void qkv_item(void *ctx, uint32_t thread, uint64_t item)
{
    const attn_job *job = ctx;
    const facet_engine *engine = job->stream->engine;
    const facet_hparams *hp = &engine->model->hp;
    uint64_t first;
    const uint32_t n = item_rows(job, item, &first);
    float *xn = facet_engine_lane(engine, thread);
    facet_stream_run run;
    for (uint32_t r = 0; r < n; r += run.n) {
        const uint64_t token = job->token + first + r;
        run = facet_stream_run_at(job->stream, token, n - r);
        facet_rms_norm(
            xn + (size_t)r * hp->d_model, job->stream->x + token * hp->d_model,
            facet_stream_vector(job->stream, run.model, FACET_ROLE_ATTN_NORM, job->layer), run.n,
            hp->d_model, hp->rms_eps);
    }
    project(job, xn, first, n, FACET_ROLE_Q, job->q);
    project(job, xn, first, n, FACET_ROLE_K, job->k);
    project(job, xn, first, n, FACET_ROLE_V, job->v);
}

// Scores of query rows q0.. over keys lo..hi-1 become weights; keys outside the window or after the
// query get 0.
static void softmax_rows(float *scores, uint32_t q0, uint32_t n_rows, uint32_t lo, uint32_t hi,
                         uint32_t window)
{
    const uint32_t n = hi - lo;
    for (uint32_t r = 0; r < n_rows; r++, scores += n) {
        const uint32_t position = q0 + r;
        const uint32_t oldest = window && position >= window ? position - window + 1 : 0;
        const uint32_t begin = oldest > lo ? oldest - lo : 0, end = position + 1 - lo;
        float max = scores[begin];
        for (uint32_t j = begin + 1; j < end; j++)
            if (scores[j] > max) max = scores[j];
        for (uint32_t j = begin; j < end; j++)
            scores[j] = facet_exp(scores[j] - max);
        double sum = 0;
        for (uint32_t j = begin; j < end; j++)
            sum += (double)scores[j];
        const float scale = (float)(1.0 / sum);
        for (uint32_t j = begin; j < end; j++)
            scores[j] *= scale;
        memset(scores, 0, begin * sizeof *scores);
        memset(scores + end, 0, (n - end) * sizeof *scores);
    }
}

// One head of one sample. The result takes the place of the queries, which are read before.
static void attend_item(void *ctx, uint32_t thread, uint64_t item)
{
    const attn_job *job = ctx;
    const facet_engine *engine = job->stream->engine;
    const facet_hparams *hp = &engine->model->hp;
    const uint32_t sample = job->sample + (uint32_t)(item / hp->n_heads);
    const uint32_t head = (uint32_t)(item % hp->n_heads);
    const uint32_t kv_head = head / (hp->n_heads / hp->n_kv_heads);
    const uint32_t n = job->stream->samples->lengths[sample], dim = hp->head_dim;
    const size_t q_row = (size_t)hp->n_heads * dim, kv_row = (size_t)hp->n_kv_heads * dim;
    const uint64_t first = job->start[sample] - job->token;
    float *q = job->q + first * q_row + (size_t)head * dim;
    const float *k = job->k + first * kv_row + (size_t)kv_head * dim;
    const float *v = job->v + first * kv_row + (size_t)kv_head * dim;
    const uint32_t window = job->local ? hp->window : 0;
    float *scores = facet_engine_lane(engine, thread);
    for (uint32_t q0 = 0; q0 < n; q0 += FACET_ENGINE_QUERY) {
        const uint32_t rows = n - q0 < FACET_ENGINE_QUERY ? n - q0 : FACET_ENGINE_QUERY;
        const uint32_t lo = window && q0 >= window ? q0 - window + 1 : 0, hi = q0 + rows;
        float *block = q + q0 * q_row;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)(hi - lo), (int)dim,
                    hp->attn_scale, block, (int)q_row, k + lo * kv_row, (int)kv_row, 0.0f, scores,
                    (int)(hi - lo));
        softmax_rows(scores, q0, rows, lo, hi, window);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)dim, (int)(hi - lo),
                    1.0f, scores, (int)(hi - lo), v + lo * kv_row, (int)kv_row, 0.0f, block,
                    (int)q_row);
    }
}

static void out_item(void *ctx, uint32_t thread, uint64_t item)
{
    const attn_job *job = ctx;
    const facet_engine *engine = job->stream->engine;
    const facet_hparams *hp = &engine->model->hp;
    const uint32_t d = hp->d_model, n_in = hp->n_heads * hp->head_dim;
    uint64_t first;
    const uint32_t n = item_rows(job, item, &first);
    float *y = facet_engine_lane(engine, thread);
    facet_engine_product(engine, (const uint32_t[]){n, d, n_in}, job->q + first * n_in, job->wo,
                         true, y);
    // No family has an output bias of its own, and a prompt's post norm is dense's again behind the
    // layer.
    add_bias(y, facet_stream_vector(job->stream, false, FACET_ROLE_O_BIAS, job->layer), n, d);
    const float *post = facet_stream_vector(job->stream, false, FACET_ROLE_ATTN_POST, job->layer);
    if (post) facet_rms_norm(y, y, post, n, d, hp->rms_eps);
    float *x = job->stream->x + (job->token + first) * d;
    for (size_t j = 0; j < (size_t)n * d; j++)
        x[j] += y[j];
}

// Keys and values of the batch's prompts.
static void keep_prompts(attn_job *job)
{
    const facet_hparams *hp = &job->stream->engine->model->hp;
    const size_t row = (size_t)hp->n_kv_heads * hp->head_dim;
    for (uint32_t i = job->sample; i < job->sample + job->n_samples; i++) {
        const size_t n = facet_samples_prompt(job->stream->samples, i) * row;
        const size_t from = (size_t)(job->start[i] - job->token) * row;
        memcpy(job->keep_k, job->k + from, n * sizeof *job->k);
        memcpy(job->keep_v, job->v + from, n * sizeof *job->v);
        job->keep_k += n;
        job->keep_v += n;
    }
}

// The next batch: whole samples that fit the buffers together. False at the end.
static bool batch_next(attn_job *job)
{
    const facet_samples *samples = job->stream->samples;
    job->sample += job->n_samples;
    job->token += job->n_tokens;
    job->n_samples = 0;
    job->n_tokens = 0;
    for (uint32_t i = job->sample; i < samples->n; i++) {
        if (job->n_tokens + samples->lengths[i] > job->stream->engine->n_batch) break;
        job->n_tokens += samples->lengths[i];
        job->n_samples++;
    }
    return job->n_samples > 0;
}

static facet_status batches_run(attn_job *job, facet_err *err)
{
    facet_engine *engine = job->stream->engine;
    const facet_hparams *hp = &engine->model->hp;
    job->q = engine->shared;
    job->k = job->q + engine->n_batch * hp->n_heads * hp->head_dim;
    job->v = job->k + engine->n_batch * hp->n_kv_heads * hp->head_dim;
    while (batch_next(job)) {
        const uint64_t n_units = (job->n_tokens + engine->unit - 1) / engine->unit;
        FACET_TRY(facet_stream_progress(job->stream, job->token, err));
        facet_each(engine->pool, n_units, qkv_item, job);
        if (job->keep_k) keep_prompts(job);
        facet_each(engine->pool, (uint64_t)job->n_samples * hp->n_heads, attend_item, job);
        facet_each(engine->pool, n_units, out_item, job);
    }
    return FACET_OK;
}

facet_status facet_stream_attn(facet_stream *stream, facet_err *err)
{
    return facet_stream_attn_keep(stream, NULL, NULL, err);
}

facet_status facet_stream_attn_keep(facet_stream *stream, float *keys, float *values,
                                    facet_err *err)
{
    FACET_TRY(facet_stream_expect(stream, FACET_STREAM_ATTN, err));
    facet_engine *engine = stream->engine;
    const facet_samples *samples = stream->samples;
    const uint32_t layer = stream->layer;
    attn_job job = {.stream = stream,
                    .layer = layer,
                    .local = facet_model_windowed(&engine->model->hp, layer),
                    .keep_k = keys,
                    .keep_v = values};
    uint32_t *position = facet_mem_new(engine->alloc, (size_t)samples->n_tokens, sizeof *position);
    uint64_t *start = facet_mem_new(engine->alloc, samples->n, sizeof *start);
    facet_status status;
    if (!position || !start) {
        status = facet_fail_memory(err, (size_t)samples->n_tokens * sizeof *position);
        goto done;
    }
    uint64_t token = 0;
    for (uint32_t i = 0; i < samples->n; i++) {
        start[i] = token;
        for (uint32_t p = 0; p < samples->lengths[i]; p++)
            position[token++] = p;
    }
    job.position = position;
    job.start = start;
    FACET_TRY_GOTO(facet_engine_matrix(engine, FACET_ROLE_Q, layer, &job.wq, err), done);
    FACET_TRY_GOTO(facet_engine_matrix(engine, FACET_ROLE_K, layer, &job.wk, err), done);
    FACET_TRY_GOTO(facet_engine_matrix(engine, FACET_ROLE_V, layer, &job.wv, err), done);
    FACET_TRY_GOTO(facet_engine_matrix(engine, FACET_ROLE_O, layer, &job.wo, err), done);
    status = batches_run(&job, err);
    stream->failed = status != FACET_OK;
    stream->attn_done = status == FACET_OK;
done:
    facet_mem_free(engine->alloc, position);
    facet_mem_free(engine->alloc, start);
    return status;
}
