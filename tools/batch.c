// SPDX-License-Identifier: Apache-2.0
//     prompts ──> sequences ──> complete answers ──> fn
//      (queue)    (step all)    (wait for those      (in the order
//                                before them)         of prompts)
#include "tools/batch.h"

#include "base/memory.h"

// Of all caches together; a single sequence may have more.
static const double cache_bytes_most = 2147483648.0;

typedef struct place {
    facet_answer answer;
    facet_generate_opts generate;
    size_t prompt;
    bool busy;
} place;

typedef struct batch {
    facet_bundle *bundle;
    const facet_batch_opts *opts;
    const facet_report *report;
    facet_session *session;
    float *logits;                     // (vocab) of a prompt
    facet_generated *made;             // (n_prompts) complete ones have a `stop`
    size_t n_read, n_handed;           // prompts
    place places[FACET_SEQUENCES_MAX]; // (n_sequences)
    uint32_t n_sequences;
} batch;

static facet_status hand_out(batch *b, facet_err *err)
{
    while (b->n_handed < b->opts->n_prompts && b->made[b->n_handed].stop != NULL) {
        facet_generated *made = &b->made[b->n_handed];
        FACET_TRY(b->opts->fn(b->opts->ctx, b->n_handed, made, err));
        facet_generated_fini(made);
        b->n_handed++;
    }
    return FACET_OK;
}

// Empties a place whose answer is complete.
static facet_status leave_complete(batch *b, place *at, facet_err *err)
{
    if (at->answer.made.stop == NULL) return FACET_OK;
    b->made[at->prompt] = facet_answer_result(&at->answer);
    facet_answer_fini(&at->answer);
    at->busy = false;
    return hand_out(b, err);
}

static facet_generate_opts generate_opts(const facet_batch_opts *opts, size_t prompt)
{
    facet_generate_opts generate = {
        .n_max = opts->n_max, .n_ctx = opts->n_ctx, .stops = opts->stops};
    if (opts->samplers != NULL) generate.sampler = opts->samplers[prompt];
    return generate;
}

// Reads prompts into a sequence until one of them has an answer that goes on.
static facet_status fill(batch *b, uint32_t sequence, facet_err *err)
{
    place *at = &b->places[sequence];
    while (!at->busy && b->n_read < b->opts->n_prompts) {
        const facet_tokens *prompt = &b->opts->prompts[b->n_read];
        *at = (place){.prompt = b->n_read++, .busy = true};
        at->generate = generate_opts(b->opts, at->prompt);
        at->answer = (facet_answer){.bundle = b->bundle, .opts = &at->generate};
        FACET_TRY(
            facet_report_progress(b->report, b->opts->what, b->n_handed, b->opts->n_prompts, err));
        FACET_TRY(facet_session_select(b->session, sequence, err));
        FACET_TRY(facet_session_rewind(b->session, 0, err));
        FACET_TRY(facet_answer_begin(&at->answer, b->session, prompt->ids, prompt->count, b->logits,
                                     err));
        FACET_TRY(leave_complete(b, at, err));
    }
    return FACET_OK;
}

static facet_status step(batch *b, facet_err *err)
{
    uint32_t sequences[FACET_SEQUENCES_MAX], ids[FACET_SEQUENCES_MAX], n = 0;
    facet_sampler samplers[FACET_SEQUENCES_MAX];
    for (uint32_t i = 0; i < b->n_sequences; i++) {
        if (!b->places[i].busy) continue;
        sequences[n] = i;
        samplers[n] = b->places[i].answer.sampler;
        ids[n++] = facet_answer_last(&b->places[i].answer);
    }
    if (n == 0) return FACET_OK;
    FACET_TRY(facet_session_next_batch(b->session, n, sequences, ids, samplers, ids, err));
    for (uint32_t k = 0; k < n; k++) {
        place *at = &b->places[sequences[k]];
        at->answer.sampler = samplers[k];
        FACET_TRY(facet_answer_take(&at->answer, ids[k], err));
        FACET_TRY(leave_complete(b, at, err));
    }
    return FACET_OK;
}

static facet_status run(batch *b, facet_err *err)
{
    while (b->n_handed < b->opts->n_prompts) {
        FACET_TRY(
            facet_report_progress(b->report, b->opts->what, b->n_handed, b->opts->n_prompts, err));
        for (uint32_t i = 0; i < b->n_sequences; i++)
            FACET_TRY(fill(b, i, err));
        FACET_TRY(step(b, err));
    }
    return FACET_OK;
}

static uint32_t count_sequences(const facet_bundle *bundle, const facet_batch_opts *opts)
{
    const facet_manifest_model *m = &facet_bundle_manifest(bundle)->model;
    const double cache_bytes =
        2.0 * sizeof(uint16_t) * m->n_layers * m->n_kv_heads * m->head_dim * opts->n_ctx;
    uint32_t n = opts->n_sequences;
    if (n > opts->n_prompts) n = (uint32_t)opts->n_prompts;
    if (n * cache_bytes > cache_bytes_most) n = (uint32_t)(cache_bytes_most / cache_bytes);
    return n > 0 ? n : 1;
}

static facet_status prepare(batch *b, facet_err *err)
{
    const facet_batch_opts *opts = b->opts;
    const size_t n_vocab = facet_vocab(b->bundle);
    b->n_sequences = count_sequences(b->bundle, opts);
    b->made = facet_mem_new(NULL, opts->n_prompts, sizeof *b->made);
    b->logits = facet_mem_new(NULL, n_vocab, sizeof *b->logits);
    if (b->made == NULL || b->logits == NULL)
        return facet_fail_memory(err,
                                 opts->n_prompts * sizeof *b->made + n_vocab * sizeof *b->logits);
    const facet_session_opts session_opts = {
        .n_ctx = opts->n_ctx, .prefill = opts->prefill, .n_sequences = b->n_sequences};
    return facet_session_new(b->bundle, opts->family, &session_opts, &b->session, err);
}

facet_status facet_batch_answer(facet_bundle *bundle, const facet_batch_opts *opts,
                                const facet_report *report, facet_err *err)
{
    batch b = {.bundle = bundle, .opts = opts, .report = report};
    facet_status status = prepare(&b, err);
    if (status == FACET_OK) status = run(&b, err);
    for (uint32_t i = 0; i < b.n_sequences; i++)
        facet_answer_fini(&b.places[i].answer);
    for (size_t i = 0; b.made != NULL && i < opts->n_prompts; i++)
        facet_generated_fini(&b.made[i]);
    facet_mem_free(NULL, b.made);
    facet_mem_free(NULL, b.logits);
    facet_session_free(b.session);
    return status;
}
