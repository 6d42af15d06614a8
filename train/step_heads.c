// SPDX-License-Identifier: Apache-2.0
// The heads of attention: P = softmax(scale q k^T), causal and windowed, attended = P v.
//
// P is not kept: it is n_heads times the sample's length for each token, and computing it again
// from q and k costs a product of head_dim columns. Backward, with D = sum(dattended * attended):
//
//     dS = P (dattended v^T - D)    dq = scale dS k    dk = scale dS^T q    dv = P^T dattended
#include "calib/each.h"
#include "train/step_private.h"

typedef struct heads_job {
    const facet_step *step;
    const facet_step_layer *layer;
    uint32_t window; // 0: none
} heads_job;

// A block of queries of one head of one sample, and the keys they may see.
typedef struct query_block {
    size_t n_q, n_kv;             // strides of a token
    uint32_t query, n_rows;       // first position and how many
    uint32_t lo, hi;              // positions of keys
    size_t at_q, at_kv;           // offsets of the first query and of key 0
    facet_real *scores, *dscores; // (n_rows, hi - lo)
} query_block;

static query_block block_at(const heads_job *job, uint32_t sample, uint32_t head, uint32_t query)
{
    const facet_hparams *hp = &job->step->net->hp;
    const size_t token = job->step->start[sample], dim = hp->head_dim;
    const uint32_t left = job->step->batch->lengths[sample] - query;
    query_block b = {.n_q = hp->n_heads * dim, .n_kv = hp->n_kv_heads * dim, .query = query};
    b.n_rows = left < FACET_STEP_QUERY ? left : FACET_STEP_QUERY;
    b.lo = job->window && query >= job->window ? query - job->window + 1 : 0;
    b.hi = query + b.n_rows;
    b.at_q = (token + query) * b.n_q + head * dim;
    b.at_kv = token * b.n_kv + head / (hp->n_heads / hp->n_kv_heads) * dim;
    return b;
}

// Scores of the block become weights; keys outside the window or after the query get 0.
static void softmax_rows(const query_block *b, uint32_t window)
{
    const uint32_t n = b->hi - b->lo;
    facet_real *scores = b->scores;
    for (uint32_t r = 0; r < b->n_rows; r++, scores += n) {
        const uint32_t position = b->query + r;
        const uint32_t oldest = window && position >= window ? position - window + 1 : 0;
        const uint32_t begin = oldest > b->lo ? oldest - b->lo : 0, end = position + 1 - b->lo;
        facet_real max = scores[begin];
        for (uint32_t j = begin + 1; j < end; j++)
            if (scores[j] > max) max = scores[j];
        for (uint32_t j = begin; j < end; j++)
            scores[j] = facet_real_exp(scores[j] - max);
        double sum = 0;
        for (uint32_t j = begin; j < end; j++)
            sum += (double)scores[j];
        const facet_real scale = (facet_real)(1 / sum);
        for (uint32_t j = begin; j < end; j++)
            scores[j] *= scale;
        memset(scores, 0, begin * sizeof *scores);
        memset(scores + end, 0, (n - end) * sizeof *scores);
    }
}

static void weights_of(const heads_job *job, const query_block *b)
{
    const facet_hparams *hp = &job->step->net->hp;
    facet_product_run(&(facet_product){.kind = FACET_PRODUCT_NT,
                                       .m = b->n_rows,
                                       .n = b->hi - b->lo,
                                       .k = hp->head_dim,
                                       .alpha = (facet_real)hp->attn_scale,
                                       .a = job->layer->q + b->at_q,
                                       .b = job->layer->k + b->at_kv + b->lo * b->n_kv,
                                       .c = b->scores,
                                       .stride_a = b->n_q,
                                       .stride_b = b->n_kv,
                                       .stride_c = b->hi - b->lo});
    softmax_rows(b, job->window);
}

static void attend_item(void *ctx, uint32_t thread, uint64_t item)
{
    const heads_job *job = ctx;
    const facet_step *step = job->step;
    const facet_hparams *hp = &step->net->hp;
    const uint32_t sample = (uint32_t)(item / hp->n_heads), head = (uint32_t)(item % hp->n_heads);
    for (uint32_t q = 0; q < step->batch->lengths[sample]; q += FACET_STEP_QUERY) {
        query_block b = block_at(job, sample, head, q);
        b.scores = step->lanes + thread * step->lane;
        weights_of(job, &b);
        facet_product_run(&(facet_product){.kind = FACET_PRODUCT_NN,
                                           .m = b.n_rows,
                                           .n = hp->head_dim,
                                           .k = b.hi - b.lo,
                                           .alpha = 1,
                                           .a = b.scores,
                                           .b = job->layer->v + b.at_kv + b.lo * b.n_kv,
                                           .c = job->layer->attended + b.at_q,
                                           .stride_a = b.hi - b.lo,
                                           .stride_b = b.n_kv,
                                           .stride_c = b.n_q});
    }
}

