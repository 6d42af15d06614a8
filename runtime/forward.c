// SPDX-License-Identifier: Apache-2.0
// A step: tokens in, logits out, by walking the stages of kernels/abi.h with a pool of threads.
//
//     one token     every thread embeds it and runs every prologue on its own lane;
//                   one barrier a stage
//     more tokens   lanes share the rows; each thread embeds and prologues its share of them;
//                   a barrier after each prologue and each stage
//
// Bodies are split by units of output, so no sum depends on the number of threads. The rows of a
// prefill follow each other in one sequence, those of a batch are the next tokens of different
// ones: only their positions and caches tell them apart.
#include <math.h>
#include <string.h>

#include "kernels/reference.h"
#include "runtime/eval.h"
#include "runtime/session.h"

typedef struct eval {
    facet_session *session;
    const facet_family *family;
    const uint32_t *tokens;      // (step.n_tokens); NULL: x is already there, run the head only
    bool shared;                 // lanes share the rows
    bool stats;                  // channel statistics are taken
    uint32_t head_first, n_head; // rows that get logits
    facet_step step;
} eval;

static facet_range split(uint32_t n, uint32_t thread, uint32_t n_threads)
{
    return (facet_range){(uint32_t)((uint64_t)n * thread / n_threads),
                         (uint32_t)((uint64_t)n * (thread + 1) / n_threads), 1};
}

// ---- inside the pool ----------------------------------------------------------------------------

static void embed(const eval *e, const facet_lane *lane, facet_range tokens)
{
    const facet_bundle *bundle = e->session->bundle;
    const uint32_t d = bundle->shape.d_model, stride = facet_round32(d);
    const float scale = (float)bundle->manifest.model.embed_scale;
    for (uint32_t t = tokens.begin; t < tokens.end; t++) {
        float *x = lane->x + (uint64_t)t * stride;
        facet_mat_row(&bundle->embed, e->tokens[t], x);
        for (uint32_t i = 0; i < d; i++)
            x[i] *= scale;
    }
}

typedef struct worker {
    uint32_t thread, n_threads;
    bool shared;
    facet_lane lane;
    facet_range tokens; // this thread's share of the prologues
    facet_pool *pool;
} worker;

static void run_stage(const worker *w, const facet_stage *stage, const facet_step *step,
                      uint32_t layer)
{
    if (stage->prologue) {
        stage->prologue(step, layer, &w->lane, w->tokens);
        if (w->shared) facet_pool_barrier(w->pool);
    }
    stage->body(step, layer, &w->lane, split(stage->n_units, w->thread, w->n_threads));
}

// Heads of later tokens attend to more positions: striding shares them evenly.
static void run_attention(const worker *w, const facet_stage *stage, const facet_step *step,
                          uint32_t layer)
{
    const facet_range range = {w->thread, step->n_tokens * stage->n_units, w->n_threads};
    if (stage->prologue) {
        stage->prologue(step, layer, &w->lane, w->tokens);
        if (w->shared) facet_pool_barrier(w->pool);
    }
    stage->body(step, layer, &w->lane, range);
}

// The head of rows head_first .. of the step: the same buffers, seen from that row on.
static void run_head(const worker *w, const eval *e)
{
    const uint32_t d = e->step.shape->d_model;
    facet_step step = e->step;
    worker head = *w;
    step.n_tokens = e->n_head;
    step.y += (uint64_t)e->head_first * d;
    step.pos += e->head_first;
    head.lane.x += (uint64_t)e->head_first * facet_round32(d);
    head.tokens = w->shared ? split(e->n_head, w->thread, w->n_threads) : (facet_range){0, 1, 1};
    run_stage(&head, &e->family->variant.head, &step, step.shape->n_layers);
}

// Behind FFN_IN: z is complete, and DOWN, which runs next, only reads it.
static void run_stats(const worker *w, const eval *e, uint32_t layer)
{
    const facet_step *step = &e->step;
    facet_session_stats_weigh(e->session, step, layer,
                              split(step->n_tokens, w->thread, w->n_threads));
    facet_pool_barrier(w->pool);
    facet_session_stats_add(e->session, step, layer,
                            split(step->shape->d_ff, w->thread, w->n_threads));
}

static void run_eval(void *ctx, uint32_t thread, uint32_t n_threads)
{
    const eval *e = ctx;
    const facet_session *s = e->session;
    const facet_step *step = &e->step;
    worker w = {.thread = thread, .n_threads = n_threads, .shared = e->shared, .pool = s->pool};
    w.lane = e->shared ? s->shared : s->own[thread];
    w.lane.scratch = s->own[thread].scratch;
    w.tokens = e->shared ? split(step->n_tokens, thread, n_threads) : (facet_range){0, 1, 1};
    if (e->tokens) {
        embed(e, &w.lane, w.tokens);
        for (uint32_t layer = 0; layer < step->shape->n_layers; layer++) {
            const facet_stage *stages = e->family->variant.stages[layer];
            for (uint32_t i = 0; i < FACET_STAGE_COUNT; i++) {
                if (i == FACET_STAGE_ATTN)
                    run_attention(&w, &stages[i], step, layer);
                else
                    run_stage(&w, &stages[i], step, layer);
                facet_pool_barrier(s->pool);
                if (i == FACET_STAGE_FFN_IN && e->stats) run_stats(&w, e, layer);
            }
        }
    }
    if (e->n_head) run_head(&w, e);
}

