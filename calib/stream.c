// SPDX-License-Identifier: Apache-2.0
// Life of a stream: embedding, copies, and the order of its steps.
#include "calib/stream.h"

#include <string.h>

#include "calib/stream_private.h"

static facet_status samples_check(const facet_model *model, const facet_samples *samples,
                                  facet_err *err)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < samples->n; i++)
        sum += samples->lengths[i];
    if (sum != samples->n_tokens || sum == 0 || !samples->tokens)
        return facet_fail(
            err, FACET_BAD_INPUT,
            "samples: no tokens to compute; give at least one text that is not empty");
    for (uint64_t t = 0; t < sum; t++) {
        if (samples->tokens[t] < model->hp.n_vocab) continue;
        return facet_fail(err, FACET_MISMATCH,
                          "samples: token %u is not in the vocabulary of %u of %s; "
                          "use the model that the samples were made with",
                          (unsigned)samples->tokens[t], (unsigned)model->hp.n_vocab, model->path);
    }
    return FACET_OK;
}

static void embed(facet_stream *stream)
{
    const facet_model *model = stream->engine->model;
    const facet_tensor *table = facet_model_tensor(model, FACET_ROLE_TOKEN_EMBD, 0);
    const uint32_t d = model->hp.d_model;
    for (uint64_t t = 0; t < stream->samples->n_tokens; t++) {
        float *x = stream->x + t * d;
        facet_tensor_row(table, stream->samples->tokens[t], x);
        for (uint32_t j = 0; j < d; j++)
            x[j] *= model->hp.embed_scale;
    }
}

// A stream with room for the residual stream; takes over one reference to the engine.
static facet_status stream_alloc(facet_engine *engine, const facet_samples *samples,
                                 facet_stream **out, facet_err *err)
{
    const facet_alloc *alloc = engine->alloc;
    const size_t row = (size_t)engine->model->hp.d_model * sizeof(float);
    facet_stream *stream = facet_mem_new(alloc, 1, sizeof *stream);
    if (!stream) {
        facet_engine_release(engine);
        return facet_fail_memory(err, sizeof *stream);
    }
    stream->engine = engine;
    stream->samples = samples;
    stream->x = facet_mem_new_aligned(alloc, (size_t)samples->n_tokens, row);
    if (!stream->x) {
        facet_stream_free(stream);
        return facet_fail_memory(err, (size_t)samples->n_tokens * row);
    }
    *out = stream;
    return FACET_OK;
}

facet_status facet_stream_new(const facet_model *model, const facet_samples *samples,
                              const facet_stream_opts *opts, facet_stream **out, facet_err *err)
{
    static const facet_stream_opts defaults = {0};
    if (!opts) opts = &defaults;
    FACET_TRY(samples_check(model, samples, err));
    facet_engine *engine;
    FACET_TRY(facet_engine_new(model, samples, opts, &engine, err));
    facet_stream *stream;
    FACET_TRY(stream_alloc(engine, samples, &stream, err));
    embed(stream);
    *out = stream;
    return FACET_OK;
}

void facet_stream_free(facet_stream *stream)
{
    if (!stream) return;
    facet_engine *engine = stream->engine;
    facet_mem_free_aligned(engine->alloc, stream->x);
    facet_mem_free(engine->alloc, stream);
    facet_engine_release(engine);
}

facet_status facet_stream_copy(const facet_stream *stream, facet_stream **out, facet_err *err)
{
    facet_stream *copy;
    stream->engine->n_refs++;
    FACET_TRY(stream_alloc(stream->engine, stream->samples, &copy, err));
    copy->layer = stream->layer;
    copy->attn_done = stream->attn_done;
    copy->failed = stream->failed;
    copy->own = stream->own;
    copy->own_answers = stream->own_answers;
    memcpy(copy->x, stream->x,
           (size_t)stream->samples->n_tokens * stream->engine->model->hp.d_model * sizeof(float));
    *out = copy;
    return FACET_OK;
}

void facet_stream_own(facet_stream *stream, const facet_vectors *own, bool answers_only)
{
    stream->own = own;
    stream->own_answers = answers_only;
}

void facet_stream_prompts(facet_stream *stream, const float *x)
{
    const facet_samples *samples = stream->samples;
    const size_t d = stream->engine->model->hp.d_model;
    for (uint64_t i = 0, t = 0; i < samples->n; t += samples->lengths[i++])
        memcpy(stream->x + t * d, x + t * d,
               facet_samples_prompt(samples, (uint32_t)i) * d * sizeof *x);
}

facet_stream_run facet_stream_run_at(const facet_stream *stream, uint64_t token, uint32_t n)
{
    if (!stream->own || !stream->own_answers) return (facet_stream_run){.n = n};
    const facet_samples *samples = stream->samples;
    uint32_t i = 0;
    while (token >= samples->lengths[i])
        token -= samples->lengths[i++];
    const uint32_t prompt = facet_samples_prompt(samples, i);
    const bool model = token < prompt;
    const uint64_t left = (model ? prompt : samples->lengths[i]) - token;
    return (facet_stream_run){.n = left < n ? (uint32_t)left : n, .model = model};
}

uint32_t facet_stream_layer(const facet_stream *stream)
{
    return stream->layer;
}

const float *facet_stream_x(const facet_stream *stream)
{
    return stream->x;
}

facet_status facet_stream_expect(const facet_stream *stream, facet_stream_stage stage,
                                 facet_err *err)
{
    static const char *const names[] = {"attention", "FFN", "head"};
    const uint32_t n_layers = stream->engine->model->hp.n_layers;
    const facet_stream_stage next = stream->layer == n_layers ? FACET_STREAM_HEAD
                                    : stream->attn_done       ? FACET_STREAM_FFN
                                                              : FACET_STREAM_ATTN;
    if (stream->failed)
        return facet_fail(err, FACET_FAILED,
                          "float32 model: an earlier step stopped inside layer %u; start anew",
                          (unsigned)stream->layer);
    if (stage != next)
        return facet_fail(err, FACET_FAILED,
                          "float32 model: the %s was asked for where the %s of layer %u is next; "
                          "call the steps in order",
                          names[stage], names[next], (unsigned)stream->layer);
    return FACET_OK;
}

facet_status facet_stream_progress(const facet_stream *stream, uint64_t done, facet_err *err)
{
    const uint64_t n_tokens = stream->samples->n_tokens;
    const uint64_t stages = 2 * (uint64_t)stream->engine->model->hp.n_layers;
    const uint64_t before = 2 * (uint64_t)stream->layer + (stream->attn_done ? 1 : 0);
    return facet_report_progress(stream->engine->report, "forward", before * n_tokens + done,
                                 stages * n_tokens, err);
}
