// SPDX-License-Identifier: Apache-2.0
// Which calibration tokens fit, which judge.
#include <string.h>

#include "compiler/build_parts.h"

enum { judge_every = 5 };

typedef struct picker {
    const facet_samples *from;
    const uint64_t *starts; // (from->n) first token of each sample
    facet_samples *out;
    uint64_t left; // tokens still allowed
} picker;

static void copy_sample(picker *p, uint32_t sample)
{
    uint64_t length = p->from->lengths[sample];
    if (length > p->left) length = p->left;
    if (length == 0) return;
    memcpy(p->out->tokens + p->out->n_tokens, p->from->tokens + p->starts[sample],
           length * sizeof *p->out->tokens);
    p->out->lengths[p->out->n++] = (uint32_t)length;
    p->out->n_tokens += length;
    p->left -= length;
}

void facet_build_samples_fini(facet_samples *samples, const facet_alloc *alloc)
{
    facet_mem_free(alloc, samples->tokens);
    facet_mem_free(alloc, samples->lengths);
    *samples = (facet_samples){0};
}

// Is sample i of the list among those that stay when only `share` of the tokens may?
static bool chosen(uint32_t i, double share)
{
    return share >= 1 || (uint64_t)((i + 1) * share) > (uint64_t)(i * share) || i == 0;
}

// Copies the chosen samples of one part; a sample judges when it is the last of its five.
static void copy_part(picker *p, const uint32_t *list, uint32_t n, double share, bool judges)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!chosen(i, share)) continue;
        if ((count++ % judge_every == judge_every - 1) == judges) copy_sample(p, list[i]);
    }
}

facet_status facet_build_samples(const facet_samples *from, const uint32_t *list, uint32_t n,
                                 uint64_t max_tokens, const facet_alloc *alloc, facet_samples *out,
                                 uint64_t *n_fit, facet_err *err)
{
    uint64_t total = 0, at = 0;
    for (uint32_t i = 0; i < n; i++)
        total += from->lengths[list[i]];
    facet_samples made = {0};
    uint64_t *starts = facet_mem_new(alloc, from->n, sizeof *starts);
    made.tokens = facet_mem_new(alloc, total, sizeof *made.tokens);
    made.lengths = facet_mem_new(alloc, n, sizeof *made.lengths);
    if (!starts || !made.tokens || !made.lengths) {
        facet_mem_free(alloc, starts);
        facet_build_samples_fini(&made, alloc);
        return facet_fail_memory(err, total * sizeof *made.tokens);
    }
    for (uint32_t i = 0; i < from->n; at += from->lengths[i++])
        starts[i] = at;
    const double share =
        max_tokens == 0 || total <= max_tokens ? 1.0 : (double)max_tokens / (double)total;
    const uint64_t limit = max_tokens ? max_tokens : total;
    picker p = {from, starts, &made, limit - (share < 1 ? limit / judge_every : 0)};
    copy_part(&p, list, n, share, false);
    *n_fit = made.n_tokens;
    p.left = share < 1 ? limit / judge_every : total;
    copy_part(&p, list, n, share, true);
    // Fewer than five samples: the last one judges; a single one is cut.
    if (made.n_tokens == *n_fit && made.n > 1)
        *n_fit -= made.lengths[made.n - 1];
    else if (made.n_tokens == *n_fit)
        *n_fit -= *n_fit / judge_every;
    facet_mem_free(alloc, starts);
    *out = made;
    return FACET_OK;
}