// ---- outside ------------------------------------------------------------------------------------

// Each row becomes the next token of its sequence: sequences[t], or the current one for all.
static void append_rows(facet_session *s, const uint32_t *sequences, uint32_t n)
{
    const uint32_t half = s->bundle->shape.rope_dims / 2;
    for (uint32_t t = 0; t < n; t++) {
        const uint32_t sequence = sequences ? sequences[t] : s->current;
        s->kv[t] = s->caches[sequence];
        s->pos[t] = s->lengths[sequence]++;
        for (uint32_t base = 0; base < 2; base++) {
            float *row = s->rope[base] + (size_t)t * half * 2;
            for (uint32_t i = 0; i < half; i++) {
                const double angle = (double)s->pos[t] * s->rope_freq[base][i];
                row[2 * i] = (float)cos(angle);
                row[2 * i + 1] = (float)sin(angle);
            }
        }
    }
}

static eval eval_of(facet_session *s, uint32_t family, const uint32_t *tokens, uint32_t n)
{
    const facet_bundle *bundle = s->bundle;
    const facet_family *f = &bundle->families[family];
    return (eval){.session = s,
                  .family = f,
                  .tokens = tokens,
                  .shared = n > 1,
                  .stats = s->stats && family == 0,
                  .step = {.shape = &bundle->shape,
                           .layers = f->layers,
                           .out_norm = f->out_norm,
                           .head = bundle->head,
                           .n_tokens = n,
                           .pos = s->pos,
                           .kv = s->kv,
                           .rope = {s->rope[0], s->rope[1]},
                           .q = s->q,
                           .attn = s->attn,
                           .y = s->y,
                           .z = s->z,
                           .zq = s->zq,
                           .zs = s->zs,
                           .zsum = s->zsum,
                           .logits = s->logits}};
}

// Runs n tokens (n <= FACET_CHUNK) and appends them, row t to sequences[t] (NULL: to the current
// one); the logits of the last n_head rows go to s->logits.
static void run_rows(facet_session *s, uint32_t family, const uint32_t *sequences,
                     const uint32_t *tokens, uint32_t n, uint32_t n_head)
{
    eval e = eval_of(s, family, tokens, n);
    e.head_first = n - n_head;
    e.n_head = n_head;
    append_rows(s, sequences, n);
    facet_pool_run(s->pool, run_eval, &e);
}

static void copy_logits(const facet_session *s, uint32_t n_rows, float *logits)
{
    if (logits) memcpy(logits, s->logits, sizeof(float) * n_rows * s->bundle->shape.n_vocab);
}

static facet_status check_ids(const facet_session *s, const uint32_t *tokens, size_t n,
                              facet_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (tokens[i] >= s->bundle->shape.n_vocab)
            return facet_fail(err, FACET_BAD_INPUT,
                              "token %u at place %zu: the vocabulary has %u; tokenise with this "
                              "model",
                              tokens[i], i, s->bundle->shape.n_vocab);
    }
    return FACET_OK;
}

// Nothing is changed when a token is unknown or the context too short.
static facet_status check_tokens(const facet_session *s, const uint32_t *tokens, size_t n,
                                 facet_err *err)
{
    const uint32_t length = s->lengths[s->current];
    if (n == 0)
        return facet_fail(err, FACET_BAD_INPUT, "tokens: there are none; give at least one");
    if (n > s->n_ctx - length)
        return facet_fail(err, FACET_BAD_INPUT,
                          "context: %zu more tokens do not fit, %u of %u are used; use a longer "
                          "--ctx or rewind",
                          n, length, s->n_ctx);
    return check_ids(s, tokens, n, err);
}

// Nothing is changed when a sequence cannot take its token.
static facet_status check_batch(const facet_session *s, uint32_t n, const uint32_t *sequences,
                                const uint32_t *tokens, facet_err *err)
{
    bool named[FACET_SEQUENCES_MAX] = {false};
    if (n == 0)
        return facet_fail(err, FACET_BAD_INPUT, "sequences: there are none; name at least one");
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t sequence = sequences[i];
        FACET_TRY(facet_session_check(s, sequence, err));
        if (named[sequence])
            return facet_fail(err, FACET_BAD_INPUT,
                              "sequence %u: is named twice; a step appends one token to each",
                              sequence);
        if (s->lengths[sequence] >= s->n_ctx)
            return facet_fail(err, FACET_BAD_INPUT,
                              "sequence %u: its context of %u tokens is full; rewind it or use a "
                              "longer one",
                              sequence, s->n_ctx);
        named[sequence] = true;
    }
    return check_ids(s, tokens, n, err);
}

