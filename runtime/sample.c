// SPDX-License-Identifier: Apache-2.0
// Drawing a token: temperature, then top-k, then top-p over what is left, then one uniform number.
// The order of candidates is by logit, lowest id first on a tie, so a draw depends on nothing else.
#include <math.h>

#include "base/random.h"
#include "runtime/session.h"

static uint32_t highest(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) {
        if (logits[i] > logits[best]) best = i;
    }
    return best;
}

static bool before(const float *logits, uint32_t a, uint32_t b)
{
    return logits[a] > logits[b] || (!(logits[a] < logits[b]) && a < b);
}

// A heap with the best candidate on top: only the few that are drawn from get sorted.
static void sift(const float *logits, uint32_t *heap, uint32_t n, uint32_t at)
{
    for (;;) {
        const uint32_t left = 2 * at + 1, right = left + 1;
        uint32_t top = at;
        if (left < n && before(logits, heap[left], heap[top])) top = left;
        if (right < n && before(logits, heap[right], heap[top])) top = right;
        if (top == at) return;
        const uint32_t id = heap[at];
        heap[at] = heap[top];
        heap[top] = id;
        at = top;
    }
}

static float weight_of(float logit, float best, const facet_sampler *sampler)
{
    return expf((logit - best) / sampler->temperature);
}

// First index whose running sum passes `point`; the last one when rounding left nothing.
static uint32_t locate(const float *weights, uint32_t n, double point)
{
    double sum = 0.0;
    for (uint32_t i = 0; i + 1 < n; i++) {
        sum += (double)weights[i];
        if (point < sum) return i;
    }
    return n - 1;
}

static double weigh_all(const facet_session *s, const float *logits, const facet_sampler *sampler,
                        float best)
{
    double total = 0.0;
    for (uint32_t i = 0; i < s->bundle->shape.n_vocab; i++) {
        s->weights[i] = weight_of(logits[i], best, sampler);
        total += (double)s->weights[i];
    }
    return total;
}

// Candidates taken off a heap of all ids: number i of them, best first, is heap[n - 1 - i].
typedef struct ranking {
    const float *logits;
    uint32_t *heap;
    uint32_t n, taken;
} ranking;

static uint32_t ranked(ranking *r, uint32_t i)
{
    while (r->taken <= i) {
        const uint32_t last = r->n - 1 - r->taken, best = r->heap[0];
        r->heap[0] = r->heap[last];
        r->heap[last] = best;
        r->taken++;
        sift(r->logits, r->heap, last, 0);
    }
    return r->heap[r->n - 1 - i];
}

static ranking rank(facet_session *s, const float *logits)
{
    ranking r = {logits, s->order, s->bundle->shape.n_vocab, 0};
    for (uint32_t i = 0; i < r.n; i++)
        r.heap[i] = i;
    for (uint32_t i = r.n / 2; i-- > 0;)
        sift(logits, r.heap, r.n, i);
    return r;
}

// Draws among the best candidates that top-k and then top-p leave.
static uint32_t draw_ranked(facet_session *s, const float *logits, const facet_sampler *sampler,
                            double unit)
{
    ranking r = rank(s, logits);
    const bool by_k = sampler->top_k > 0 && sampler->top_k < r.n;
    const bool by_p = sampler->top_p > 0.0f && sampler->top_p < 1.0f;
    const uint32_t limit = by_k ? sampler->top_k : r.n;
    const float best = logits[ranked(&r, 0)];
    double total = 0.0, sum = 0.0;
    if (by_k) {
        for (uint32_t i = 0; i < limit; i++)
            total += (double)weight_of(logits[ranked(&r, i)], best, sampler);
    } else {
        total = weigh_all(s, logits, sampler, best);
    }
    const double enough = by_p ? (double)sampler->top_p * total : (double)INFINITY;
    uint32_t kept = 0;
    do {
        s->weights[kept] = weight_of(logits[ranked(&r, kept)], best, sampler);
        sum += (double)s->weights[kept++];
    } while (kept < limit && sum < enough);
    return ranked(&r, locate(s->weights, kept, unit * sum));
}

static uint32_t draw(facet_session *session, const float *logits, facet_sampler *sampler,
                     uint32_t best)
{
    const uint32_t n = session->bundle->shape.n_vocab;
    if (!sampler || !(sampler->temperature > 0.0f)) return best;
    facet_random random = facet_random_seed(sampler->state);
    const double unit = facet_random_unit(&random);
    sampler->state = random.state;
    if (sampler->top_k > 0 || (sampler->top_p > 0.0f && sampler->top_p < 1.0f))
        return draw_ranked(session, logits, sampler, unit);
    const double total = weigh_all(session, logits, sampler, logits[best]);
    return locate(session->weights, n, unit * total);
}

facet_status facet_draw(facet_session *session, const float *logits, facet_sampler *sampler,
                        uint32_t *id, facet_err *err)
{
    const uint32_t best = highest(logits, session->bundle->shape.n_vocab);
    // What is not a number in the last state makes every logit none, the first of them too.
    if (!isfinite(logits[best]))
        return facet_fail(err, FACET_BAD_TENSOR,
                          "logits: not finite, so no token can be chosen; the model's weights are "
                          "damaged or overflow, fetch the model again and build anew");
    *id = draw(session, logits, sampler, best);
    return FACET_OK;
}
