// SPDX-License-Identifier: Apache-2.0
#include "calib/each_rows.h"

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
