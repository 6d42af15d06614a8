// SPDX-License-Identifier: Apache-2.0
// A pool of persistent threads for work that is far shorter than starting a thread. The caller is
// thread 0. Waiting spins briefly, then sleeps; with more threads than cores it sleeps at once.
#ifndef FACET_BASE_THREADS_H
#define FACET_BASE_THREADS_H

#include "base/status.h"

typedef struct facet_pool facet_pool;
typedef void facet_pool_fn(void *ctx, uint32_t thread, uint32_t n_threads);

// Cores this process may use (at least 1).
unsigned facet_cores(void);
facet_status facet_pool_new(uint32_t n_threads, const facet_alloc *alloc, facet_pool **pool,
                            facet_err *err);
void facet_pool_free(facet_pool *pool); // NULL is fine
uint32_t facet_pool_threads(const facet_pool *pool);
// Runs fn on every thread and returns when all are done. One caller at a time. No allocation.
void facet_pool_run(facet_pool *pool, facet_pool_fn *fn, void *ctx);
// Inside fn: waits until every thread of the pool has arrived; writes before it are visible after.
void facet_pool_barrier(facet_pool *pool);

#endif