static uint32_t chunk_of(size_t left)
{
    return left < FACET_CHUNK ? (uint32_t)left : FACET_CHUNK;
}

facet_status facet_session_prefill(facet_session *session, const uint32_t *tokens, size_t n,
                                   float *logits, facet_err *err)
{
    const uint32_t family = session->prefill_dense ? 0 : session->family;
    FACET_TRY(check_tokens(session, tokens, n, err));
    for (size_t done = 0; done < n;) {
        const uint32_t count = chunk_of(n - done);
        run_rows(session, family, NULL, tokens + done, count, logits && done + count == n);
        done += count;
    }
    copy_logits(session, 1, logits);
    return FACET_OK;
}

facet_status facet_session_step(facet_session *session, uint32_t token, float *logits,
                                facet_err *err)
{
    FACET_TRY(check_tokens(session, &token, 1, err));
    run_rows(session, session->family, NULL, &token, 1, logits != NULL);
    copy_logits(session, 1, logits);
    return FACET_OK;
}

facet_status facet_session_next(facet_session *session, uint32_t token, facet_sampler *sampler,
                                uint32_t *id, facet_err *err)
{
    FACET_TRY(check_tokens(session, &token, 1, err));
    run_rows(session, session->family, NULL, &token, 1, 1);
    return facet_draw(session, session->logits, sampler, id, err);
}

facet_status facet_session_step_batch(facet_session *session, uint32_t n, const uint32_t *sequences,
                                      const uint32_t *tokens, float *logits, facet_err *err)
{
    FACET_TRY(check_batch(session, n, sequences, tokens, err));
    run_rows(session, session->family, sequences, tokens, n, logits ? n : 0);
    copy_logits(session, n, logits);
    return FACET_OK;
}

facet_status facet_session_next_batch(facet_session *session, uint32_t n, const uint32_t *sequences,
                                      const uint32_t *tokens, facet_sampler *samplers,
                                      uint32_t *ids, facet_err *err)
{
    const size_t vocab = session->bundle->shape.n_vocab;
    FACET_TRY(check_batch(session, n, sequences, tokens, err));
    run_rows(session, session->family, sequences, tokens, n, n);
    for (uint32_t i = 0; i < n; i++)
        FACET_TRY(facet_draw(session, session->logits + i * vocab, samplers ? &samplers[i] : NULL,
                             &ids[i], err));
    return FACET_OK;
}

facet_status facet_session_sample(facet_session *session, const float *logits,
                                  facet_sampler *sampler, uint32_t *id, facet_err *err)
{
    return facet_draw(session, logits, sampler, id, err);
}

// Rows of a finished chunk, FACET_EVAL_ROWS at a time. x lies in the shared lanes, or, for one
// token, in each thread's own; the head's prologue adds the last y to each row, once.
static facet_status head_blocks(eval *e, size_t first, facet_logits_fn *fn, void *ctx,
                                facet_err *err)
{
    const uint32_t n = e->step.n_tokens;
    e->tokens = NULL;
    for (uint32_t row = 0; row < n; row += FACET_EVAL_ROWS) {
        e->head_first = row;
        e->n_head = n - row < FACET_EVAL_ROWS ? n - row : FACET_EVAL_ROWS;
        facet_pool_run(e->session->pool, run_eval, e);
        FACET_TRY(fn(ctx, first + row, e->n_head, e->step.logits, err));
    }
    return FACET_OK;
}

facet_status facet_session_prefill_all(facet_session *session, const uint32_t *tokens, size_t n,
                                       facet_logits_fn *fn, void *ctx, facet_err *err)
{
    const uint32_t family = session->prefill_dense ? 0 : session->family;
    const size_t vocab = session->bundle->shape.n_vocab;
    FACET_TRY(check_tokens(session, tokens, n, err));
    float *logits = facet_mem_new_aligned(session->alloc, FACET_EVAL_ROWS * vocab, sizeof *logits);
    if (!logits) return facet_fail_memory(err, FACET_EVAL_ROWS * vocab * sizeof *logits);
    facet_status status = FACET_OK;
    for (size_t done = 0; status == FACET_OK && done < n;) {
        const uint32_t count = chunk_of(n - done);
        eval e = eval_of(session, family, tokens + done, count);
        e.step.logits = logits;
        append_rows(session, NULL, count);
        facet_pool_run(session->pool, run_eval, &e);
        status = head_blocks(&e, done, fn, ctx, err);
        done += count;
    }
    facet_mem_free_aligned(session->alloc, logits);
    return status;
}
