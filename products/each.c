// SPDX-License-Identifier: Apache-2.0
#include "products/each.h"

#include <cblas.h>
#include <stdatomic.h>

typedef struct each_job {
    facet_each_fn *fn;
    void *ctx;
    uint64_t n_items;
    atomic_uint_fast64_t next;
} each_job;

// Items are claimed one by one: causal attention makes them uneven.
static void each_run(void *ctx, uint32_t thread, uint32_t n_threads)
{
    (void)n_threads;
    each_job *job = ctx;
    for (;;) {
        const uint64_t item = atomic_fetch_add(&job->next, 1);
        if (item >= job->n_items) return;
        job->fn(job->ctx, thread, item);
    }
}

void facet_each(facet_pool *pool, uint64_t n_items, facet_each_fn *fn, void *ctx)
{
    each_job job = {.fn = fn, .ctx = ctx, .n_items = n_items};
    atomic_init(&job.next, 0);
    const int before = openblas_get_num_threads();
    openblas_set_num_threads(1);
    facet_pool_run(pool, each_run, &job);
    openblas_set_num_threads(before);
}