// dS from the weights and dattended: b->dscores (n_rows, hi - lo).
static void scores_back(const heads_job *job, const query_block *b)
{
    const size_t dim = job->step->net->hp.head_dim, n = b->hi - b->lo;
    const facet_real *dy = job->step->dattended + b->at_q;
    const facet_real *y = job->layer->attended + b->at_q;
    facet_product_run(&(facet_product){.kind = FACET_PRODUCT_NT,
                                       .m = b->n_rows,
                                       .n = n,
                                       .k = dim,
                                       .alpha = 1,
                                       .a = dy,
                                       .b = job->layer->v + b->at_kv + b->lo * b->n_kv,
                                       .c = b->dscores,
                                       .stride_a = b->n_q,
                                       .stride_b = b->n_kv,
                                       .stride_c = n});
    for (size_t r = 0; r < b->n_rows; r++) {
        double dot = 0;
        for (size_t j = 0; j < dim; j++)
            dot += (double)dy[r * b->n_q + j] * (double)y[r * b->n_q + j];
        const facet_real mean = (facet_real)dot;
        for (size_t j = 0; j < n; j++)
            b->dscores[r * n + j] = b->scores[r * n + j] * (b->dscores[r * n + j] - mean);
    }
}

// Adds a block's part to dk and dv (length, head_dim); dq takes the place of the block's queries,
// which are read before.
static void block_back(const heads_job *job, const query_block *b, facet_real *dk, facet_real *dv)
{
    const facet_hparams *hp = &job->step->net->hp;
    const size_t dim = hp->head_dim, n = b->hi - b->lo;
    facet_real *q = job->layer->q + b->at_q;
    weights_of(job, b);
    scores_back(job, b);
    facet_product product = {.kind = FACET_PRODUCT_TN,
                             .add = true,
                             .m = n,
                             .n = dim,
                             .k = b->n_rows,
                             .alpha = 1,
                             .a = b->scores,
                             .b = job->step->dattended + b->at_q,
                             .c = dv + b->lo * dim,
                             .stride_a = n,
                             .stride_b = b->n_q,
                             .stride_c = dim};
    facet_product_run(&product);
    product.alpha = (facet_real)hp->attn_scale;
    product.a = b->dscores;
    product.b = q;
    product.c = dk + b->lo * dim;
    facet_product_run(&product);
    facet_product_run(&(facet_product){.kind = FACET_PRODUCT_NN,
                                       .m = b->n_rows,
                                       .n = dim,
                                       .k = n,
                                       .alpha = (facet_real)hp->attn_scale,
                                       .a = b->dscores,
                                       .b = job->layer->k + b->at_kv + b->lo * b->n_kv,
                                       .c = q,
                                       .stride_a = n,
                                       .stride_b = b->n_kv,
                                       .stride_c = b->n_q});
}

// One head of keys of one sample, with all heads of queries that read it: their sums have one
// order.
static void attend_back_item(void *ctx, uint32_t thread, uint64_t item)
{
    const heads_job *job = ctx;
    const facet_step *step = job->step;
    const facet_hparams *hp = &step->net->hp;
    const uint32_t sample = (uint32_t)(item / hp->n_kv_heads);
    const uint32_t group = hp->n_heads / hp->n_kv_heads;
    const uint32_t first = (uint32_t)(item % hp->n_kv_heads) * group;
    const size_t length = step->batch->lengths[sample], dim = hp->head_dim;
    facet_real *scores = step->lanes + thread * step->lane;
    facet_real *dscores = scores + (size_t)FACET_STEP_QUERY * step->opts.longest;
    facet_real *dk = dscores + (size_t)FACET_STEP_QUERY * step->opts.longest;
    facet_real *dv = dk + length * dim;
    memset(dk, 0, 2 * length * dim * sizeof *dk);
    for (uint32_t head = first; head < first + group; head++)
        for (uint32_t q = 0; q < length; q += FACET_STEP_QUERY) {
            query_block b = block_at(job, sample, head, q);
            b.scores = scores;
            b.dscores = dscores;
            block_back(job, &b, dk, dv);
        }
    if (length == 0) return;
    const query_block b = block_at(job, sample, first, 0);
    for (size_t t = 0; t < length; t++) {
        memcpy(job->layer->k + b.at_kv + t * b.n_kv, dk + t * dim, dim * sizeof *dk);
        memcpy(job->layer->v + b.at_kv + t * b.n_kv, dv + t * dim, dim * sizeof *dv);
    }
}

static heads_job heads_of(const facet_step *step, uint32_t layer)
{
    const facet_hparams *hp = &step->net->hp;
    return (heads_job){.step = step,
                       .layer = &step->layers[layer],
                       .window = facet_model_windowed(hp, layer) ? hp->window : 0};
}

void facet_step_heads(const facet_step *step, uint32_t layer)
{
    heads_job job = heads_of(step, layer);
    facet_each(step->opts.pool, (uint64_t)step->batch->n * step->net->hp.n_heads, attend_item,
               &job);
}

void facet_step_heads_back(const facet_step *step, uint32_t layer)
{
    heads_job job = heads_of(step, layer);
    facet_each(step->opts.pool, (uint64_t)step->batch->n * step->net->hp.n_kv_heads,
               attend_back_item, &job);
}
