// SPDX-License-Identifier: Apache-2.0
// The head: logits = norm(x) Wh^T. A vocabulary of 262,144 rows does not fit as floats, nor do the
// logits of many tokens, so the matrix is swept in blocks of rows, and a reader folds each block of
// logits into what it keeps for a token.
#include <math.h>
#include <string.h>

#include "calib/stream_private.h"

// Logits of token `token` for the ids first_id .. first_id + n - 1. Called from many threads, one
// token at a time on one of them.
typedef void head_reader(void *ctx, uint64_t token, uint32_t first_id, uint32_t n,
                         const float *logits);

typedef struct head_job {
    const facet_stream *stream;
    const float *rows; // (n_ids, d_model)
    uint32_t first_id, n_ids;
    uint64_t first, n_tokens;
    head_reader *read;
    void *ctx;
} head_job;

// The normed states of n tokens.
static void norm_rows(const facet_stream *stream, uint64_t first, uint32_t n, float *out)
{
    const facet_hparams *hp = &stream->engine->model->hp;
    facet_stream_run run;
    for (uint32_t r = 0; r < n; r += run.n) {
        run = facet_stream_run_at(stream, first + r, n - r);
        facet_rms_norm(out + (size_t)r * hp->d_model, stream->x + (first + r) * hp->d_model,
                       facet_stream_vector(stream, run.model, FACET_ROLE_OUT_NORM, 0), run.n,
                       hp->d_model, hp->rms_eps);
    }
}

static void head_item(void *ctx, uint32_t thread, uint64_t item)
{
    const head_job *job = ctx;
    const facet_engine *engine = job->stream->engine;
    const facet_hparams *hp = &engine->model->hp;
    const uint64_t first = item * engine->unit, left = job->n_tokens - first;
    const uint32_t n = left < engine->unit ? (uint32_t)left : engine->unit;
    float *xn = facet_engine_lane(engine, thread);
    float *logits = xn + (size_t)engine->unit * hp->d_model;
    norm_rows(job->stream, job->first + first, n, xn);
    facet_engine_product(engine, (const uint32_t[]){n, job->n_ids, hp->d_model}, xn, job->rows,
                         true, logits);
    for (uint32_t r = 0; r < n; r++)
        job->read(job->ctx, job->first + first + r, job->first_id, job->n_ids,
                  logits + (size_t)r * job->n_ids);
}

static facet_status head_sweep(const facet_stream *stream, uint64_t first, uint64_t n_tokens,
                               head_reader *read, void *ctx, facet_err *err)
{
    FACET_TRY(facet_stream_expect(stream, FACET_STREAM_HEAD, err));
    facet_engine *engine = stream->engine;
    const facet_tensor *head = facet_model_tensor(engine->model, FACET_ROLE_HEAD, 0);
    const uint32_t n_vocab = engine->model->hp.n_vocab;
    head_job job = {.stream = stream,
                    .rows = engine->shared,
                    .first = first,
                    .n_tokens = n_tokens,
                    .read = read,
                    .ctx = ctx};
    for (uint32_t id = 0; id < n_vocab; id += job.n_ids) {
        job.first_id = id;
        job.n_ids = n_vocab - id < FACET_ENGINE_VOCAB ? n_vocab - id : FACET_ENGINE_VOCAB;
        FACET_TRY(facet_report_progress(engine->report, "head", id, n_vocab, err));
        facet_each_rows(engine->pool, head, id, job.n_ids, engine->shared);
        facet_each(engine->pool, (n_tokens + engine->unit - 1) / engine->unit, head_item, &job);
    }
    return FACET_OK;
}

// What a token's logits seen so far come to: log(sum exp) = max + log(sum).
typedef struct nll_state {
    double max, sum, target;
    uint32_t next; // the id that follows, UINT32_MAX: not scored
} nll_state;

static void nll_read(void *ctx, uint64_t token, uint32_t first_id, uint32_t n, const float *logits)
{
    nll_state *state = (nll_state *)ctx + token;
    if (state->next == UINT32_MAX) return;
    float block = logits[0];
    for (uint32_t j = 1; j < n; j++)
        if (logits[j] > block) block = logits[j];
    if ((double)block > state->max) {
        state->sum *= exp(state->max - (double)block);
        state->max = (double)block;
    }
    double sum = 0;
    for (uint32_t j = 0; j < n; j++)
        sum += exp((double)logits[j] - state->max);
    state->sum += sum;
    if (state->next >= first_id && state->next - first_id < n)
        state->target = (double)logits[state->next - first_id];
}

