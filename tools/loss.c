// SPDX-License-Identifier: Apache-2.0
#include "tools/loss.h"

#include <math.h>

#include "tools/reading.h"

typedef struct score {
    const facet_tool *tool;
    const uint32_t *scored; // tokens of the sample
    uint32_t n_vocab;
    uint64_t done, total; // scored tokens of all samples
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

static facet_status add_rows(void *ctx, size_t first_row, uint32_t n_rows, const float *logits,
                             facet_err *err)
{
    score *s = ctx;
    for (uint32_t i = 0; i < n_rows; i++)
        s->nats += nats_of(logits + (size_t)i * s->n_vocab, s->n_vocab, s->scored[first_row + i]);
    s->done += n_rows;
    return facet_report_progress(&s->tool->report, "score tokens", s->done, s->total, err);
}

facet_status facet_loss_samples(const facet_tool *tool, facet_bundle *bundle, const char *reader,
                                const char *family, const facet_samples *samples, double *nats,
                                uint64_t *scored, facet_err *err)
{
    score s = {.tool = tool, .n_vocab = facet_vocab(bundle)};
    uint32_t longest = 1;
    for (uint32_t i = 0; i < samples->n; i++) {
        const uint32_t n = samples->lengths[i];
        if (n > longest) longest = n;
        if (n > 1) s.total += n - facet_samples_scored(samples, i);
    }
    const facet_session_opts opts = {.n_ctx = longest, .prefill = "family"};
    facet_session *session;
    FACET_TRY(facet_session_new(bundle, family, &opts, &session, err));
    facet_status status = FACET_OK;
    const uint32_t *ids = samples->tokens;
    for (uint32_t i = 0; i < samples->n && status == FACET_OK; ids += samples->lengths[i++]) {
        if (samples->lengths[i] < 2) continue;
        const bool asked = facet_samples_prompt(samples, i) > 0;
        const facet_reading reading = {.reader = asked ? reader : family,
                                       .family = family,
                                       .ids = ids,
                                       .first = facet_samples_scored(samples, i),
                                       .n = samples->lengths[i]};
        s.scored = ids + reading.first;
        status = facet_reading_rows(session, &reading, add_rows, &s, err);
    }
    facet_session_free(session);
    if (status != FACET_OK) return status;
    *nats = s.nats;
    *scored = s.total;
    return FACET_OK;
}
