// SPDX-License-Identifier: Apache-2.0
#include "compiler/family_documents.h"

#include <stdlib.h>

#include "base/memory.h"

enum { judge_every = 5 };

typedef struct member {
    uint32_t document, place;
} member;

static int member_order(const void *a, const void *b)
{
    const member *x = a, *y = b;
    if (x->document != y->document) return x->document < y->document ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

facet_status facet_documents_number(const facet_samples *samples, const uint32_t *list, uint32_t n,
                                    const facet_alloc *alloc, uint32_t *numbers, uint32_t *count,
                                    facet_err *err)
{
    member *members = facet_mem_new(alloc, n, sizeof *members);
    if (!members) return facet_fail_memory(err, n * sizeof *members);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t sample = list ? list[i] : i;
        members[i] = (member){samples->documents ? samples->documents[sample] : sample, i};
    }
    qsort(members, n, sizeof *members, member_order);
    // First every sample points at the first one of its document, which gives the order.
    for (uint32_t i = 0, first = 0; i < n; i++) {
        if (members[i].document != members[first].document) first = i;
        numbers[members[i].place] = members[first].place;
    }
    *count = 0;
    for (uint32_t i = 0; i < n; i++)
        numbers[i] = numbers[i] == i ? (*count)++ : numbers[numbers[i]];
    facet_mem_free(alloc, members);
    return FACET_OK;
}

static uint64_t distance_from_fifth(uint64_t size, uint64_t n)
{
    return judge_every * size > n ? judge_every * size - n : n - judge_every * size;
}

// Of fewer than five documents: a short text beside a long one should not be what calibrates.
static uint32_t pick_document(const uint32_t *numbers, uint32_t n, uint32_t count)
{
    uint32_t sizes[judge_every] = {0}, best = 0;
    for (uint32_t i = 0; i < n; i++)
        sizes[numbers[i]]++;
    for (uint32_t d = 1; d < count; d++)
        if (distance_from_fifth(sizes[d], n) <= distance_from_fifth(sizes[best], n)) best = d;
    return best;
}

static void mark(const uint32_t *numbers, uint32_t n, uint32_t count, uint8_t *marks)
{
    const uint32_t block = n < judge_every && n > 1 ? 1 : n / judge_every;
    const uint32_t picked = count < judge_every ? pick_document(numbers, n, count) : 0;
    for (uint32_t i = 0; i < n; i++) {
        if (count < 2)
            marks[i] = i >= n - block;
        else if (count < judge_every)
            marks[i] = numbers[i] == picked;
        else
            marks[i] = numbers[i] % judge_every == judge_every - 1;
    }
}

facet_status facet_documents_judge(const facet_samples *samples, const uint32_t *list, uint32_t n,
                                   const facet_alloc *alloc, uint8_t *marks, bool *cut,
                                   facet_err *err)
{
    uint32_t count;
    uint32_t *numbers = facet_mem_new(alloc, n, sizeof *numbers);
    if (!numbers) return facet_fail_memory(err, n * sizeof *numbers);
    const facet_status status =
        facet_documents_number(samples, list, n, alloc, numbers, &count, err);
    if (status == FACET_OK) {
        mark(numbers, n, count, marks);
        if (cut) *cut = count < 2 && n > 1;
    }
    facet_mem_free(alloc, numbers);
    return status;
}
