// SPDX-License-Identifier: Apache-2.0
// The attention block of a layer.
//
//     q, k, v = xn W^T + bias; q and k through their norm and rotary
//     attended from q, k, v (step_heads.c)    y = attended Wo^T + bias
#include "products/each.h"
#include "train/step_private.h"

#define ROTARY_TOKENS 32u // of an item

static facet_step_block block_of(const facet_step *step, uint32_t layer)
{
    return (facet_step_block){.layer = layer,
                              .stage = 2 * layer + 1,
                              .norm = FACET_ROLE_ATTN_NORM,
                              .bias = FACET_ROLE_O_BIAS,
                              .post = FACET_ROLE_ATTN_POST,
                              .out = step->layers[layer].attn_out};
}

// ---- one of q, k, v ---------------------------------------------------------------------------

typedef struct projection {
    const facet_param *weight, *bias, *norm; // bias, norm: NULL without
    facet_real *y, *plain;                   // plain: before the norm
    uint32_t n_heads;
    bool rotates;
} projection;

enum { PROJECTIONS = 3 };

static void projections_of(const facet_step *step, uint32_t layer, projection out[PROJECTIONS])
{
    const facet_net *net = step->net;
    const facet_step_layer *l = &step->layers[layer];
    out[0] = (projection){facet_net_param(net, FACET_ROLE_Q, layer),
                          facet_net_param(net, FACET_ROLE_Q_BIAS, layer),
                          facet_net_param(net, FACET_ROLE_Q_NORM, layer),
                          l->q,
                          l->q_plain,
                          net->hp.n_heads,
                          true};
    out[1] = (projection){facet_net_param(net, FACET_ROLE_K, layer),
                          facet_net_param(net, FACET_ROLE_K_BIAS, layer),
                          facet_net_param(net, FACET_ROLE_K_NORM, layer),
                          l->k,
                          l->k_plain,
                          net->hp.n_kv_heads,
                          true};
    out[2] = (projection){facet_net_param(net, FACET_ROLE_V, layer),
                          facet_net_param(net, FACET_ROLE_V_BIAS, layer),
                          NULL,
                          l->v,
                          NULL,
                          net->hp.n_kv_heads,
                          false};
}

static facet_norm head_norm(const facet_step *step, const projection *p)
{
    const facet_hparams *hp = &step->net->hp;
    return (facet_norm){.x = p->plain,
                        .gain = p->norm->value,
                        .rows = (size_t)step->batch->n_tokens * p->n_heads,
                        .n = hp->head_dim,
                        .eps = (facet_real)hp->rms_eps};
}

// Pairs of a head are rotated by their angle, as in calib/rotary.c; backward by its opposite.
static void rotate(const facet_hparams *hp, const float *angles, facet_real sign, facet_real *head)
{
    const uint32_t half = hp->rope_dims / 2;
    const bool neox = hp->rotary == FACET_ROTARY_NEOX;
    const size_t step = neox ? 1 : 2, apart = neox ? half : 1;
    for (size_t i = 0; i < half; i++) {
        facet_real *a = head + i * step, *b = a + apart;
        const facet_real x = *a, y = *b;
        const facet_real c = (facet_real)angles[2 * i], s = sign * (facet_real)angles[2 * i + 1];
        *a = x * c - y * s;
        *b = x * s + y * c;
    }
}

typedef struct rotary_job {
    const facet_step *step;
    const projection *p;
    const float *angles; // (longest, rope_dims / 2, 2)
    facet_real sign;     // -1 turns back
} rotary_job;

static void rotary_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const rotary_job *job = ctx;
    const facet_hparams *hp = &job->step->net->hp;
    const size_t n = job->p->weight->rows, n_tokens = job->step->batch->n_tokens;
    const size_t first = item * ROTARY_TOKENS;
    for (size_t t = first; t < n_tokens && t < first + ROTARY_TOKENS; t++) {
        const size_t position = job->step->position[t];
        const float *angles = job->angles + position * ((size_t)hp->rope_dims / 2 * 2);
        for (uint32_t h = 0; h < job->p->n_heads; h++)
            rotate(hp, angles, job->sign, job->p->y + t * n + (size_t)h * hp->head_dim);
    }
}

static void rotary_run(const facet_step *step, uint32_t layer, const projection *p, facet_real sign)
{
    const facet_hparams *hp = &step->net->hp;
    if (!p->rotates || hp->rotary == FACET_ROTARY_NONE) return;
    rotary_job job = {.step = step,
                      .p = p,
                      .angles = step->rotary[facet_model_windowed(hp, layer)],
                      .sign = sign};
    facet_each(step->opts.pool, (step->batch->n_tokens + ROTARY_TOKENS - 1) / ROTARY_TOKENS,
               rotary_item, &job);
}

