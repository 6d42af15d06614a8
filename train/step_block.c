// SPDX-License-Identifier: Apache-2.0
// What attention and FFN share: the norm before a block, the residual stream after it, and the
// products with its weights, forward and backward.
#include "products/each.h"
#include "train/step_private.h"

bool facet_step_trains(const facet_step *step, uint32_t layer, uint32_t roles)
{
    for (uint32_t role = 0; role < FACET_PARAM_ROLES; role++)
        if ((roles & FACET_PARAM_BIT(role)) && facet_net_trains(step->net, role, layer))
            return true;
    return false;
}

const facet_real *facet_step_vector(const facet_step *step, uint32_t role, uint32_t layer)
{
    const facet_param *param = facet_net_param(step->net, role, layer);
    return param ? param->value : NULL;
}

facet_norm facet_step_norm(const facet_step *step, const facet_real *x, const facet_real *gain)
{
    const facet_hparams *hp = &step->net->hp;
    return (facet_norm){.x = x,
                        .gain = gain,
                        .rows = step->batch->n_tokens,
                        .n = hp->d_model,
                        .eps = (facet_real)hp->rms_eps};
}

void facet_step_block_norm(const facet_step *step, const facet_step_block *block)
{
    const facet_norm norm = facet_step_norm(step, step->x[block->stage - 1],
                                            facet_step_vector(step, block->norm, block->layer));
    facet_norm_run(step->opts.pool, &norm, step->normed);
}

typedef struct add_job {
    const facet_real *x;
    facet_real *branch, *sum;
    size_t d, n_tokens;
} add_job;

#define ADD_TOKENS 32u // of an item

static void sum_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const add_job *job = ctx;
    const size_t first = item * ADD_TOKENS * job->d;
    const size_t end = first + ADD_TOKENS * job->d, n = job->n_tokens * job->d;
    for (size_t i = first; i < n && i < end; i++)
        job->sum[i] = job->x[i] + job->branch[i];
}

void facet_step_block_add(const facet_step *step, const facet_step_block *block)
{
    const size_t d = step->net->hp.d_model, n_tokens = step->batch->n_tokens;
    const uint64_t n_items = (n_tokens + ADD_TOKENS - 1) / ADD_TOKENS;
    const facet_real *post = facet_step_vector(step, block->post, block->layer);
    const facet_real *bias = facet_step_vector(step, block->bias, block->layer);
    add_job job = {.x = step->x[block->stage - 1],
                   .branch = post ? block->out : step->branch,
                   .sum = step->x[block->stage],
                   .d = d,
                   .n_tokens = n_tokens};
    if (bias) facet_bias_run(step->opts.pool, bias, (const size_t[]){n_tokens, d}, job.branch);
    if (post) {
        const facet_norm norm = facet_step_norm(step, block->out, post);
        facet_norm_run(step->opts.pool, &norm, step->branch);
        job.branch = step->branch;
    }
    facet_each(step->opts.pool, n_items, sum_item, &job);
}

const facet_real *facet_step_block_back(const facet_step *step, const facet_step_block *block)
{
    const facet_param *post = facet_net_param(step->net, block->post, block->layer);
    const facet_param *bias = facet_net_param(step->net, block->bias, block->layer);
    const facet_real *dy = step->dx;
    if (post) {
        const facet_norm norm = facet_step_norm(step, block->out, post->value);
        if (post->grad) facet_norm_gain_back(step->opts.pool, &norm, dy, step->inverse, post->grad);
        facet_norm_back(step->opts.pool, &norm, dy, step->dbranch, false);
        dy = step->dbranch;
    }
    if (bias && bias->grad)
        facet_bias_back(step->opts.pool, dy,
                        (const size_t[]){step->batch->n_tokens, step->net->hp.d_model}, bias->grad);
    return dy;
}

void facet_step_block_input(const facet_step *step, const facet_step_block *block)
{
    const facet_param *gain = facet_net_param(step->net, block->norm, block->layer);
    const facet_norm norm = facet_step_norm(step, step->x[block->stage - 1], gain->value);
    if (gain->grad)
        facet_norm_gain_back(step->opts.pool, &norm, step->branch, step->inverse, gain->grad);
    if (facet_step_flows(step, block->stage))
        facet_norm_back(step->opts.pool, &norm, step->branch, step->dx, true);
}

facet_product facet_step_by(facet_product_kind kind, const size_t mnk[3], const facet_real *a,
                            const facet_param *w, facet_real *c)
{
    facet_product product = facet_product_whole(kind, mnk, a, w->value, c);
    product.b_rounded = w->rounded;
    return product;
}

facet_product facet_step_forward(const facet_step *step, const facet_param *w, const facet_real *x,
                                 facet_real *y)
{
    const size_t mnk[] = {step->batch->n_tokens, w->rows, w->cols};
    return facet_step_by(FACET_PRODUCT_NT, mnk, x, w, y);
}

facet_product facet_step_input(const facet_step *step, const facet_param *w, const facet_real *dy,
                               facet_real *dx)
{
    const size_t mnk[] = {step->batch->n_tokens, w->cols, w->rows};
    return facet_step_by(FACET_PRODUCT_NN, mnk, dy, w, dx);
}

bool facet_step_weight(const facet_step *step, const facet_param *w, const facet_real *dy,
                       const facet_real *x, facet_product *product)
{
    if (!w->grad) return false;
    const size_t mnk[] = {w->rows, w->cols, step->batch->n_tokens};
    *product = facet_product_whole(FACET_PRODUCT_TN, mnk, dy, x, w->grad);
    product->add = true;
    return true;
}
