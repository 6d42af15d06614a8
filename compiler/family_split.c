// SPDX-License-Identifier: Apache-2.0
// What scores a task never calibrates it: the split of a family's samples, and the search for text
// that calibration would share with held-out samples.
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "compiler/family.h"

// A sample is a near-duplicate when a tenth of its 8-grams stand in held-out text: single ones
// recur in any two texts of one kind (declarations, phrases), and dropping those left C headers
// without text.
enum { gram_tokens = 8, duplicate_share = 10 };

typedef struct gram {
    uint64_t hash;
    uint32_t sample;
} gram;

static int gram_order(const void *a, const void *b)
{
    const gram *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return (x->sample > y->sample) - (x->sample < y->sample);
}

static uint64_t hash_tokens(const uint32_t *tokens)
{
    uint64_t h = 0x9e3779b97f4a7c15u;
    for (int i = 0; i < gram_tokens; i++) {
        h ^= tokens[i];
        h *= 0xbf58476d1ce4e5b9u;
        h ^= h >> 29;
    }
    return h;
}

static size_t count_grams(const facet_samples *samples, uint32_t sample)
{
    const uint32_t length = samples->lengths[sample];
    return length >= gram_tokens ? length - gram_tokens + 1 : 0;
}

static void list_grams(const facet_samples *samples, gram *grams)
{
    const uint32_t *tokens = samples->tokens;
    for (uint32_t i = 0; i < samples->n; tokens += samples->lengths[i++])
        for (uint32_t j = 0; j + gram_tokens <= samples->lengths[i]; j++)
            *grams++ = (gram){hash_tokens(tokens + j), i};
}

// Counts, for each calibrating sample, its grams that a held-out sample has too. What more than
// `common` samples share is a chat template, an instruction or a licence, not a copy.
static void count_shared(const gram *grams, size_t n, const uint8_t *held, uint32_t common,
                         uint32_t *shared)
{
    for (size_t begin = 0, end; begin < n; begin = end) {
        uint32_t distinct = 0;
        bool any_held = false;
        for (end = begin; end < n && grams[end].hash == grams[begin].hash; end++) {
            if (end > begin && grams[end].sample == grams[end - 1].sample) continue;
            distinct++;
            any_held = any_held || held[grams[end].sample];
        }
        if (!any_held || distinct > common) continue;
        for (size_t i = begin; i < end; i++)
            if (!held[grams[i].sample]) shared[grams[i].sample]++;
    }
}

static facet_status find_duplicates(const facet_family_set *families, const facet_alloc *alloc,
                                    uint8_t *duplicate, facet_err *err)
{
    const facet_samples *samples = &families->samples;
    if (!samples->tokens) return FACET_OK;
    size_t n = 0;
    for (uint32_t i = 0; i < samples->n; i++)
        n += count_grams(samples, i);
    gram *grams = facet_mem_new(alloc, n, sizeof *grams);
    uint32_t *shared = facet_mem_new(alloc, samples->n, sizeof *shared);
    if (grams && shared) {
        list_grams(samples, grams);
        qsort(grams, n, sizeof *grams, gram_order);
        const uint32_t tenth = samples->n / (10 * families->n_families);
        count_shared(grams, n, families->held, tenth > 4 ? tenth : 4, shared);
        for (uint32_t i = 0; i < samples->n; i++)
            duplicate[i] = shared[i] > 0 && shared[i] * duplicate_share >= count_grams(samples, i);
    }
    const bool failed = !grams || !shared;
    facet_mem_free(alloc, grams);
    facet_mem_free(alloc, shared);
    return failed ? facet_fail_memory(err, n * sizeof *grams) : FACET_OK;
}

void facet_family_split_fini(facet_family_split *split, const facet_alloc *alloc)
{
    facet_mem_free(alloc, split->calibrate);
    facet_mem_free(alloc, split->held);
    *split = (facet_family_split){0};
}

static facet_status fill_split(const facet_family_set *families, uint32_t family,
                               const uint8_t *duplicate, const facet_alloc *alloc,
                               facet_family_split *split, facet_err *err)
{
    const uint32_t n = families->samples.n;
    uint32_t members = 0;
    for (uint32_t i = 0; i < n; i++)
        members += families->assign[i] == family;
    split->calibrate = facet_mem_new(alloc, members, sizeof *split->calibrate);
    split->held = facet_mem_new(alloc, members, sizeof *split->held);
    if (!split->calibrate || !split->held)
        return facet_fail_memory(err, members * sizeof *split->held);
    for (uint32_t i = 0; i < n; i++) {
        if (families->assign[i] != family) continue;
        if (families->held[i])
            split->held[split->n_held++] = i;
        else if (duplicate[i])
            split->n_duplicates++;
        else
            split->calibrate[split->n_calibrate++] = i;
    }
    return FACET_OK;
}

facet_status facet_family_splits(const facet_family_set *families, const facet_alloc *alloc,
                                 facet_family_split *splits, facet_err *err)
{
    for (uint32_t k = 0; k < families->n_families; k++)
        splits[k] = (facet_family_split){0};
    uint8_t *duplicate = facet_mem_new(alloc, families->samples.n, 1);
    if (!duplicate) return facet_fail_memory(err, families->samples.n);
    facet_status status = find_duplicates(families, alloc, duplicate, err);
    for (uint32_t k = 0; k < families->n_families && status == FACET_OK; k++)
        status = fill_split(families, k, duplicate, alloc, &splits[k], err);
    facet_mem_free(alloc, duplicate);
    if (status == FACET_OK) return FACET_OK;
    for (uint32_t k = 0; k < families->n_families; k++)
        facet_family_split_fini(&splits[k], alloc);
    return status;
}