// After the product: bias, norm, rotary.
static void projection_finish(const facet_step *step, uint32_t layer, const projection *p)
{
    if (p->bias)
        facet_bias_run(step->opts.pool, p->bias->value,
                       (const size_t[]){step->batch->n_tokens, p->weight->rows},
                       p->norm ? p->plain : p->y);
    if (p->norm) {
        const facet_norm norm = head_norm(step, p);
        facet_norm_run(step->opts.pool, &norm, p->y);
    }
    rotary_run(step, layer, p, 1);
}

// From the gradient of what attention reads, in p->y, to that of the product.
static void projection_unfinish(const facet_step *step, uint32_t layer, const projection *p)
{
    facet_pool *pool = step->opts.pool;
    rotary_run(step, layer, p, -1);
    if (p->norm) {
        const facet_norm norm = head_norm(step, p);
        if (p->norm->grad) facet_norm_gain_back(pool, &norm, p->y, step->inverse, p->norm->grad);
        facet_norm_back(pool, &norm, p->y, p->y, false);
    }
    if (p->bias && p->bias->grad)
        facet_bias_back(pool, p->y, (const size_t[]){step->batch->n_tokens, p->weight->rows},
                        p->bias->grad);
}

// ---- the block --------------------------------------------------------------------------------

void facet_step_attn(facet_step *step, uint32_t layer)
{
    const facet_step_block block = block_of(step, layer);
    projection p[PROJECTIONS];
    facet_product in[PROJECTIONS];
    projections_of(step, layer, p);
    facet_step_block_norm(step, &block);
    for (int i = 0; i < PROJECTIONS; i++)
        in[i] =
            facet_step_forward(step, p[i].weight, step->normed, p[i].norm ? p[i].plain : p[i].y);
    facet_step_products(step, in, PROJECTIONS);
    for (int i = 0; i < PROJECTIONS; i++)
        projection_finish(step, layer, &p[i]);
    facet_step_heads(step, layer);
    const facet_product out =
        facet_step_forward(step, facet_net_param(step->net, FACET_ROLE_O, layer),
                           step->layers[layer].attended, block.out ? block.out : step->branch);
    facet_step_products(step, &out, 1);
    facet_step_block_add(step, &block);
}

// From dq, dk, dv of the products: their weights' gradients, and `branch` = dxn.
static void inner_back(const facet_step *step, const facet_step_block *block,
                       const projection p[PROJECTIONS])
{
    facet_product weights[PROJECTIONS];
    uint32_t n = 0;
    for (int i = 0; i < PROJECTIONS; i++)
        if (facet_step_weight(step, p[i].weight, p[i].y, step->normed, &weights[n])) n++;
    if (n > 0) facet_step_block_norm(step, block);
    facet_step_products(step, weights, n);
    for (int i = 0; i < PROJECTIONS; i++) {
        facet_product input = facet_step_input(step, p[i].weight, p[i].y, step->branch);
        input.add = i > 0;
        facet_step_products(step, &input, 1);
    }
}

void facet_step_attn_back(facet_step *step, uint32_t layer)
{
    const uint32_t outside = FACET_PARAM_BIT(FACET_ROLE_O) | FACET_PARAM_BIT(FACET_ROLE_O_BIAS) |
                             FACET_PARAM_BIT(FACET_ROLE_ATTN_POST);
    const uint32_t inside = ((FACET_PARAM_BIT(FACET_ROLE_FFN_NORM) - 1) &
                             ~(FACET_PARAM_BIT(FACET_ROLE_ATTN_NORM) - 1)) &
                            ~outside;
    const facet_step_block block = block_of(step, layer);
    const facet_param *o = facet_net_param(step->net, FACET_ROLE_O, layer);
    const facet_real *dy = facet_step_block_back(step, &block);
    const facet_real *attended = step->layers[layer].attended;
    facet_product product;
    if (facet_step_weight(step, o, dy, attended, &product)) facet_step_products(step, &product, 1);
    if (!facet_step_flows(step, block.stage) && !facet_step_trains(step, layer, inside)) return;
    product = facet_step_input(step, o, dy, step->dattended);
    facet_step_products(step, &product, 1);
    facet_step_heads_back(step, layer);
    projection p[PROJECTIONS];
    projections_of(step, layer, p);
    for (int i = 0; i < PROJECTIONS; i++)
        projection_unfinish(step, layer, &p[i]);
    inner_back(step, &block, p);
    facet_step_block_input(step, &block);
}
