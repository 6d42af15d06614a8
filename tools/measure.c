// SPDX-License-Identifier: Apache-2.0
#include "tools/measure.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "tools/signals.h"

typedef struct bench {
    const facet_tool *tool;
    const facet_measure_opts *opts;
    facet_session **sessions; // one a family
    size_t n_families;
    uint32_t *tokens; // depth + prompt + gen of them
    float *logits;    // (batch, vocab)
    double *samples;
    uint64_t done, total;
} bench;

bool facet_measure_has(const facet_measure_opts *opts, facet_test test)
{
    switch (test) {
    case FACET_TEST_PP:
        return opts->n_prompt > 0;
    case FACET_TEST_TG:
        return opts->n_gen > 0;
    default:
        return opts->n_prompt > 0 && opts->n_gen > 0;
    }
}

static facet_status prompt(bench *b, facet_session *session, facet_err *err)
{
    const uint32_t *tokens = b->tokens + b->opts->depth;
    for (uint32_t i = 0; i < b->opts->batch; i++) {
        FACET_TRY(facet_session_select(session, i, err));
        FACET_TRY(facet_session_prefill(session, tokens, b->opts->n_prompt, b->logits, err));
    }
    return FACET_OK;
}

// Every sequence reads the same tokens, each into a cache of its own.
static facet_status generate(bench *b, facet_session *session, uint32_t n, facet_err *err)
{
    const uint32_t *tokens = b->tokens + b->opts->depth + b->opts->n_prompt;
    uint32_t sequences[FACET_SEQUENCES_MAX], next[FACET_SEQUENCES_MAX];
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < b->opts->batch; k++) {
            sequences[k] = k;
            next[k] = tokens[i];
        }
        FACET_TRY(facet_signals_check(err));
        FACET_TRY(
            facet_session_step_batch(session, b->opts->batch, sequences, next, b->logits, err));
    }
    return FACET_OK;
}

// The context before the test holds `depth` tokens; how long they took does not count. They stay
// from one test to the next.
static facet_status reach_depth(bench *b, facet_session *session, facet_err *err)
{
    const uint32_t depth = b->opts->depth;
    for (uint32_t i = 0; i < b->opts->batch; i++) {
        FACET_TRY(facet_session_select(session, i, err));
        if (facet_session_length(session) >= depth) {
            FACET_TRY(facet_session_rewind(session, depth, err));
            continue;
        }
        FACET_TRY(facet_session_rewind(session, 0, err));
        FACET_TRY(facet_session_prefill(session, b->tokens, depth, NULL, err));
    }
    return FACET_OK;
}

static facet_status time_one(bench *b, facet_session *session, facet_test test, double *rate,
                             facet_err *err)
{
    const facet_measure_opts *opts = b->opts;
    uint32_t n = 0;
    FACET_TRY(facet_report_progress(&b->tool->report, "bench", b->done++, b->total, err));
    FACET_TRY(reach_depth(b, session, err));
    const uint64_t begin = facet_clock_ns();
    if (test != FACET_TEST_TG) {
        FACET_TRY(prompt(b, session, err));
        n += opts->n_prompt;
    }
    if (test != FACET_TEST_PP) {
        FACET_TRY(generate(b, session, opts->n_gen, err));
        n += opts->n_gen;
    }
    *rate = (double)n * opts->batch / facet_clock_seconds(begin);
    return FACET_OK;
}

// Touches every page and every path once.
static facet_status warm_up(bench *b, facet_err *err)
{
    enum { WARM_TOKENS = 4 };
    const uint32_t n_gen = b->opts->n_gen < WARM_TOKENS ? b->opts->n_gen : WARM_TOKENS;
    for (size_t f = 0; f < b->n_families; f++) {
        FACET_TRY(reach_depth(b, b->sessions[f], err));
        if (b->opts->n_prompt > 0) FACET_TRY(prompt(b, b->sessions[f], err));
        FACET_TRY(generate(b, b->sessions[f], n_gen, err));
    }
    return FACET_OK;
}

static facet_status measure(bench *b, facet_err *err)
{
    const uint32_t reps = b->opts->reps;
    FACET_TRY(warm_up(b, err));
    for (uint32_t rep = 0; rep < reps; rep++) {
        for (int test = 0; test < FACET_TEST_COUNT; test++) {
            if (!facet_measure_has(b->opts, (facet_test)test)) continue;
            for (size_t f = 0; f < b->n_families; f++) {
                double *rate = &b->samples[(f * FACET_TEST_COUNT + (size_t)test) * reps + rep];
                FACET_TRY(time_one(b, b->sessions[f], (facet_test)test, rate, err));
            }
        }
    }
    return FACET_OK;
}

static facet_status prepare(bench *b, facet_bundle *bundle, const facet_strings *families,
                            facet_err *err)
{
    const facet_measure_opts *opts = b->opts;
    const uint32_t n_ctx = opts->depth + opts->n_prompt + opts->n_gen;
    b->sessions = facet_mem_new(NULL, families->n, sizeof(facet_session *));
    b->tokens = facet_mem_new(NULL, n_ctx, sizeof *b->tokens);
    b->logits = facet_mem_new(NULL, (size_t)opts->batch * facet_vocab(bundle), sizeof *b->logits);
    if (b->sessions == NULL || b->tokens == NULL || b->logits == NULL)
        return facet_fail_memory(err, n_ctx * sizeof *b->tokens);
    facet_random random = facet_random_seed(1);
    for (uint32_t i = 0; i < n_ctx; i++)
        b->tokens[i] = (uint32_t)facet_random_below(&random, facet_vocab(bundle));
    const facet_session_opts session_opts = {.n_ctx = n_ctx, .n_sequences = opts->batch};
    for (size_t f = 0; f < families->n; f++) {
        FACET_TRY(
            facet_session_new(bundle, families->items[f], &session_opts, &b->sessions[f], err));
        b->n_families++;
    }
    b->total = (uint64_t)FACET_TEST_COUNT * families->n * opts->reps;
    return FACET_OK;
}

facet_status facet_measure(const facet_tool *tool, facet_bundle *bundle,
                           const facet_strings *families, const facet_measure_opts *opts,
                           double *samples, facet_err *err)
{
    bench b = {.tool = tool, .opts = opts, .samples = samples};
    facet_status status = prepare(&b, bundle, families, err);
    if (status == FACET_OK) status = measure(&b, err);
    for (size_t f = 0; f < b.n_families; f++)
        facet_session_free(b.sessions[f]);
    facet_mem_free(NULL, b.sessions);
    facet_mem_free(NULL, b.tokens);
    facet_mem_free(NULL, b.logits);
    return status;
}