facet_status facet_stream_nll(facet_stream *stream, double *nats, uint64_t *scored,
                              double *per_sample, facet_err *err)
{
    const facet_samples *samples = stream->samples;
    const facet_alloc *alloc = stream->engine->alloc;
    nll_state *states = facet_mem_new(alloc, (size_t)samples->n_tokens, sizeof *states);
    if (!states) return facet_fail_memory(err, (size_t)samples->n_tokens * sizeof *states);
    uint64_t t = 0;
    for (uint32_t i = 0; i < samples->n; i++) {
        const uint32_t first = facet_samples_scored(samples, i), n = samples->lengths[i];
        for (uint32_t next = 1; next <= n; next++, t++)
            states[t] = (nll_state){.max = -INFINITY,
                                    .next = next >= first && next < n ? samples->tokens[t + 1]
                                                                      : UINT32_MAX};
    }
    facet_status status;
    FACET_TRY_GOTO(head_sweep(stream, 0, samples->n_tokens, nll_read, states, err), done);
    double all = 0;
    uint64_t count = 0;
    t = 0;
    for (uint32_t i = 0; i < samples->n; i++) {
        double sum = 0;
        for (uint32_t p = 0; p < samples->lengths[i]; p++, t++) {
            if (states[t].next == UINT32_MAX) continue;
            sum += states[t].max + log(states[t].sum) - states[t].target;
            count++;
        }
        if (!isfinite(sum)) {
            status = facet_fail_at(err, FACET_BAD_TENSOR, stream->engine->model->path, -1,
                                   "loss: sample %u has no finite loss; the weights are damaged, "
                                   "fetch the model again",
                                   (unsigned)i);
            goto done;
        }
        if (per_sample) per_sample[i] = sum;
        all += sum;
    }
    *nats = all;
    *scored = count;
done:
    facet_mem_free(alloc, states);
    return status;
}

typedef struct argmax_state {
    float best;
    uint32_t id;
} argmax_state;

static void argmax_read(void *ctx, uint64_t token, uint32_t first_id, uint32_t n,
                        const float *logits)
{
    argmax_state *state = (argmax_state *)ctx + token;
    for (uint32_t j = 0; j < n; j++)
        if (logits[j] > state->best) *state = (argmax_state){logits[j], first_id + j};
}

facet_status facet_stream_argmax(facet_stream *stream, uint32_t *ids, facet_err *err)
{
    const facet_alloc *alloc = stream->engine->alloc;
    const uint64_t n_tokens = stream->samples->n_tokens;
    argmax_state *states = facet_mem_new(alloc, (size_t)n_tokens, sizeof *states);
    if (!states) return facet_fail_memory(err, (size_t)n_tokens * sizeof *states);
    for (uint64_t t = 0; t < n_tokens; t++)
        states[t].best = -INFINITY;
    const facet_status status = head_sweep(stream, 0, n_tokens, argmax_read, states, err);
    for (uint64_t t = 0; status == FACET_OK && t < n_tokens; t++)
        ids[t] = states[t].id;
    facet_mem_free(alloc, states);
    return status;
}

static void logits_read(void *ctx, uint64_t token, uint32_t first_id, uint32_t n,
                        const float *logits)
{
    (void)token;
    memcpy((float *)ctx + first_id, logits, n * sizeof *logits);
}

facet_status facet_stream_logits(facet_stream *stream, uint64_t i, float *logits, facet_err *err)
{
    if (i >= stream->samples->n_tokens)
        return facet_fail(err, FACET_BAD_INPUT,
                          "logits: token %llu is not among the %llu of the stream; ask for less",
                          (unsigned long long)i, (unsigned long long)stream->samples->n_tokens);
    return head_sweep(stream, i, 1, logits_read, logits, err);
}

facet_status facet_stream_hidden(facet_stream *stream, float *hidden, facet_err *err)
{
    FACET_TRY(facet_stream_expect(stream, FACET_STREAM_HEAD, err));
    const uint32_t d = stream->engine->model->hp.d_model;
    for (uint64_t t = 0; t < stream->samples->n_tokens; t++)
        norm_rows(stream, t, 1, hidden + t * d);
    return FACET_OK;
}
