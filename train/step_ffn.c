// SPDX-License-Identifier: Apache-2.0
// The FFN of a layer. Its down projection lies by channel, D (n_kept, d_model):
//
//     g, u = xn Wg^T, xn Wu^T    z = act(g) u    y = z D + bias
//     dD += z^T dy    dz = dy D^T    dg, du from dz    dxn = dg Wg + du Wu
#include "train/step_private.h"

static facet_step_block block_of(const facet_step *step, uint32_t layer)
{
    return (facet_step_block){.layer = layer,
                              .stage = 2 * layer + 2,
                              .norm = FACET_ROLE_FFN_NORM,
                              .bias = FACET_PARAM_DOWN_BIAS,
                              .post = FACET_ROLE_FFN_POST,
                              .out = step->layers[layer].ffn_out};
}

static facet_gated gated_of(const facet_step *step, uint32_t layer)
{
    const facet_step_layer *l = &step->layers[layer];
    return (facet_gated){.act = step->net->hp.act,
                         .n = (size_t)step->batch->n_tokens * facet_net_kept(step->net, layer),
                         .gate = l->gate,
                         .up = l->up,
                         .z = step->wide};
}

void facet_step_ffn(facet_step *step, uint32_t layer)
{
    const facet_net *net = step->net;
    const facet_step_layer *l = &step->layers[layer];
    const facet_step_block block = block_of(step, layer);
    const facet_param *down = facet_net_param(net, FACET_ROLE_DOWN, layer);
    facet_step_block_norm(step, &block);
    const facet_product in[] = {
        facet_step_forward(step, facet_net_param(net, FACET_ROLE_GATE, layer), step->normed,
                           l->gate),
        facet_step_forward(step, facet_net_param(net, FACET_ROLE_UP, layer), step->normed, l->up),
    };
    facet_step_products(step, in, FACET_COUNT_OF(in));
    const facet_gated gated = gated_of(step, layer);
    facet_gated_run(step->opts.pool, &gated);
    const size_t mnk[] = {step->batch->n_tokens, down->cols, down->rows};
    const facet_product out = facet_step_by(FACET_PRODUCT_NN, mnk, step->wide, down,
                                            block.out ? block.out : step->branch);
    facet_step_products(step, &out, 1);
    facet_step_block_add(step, &block);
}

// grad += z^T dy, with z in `wide`.
static void down_back(const facet_step *step, const facet_param *down, const facet_real *dy)
{
    facet_product product;
    if (facet_step_weight(step, down, step->wide, dy, &product))
        facet_step_products(step, &product, 1);
}

// From the gradients of gate and up: their weights' gradients, and `branch` = dxn.
static void inner_back(const facet_step *step, const facet_step_block *block)
{
    const facet_step_layer *l = &step->layers[block->layer];
    const facet_param *gate = facet_net_param(step->net, FACET_ROLE_GATE, block->layer);
    const facet_param *up = facet_net_param(step->net, FACET_ROLE_UP, block->layer);
    facet_product weights[2];
    uint32_t n = 0;
    if (gate->grad || up->grad) facet_step_block_norm(step, block);
    if (facet_step_weight(step, gate, l->gate, step->normed, &weights[n])) n++;
    if (facet_step_weight(step, up, l->up, step->normed, &weights[n])) n++;
    facet_step_products(step, weights, n);
    facet_product input = facet_step_input(step, gate, l->gate, step->branch);
    facet_step_products(step, &input, 1);
    input = facet_step_input(step, up, l->up, step->branch);
    input.add = true;
    facet_step_products(step, &input, 1);
}

void facet_step_ffn_back(facet_step *step, uint32_t layer)
{
    const uint32_t inside = FACET_PARAM_BIT(FACET_ROLE_GATE) | FACET_PARAM_BIT(FACET_ROLE_UP) |
                            FACET_PARAM_BIT(FACET_ROLE_FFN_NORM);
    const facet_step_block block = block_of(step, layer);
    const facet_param *down = facet_net_param(step->net, FACET_ROLE_DOWN, layer);
    const facet_gated gated = gated_of(step, layer);
    const facet_real *dy = facet_step_block_back(step, &block);
    if (!facet_step_flows(step, block.stage) && !facet_step_trains(step, layer, inside)) {
        if (down->grad) facet_gated_run(step->opts.pool, &gated);
        down_back(step, down, dy);
        return;
    }
    const size_t mnk[] = {step->batch->n_tokens, down->rows, down->cols};
    const facet_product inner = facet_step_by(FACET_PRODUCT_NT, mnk, dy, down, step->wide);
    facet_step_products(step, &inner, 1);
    facet_gated_back(step->opts.pool, &gated);
    down_back(step, down, dy);
    inner_back(step, &block);
    facet_step_block_input(step, &block);
}
