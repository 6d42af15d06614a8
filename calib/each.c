// SPDX-License-Identifier: Apache-2.0
#include "calib/each.h"

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

typedef struct rows_job {
    const facet_tensor *tensor;
    uint64_t first, n;
    float *dst;
} rows_job;

#define ROWS_AT_ONCE 64u

static void rows_run(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const rows_job *job = ctx;
    const uint64_t begin = item * ROWS_AT_ONCE;
    const uint64_t end = begin + ROWS_AT_ONCE < job->n ? begin + ROWS_AT_ONCE : job->n;
    for (uint64_t row = begin; row < end; row++)
        facet_tensor_row(job->tensor, job->first + row, job->dst + row * job->tensor->dims[0]);
}

void facet_each_rows(facet_pool *pool, const facet_tensor *tensor, uint64_t first, uint64_t n,
                     float *dst)
{
    rows_job job = {.tensor = tensor, .first = first, .n = n, .dst = dst};
    facet_each(pool, (n + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE, rows_run, &job);
}
