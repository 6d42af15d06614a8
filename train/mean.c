// SPDX-License-Identifier: Apache-2.0
#include "train/mean.h"

#include "base/memory.h"
#include "products/each.h"

struct facet_mean {
    const facet_net *net;
    facet_pool *pool;
    const facet_alloc *alloc;
    facet_real *values; // (n_trained), parameter after parameter
    size_t *first;      // (n_params) where a parameter's begin
    uint32_t n;         // steps taken in
    facet_real share;   // of the newest one
};

facet_status facet_mean_new(const facet_net *net, facet_pool *pool, const facet_alloc *alloc,
                            facet_mean **out, facet_err *err)
{
    facet_mean *mean = facet_mem_new(alloc, 1, sizeof *mean);
    if (!mean) return facet_fail_memory(err, sizeof *mean);
    *mean = (facet_mean){.net = net, .pool = pool, .alloc = alloc};
    mean->values = facet_mem_new_aligned(alloc, net->n_trained, sizeof *mean->values);
    mean->first = facet_mem_new(alloc, net->n_params, sizeof *mean->first);
    if (!mean->values || !mean->first) {
        facet_mean_free(mean);
        return facet_fail_memory(err, net->n_trained * sizeof *mean->values);
    }
    for (size_t i = 0, at = 0; i < net->n_params; i++) {
        mean->first[i] = at;
        if (net->params[i].grad) at += facet_param_size(&net->params[i]);
    }
    *out = mean;
    return FACET_OK;
}

void facet_mean_free(facet_mean *mean)
{
    if (!mean) return;
    facet_mem_free_aligned(mean->alloc, mean->values);
    facet_mem_free(mean->alloc, mean->first);
    facet_mem_free(mean->alloc, mean);
}

void facet_mean_restart(facet_mean *mean)
{
    mean->n = 0;
}

static void add_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const facet_mean *mean = ctx;
    const facet_param *param = &mean->net->params[item];
    if (!param->grad) return;
    facet_real *restrict to = mean->values + mean->first[item];
    const facet_real *restrict from = param->value;
    const facet_real share = mean->share;
    // The first values replace what is there, which may be anything.
    for (size_t i = 0, n = facet_param_size(param); i < n; i++)
        to[i] = share < 1 ? to[i] + share * (from[i] - to[i]) : from[i];
}

void facet_mean_add(facet_mean *mean, uint32_t horizon)
{
    if (mean->n < UINT32_MAX) mean->n++;
    mean->share = 1 / (facet_real)(mean->n < horizon ? mean->n : horizon);
    facet_each(mean->pool, mean->net->n_params, add_item, mean);
}

static void swap_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const facet_mean *mean = ctx;
    const facet_param *param = &mean->net->params[item];
    if (!param->grad) return;
    facet_real *restrict a = mean->values + mean->first[item], *restrict b = param->value;
    for (size_t i = 0, n = facet_param_size(param); i < n; i++) {
        const facet_real value = a[i];
        a[i] = b[i];
        b[i] = value;
    }
}

void facet_mean_swap(facet_mean *mean)
{
    facet_each(mean->pool, mean->net->n_params, swap_item, mean);
}
