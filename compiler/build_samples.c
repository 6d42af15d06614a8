// SPDX-License-Identifier: Apache-2.0
// Which calibration tokens fit, which judge.
#include <math.h>
#include <string.h>

#include "compiler/build_parts.h"
#include "compiler/family_documents.h"

enum { judge_share = 5, tokens_a_channel = 6, least_tokens = 8192 };

uint64_t facet_build_tokens(const facet_building *b)
{
    if (b->opts->calibration_tokens > 0) return b->opts->calibration_tokens;
    const uint64_t wanted = (uint64_t)b->model->hp.d_ff * tokens_a_channel;
    return wanted > least_tokens ? wanted : least_tokens;
}

typedef struct picker {
    const facet_samples *from;
    const uint32_t *list;
    uint32_t n;
    uint64_t *starts; // (from->n) first token of each sample
    uint8_t *judges;  // (n)
    facet_samples made;
} picker;

static void copy_sample(picker *p, uint32_t sample, uint64_t most)
{
    facet_samples *to = &p->made;
    uint64_t length = p->from->lengths[sample];
    // A prompt whose answer is cut off would count as text.
    const bool answered = p->from->answers && p->from->answers[sample] < length;
    if (length > most && answered && p->from->answers[sample] >= most && to->n > 0) return;
    if (length > most) length = most;
    if (length == 0) return;
    memcpy(to->tokens + to->n_tokens, p->from->tokens + p->starts[sample],
           length * sizeof *to->tokens);
    if (to->answers)
        to->answers[to->n] =
            p->from->answers[sample] < length ? p->from->answers[sample] : (uint32_t)length;
    to->lengths[to->n++] = (uint32_t)length;
    to->n_tokens += length;
}

void facet_build_samples_part(const facet_samples *samples, uint64_t n_fit, facet_samples *fit,
                              facet_samples *judge)
{
    uint64_t first = 0;
    uint32_t i = 0;
    while (i + 1 < samples->n && first + samples->lengths[i] <= n_fit)
        first += samples->lengths[i++];
    *judge = (facet_samples){.tokens = samples->tokens + first,
                             .lengths = samples->lengths + i,
                             .answers = samples->answers ? samples->answers + i : NULL,
                             .n = samples->n - i,
                             .n_tokens = samples->n_tokens - first};
    if (!fit) return;
    *fit = (facet_samples){.tokens = samples->tokens,
                           .lengths = samples->lengths,
                           .answers = samples->answers,
                           .n = i > 0 ? i : samples->n,
                           .n_tokens = i > 0 ? first : samples->n_tokens};
}

void facet_build_samples_fini(facet_samples *samples, const facet_alloc *alloc)
{
    facet_mem_free(alloc, samples->tokens);
    facet_mem_free(alloc, samples->lengths);
    facet_mem_free(alloc, samples->answers);
    *samples = (facet_samples){0};
}

// Is sample i of a part among those that stay when only `share` of the tokens may? The first is.
static bool chosen(uint32_t i, double share)
{
    return share >= 1 || ceil((i + 1) * share) > ceil(i * share);
}

// Copies at most `most` of the `total` tokens of those that judge, or of those that fit.
static void copy_part(picker *p, bool judges, uint64_t total, uint64_t most)
{
    const double share = total <= most ? 1.0 : (double)most / (double)total;
    const uint64_t end = p->made.n_tokens + most;
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->judges[i] == judges && chosen(count++, share))
            copy_sample(p, p->list[i], end - p->made.n_tokens);
    }
}

static facet_status picker_init(picker *p, const facet_alloc *alloc, uint64_t total, facet_err *err)
{
    p->starts = facet_mem_new(alloc, p->from->n, sizeof *p->starts);
    p->judges = facet_mem_new(alloc, p->n, 1);
    p->made.tokens = facet_mem_new(alloc, total, sizeof *p->made.tokens);
    p->made.lengths = facet_mem_new(alloc, p->n, sizeof *p->made.lengths);
    if (p->from->answers) p->made.answers = facet_mem_new(alloc, p->n, sizeof *p->made.answers);
    if (!p->starts || !p->judges || !p->made.tokens || !p->made.lengths ||
        (p->from->answers && !p->made.answers))
        return facet_fail_memory(err, total * sizeof *p->made.tokens);
    uint64_t at = 0;
    for (uint32_t i = 0; i < p->from->n; at += p->from->lengths[i++])
        p->starts[i] = at;
    return facet_documents_judge(p->from, p->list, p->n, alloc, p->judges, NULL, err);
}

facet_status facet_build_samples(const facet_samples *from, const uint32_t *list, uint32_t n,
                                 uint64_t max_tokens, const facet_alloc *alloc, facet_samples *out,
                                 uint64_t *n_fit, facet_err *err)
{
    uint64_t total = 0, judging = 0;
    for (uint32_t i = 0; i < n; i++)
        total += from->lengths[list[i]];
    picker p = {.from = from, .list = list, .n = n};
    const facet_status status = picker_init(&p, alloc, total, err);
    if (status == FACET_OK) {
        for (uint32_t i = 0; i < n; i++)
            judging += p.judges[i] ? from->lengths[list[i]] : 0;
        const uint64_t limit = max_tokens && max_tokens < total ? max_tokens : total;
        const uint64_t fifth = limit < total ? limit / judge_share : judging;
        const uint64_t judge_most = judging < fifth ? judging : fifth;
        copy_part(&p, false, total - judging, limit - judge_most);
        *n_fit = p.made.n_tokens;
        copy_part(&p, true, judging, judge_most);
        // Nothing that judges: a single sample, which is cut.
        if (p.made.n_tokens == *n_fit) *n_fit -= *n_fit / judge_share;
        *out = p.made;
        p.made = (facet_samples){0};
    }
    facet_mem_free(alloc, p.starts);
    facet_mem_free(alloc, p.judges);
    facet_build_samples_fini(&p.made, alloc);
    return status;
}
