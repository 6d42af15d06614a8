// SPDX-License-Identifier: Apache-2.0
// An allocator that fails at the n-th allocation and counts what is alive. Thread-safe.
#ifndef FACET_TESTS_FAILING_H
#define FACET_TESTS_FAILING_H

#include <facet.h>
#include <stdatomic.h>

typedef struct facet_failing {
    facet_alloc alloc; // hand out a pointer to this
    atomic_long calls; // allocations so far
    atomic_long alive;
    long fail_at; // 1: the first allocation fails; 0: none
} facet_failing;

// `failing` must stay where it is.
void facet_failing_init(facet_failing *failing, long fail_at);
// Calls `make`, which frees what it makes, with the first allocation failing, then the second,
// until none fails: each call but the last is FACET_NO_MEMORY, and none leaves anything alive.
void facet_failing_each(facet_status (*make)(void *ctx, const facet_alloc *alloc), void *ctx);

#endif
