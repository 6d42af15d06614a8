// SPDX-License-Identifier: Apache-2.0
#include "tools/loss.h"

#include <math.h>

#include "runtime/eval.h"

typedef struct score {
    const facet_tool *tool;
    const uint32_t *tokens; // of the sample
    uint32_t n, n_vocab;
    size_t base, first;   // token of a call's row 0, the first that is scored
    uint64_t done, total; // tokens of all samples, for the progress line
    double nats;
} score;

// -log softmax(logits)[id]. Differences are rounded to float, sums are kept in double.
static double nats_of(const float *logits, uint32_t n_vocab, uint32_t id)
{
    float top = logits[0];
    for (uint32_t i = 1; i < n_vocab; i++)
        if (logits[i] > top) top = logits[i];
    double sum = 0;
    for (uint32_t i = 0; i < n_vocab; i++)
        sum += (double)expf(logits[i] - top);
    return log(sum) - ((double)logits[id] - (double)top);
}

// Row i predicts token i + 1, where that is scored; the last row predicts nothing that is known.
static facet_status add_rows(void *ctx, size_t first_row, uint32_t n_rows, const float *logits,
                             facet_err *err)
{
    score *s = ctx;
    for (uint32_t i = 0; i < n_rows; i++) {
        const size_t next = s->base + first_row + i + 1;
        if (next >= s->first && next < s->n)
            s->nats += nats_of(logits + (size_t)i * s->n_vocab, s->n_vocab, s->tokens[next]);
    }
    s->done += n_rows;
    return facet_report_progress(&s->tool->report, "score tokens", s->done, s->total, err);
}

// Tokens from `from` to `to` of the sample, read by a family.
static facet_status read_tokens(score *s, facet_session *session, const char *family, uint32_t from,
                                uint32_t to, facet_err *err)
{
    if (from == to) return FACET_OK;
    s->base = from;
    FACET_TRY(facet_session_family(session, family, err));
    return facet_session_prefill_all(session, s->tokens + from, to - from, add_rows, s, err);
}

facet_status facet_loss_samples(const facet_tool *tool, facet_bundle *bundle, const char *reader,
                                const char *family, const facet_samples *samples, double *nats,
                                uint64_t *scored, facet_err *err)
{
    score s = {.tool = tool, .n_vocab = facet_vocab(bundle), .total = samples->n_tokens};
    uint32_t longest = 1;
    for (uint32_t i = 0; i < samples->n; i++)
        if (samples->lengths[i] > longest) longest = samples->lengths[i];
    const facet_session_opts opts = {.n_ctx = longest, .prefill = "family"};
    facet_session *session;
    FACET_TRY(facet_session_new(bundle, family, &opts, &session, err));
    facet_status status = FACET_OK;
    uint64_t count = 0;
    s.tokens = samples->tokens;
    for (uint32_t i = 0; i < samples->n && status == FACET_OK; i++, s.tokens += s.n) {
        const uint32_t prompt = facet_samples_prompt(samples, i);
        s.n = samples->lengths[i];
        s.first = facet_samples_scored(samples, i);
        if (s.n < 2) continue;
        status = facet_session_rewind(session, 0, err);
        if (status == FACET_OK) status = read_tokens(&s, session, reader, 0, prompt, err);
        if (status == FACET_OK) status = read_tokens(&s, session, family, prompt, s.n, err);
        count += s.n - s.first;
    }
    facet_session_free(session);
    if (status != FACET_OK) return status;
    *nats = s.nats;
    *scored = count;
    return FACET_OK;
}
