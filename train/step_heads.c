// SPDX-License-Identifier: Apache-2.0
// The heads of attention: P = softmax(scale q k^T), causal and windowed, attended = P v.
//
// P is not kept: it is n_heads times the sample's length for each token, and computing it again
// from q and k costs a product of head_dim columns. Backward, with D = sum(dattended * attended):
//
//     dS = P (dattended v^T - D)    dq = scale dS k    dk = scale dS^T q    dv = P^T dattended
#include "products/each.h"
#include "train/step_private.h"

typedef struct heads_job {
    const facet_step *step;
    const facet_step_layer *layer;
    size_t index;    // of the layer
    uint32_t window; // 0: none
} heads_job;

// Keys and values that stand together: those of a prompt, then the sample's own.
typedef struct key_part {
    const facet_real *k, *v;
    size_t first, n; // columns of the scores
} key_part;

enum { PART_PROMPT, PART_OWN, PARTS };

// A block of queries of one head of one sample, and the keys they may see. Positions count from the
// begin of the prompt.
typedef struct query_block {
    size_t n_q, n_kv;       // strides of a token
    uint32_t query, n_rows; // first position and how many
    uint32_t lo, hi;        // positions of keys
    key_part parts[PARTS];
    size_t at_q, at_kv;           // offsets of the first query and of the first own key
    size_t own;                   // the own key that is the first in its part
    facet_real *scores, *dscores; // (n_rows, hi - lo)
} query_block;

static void parts_of(const heads_job *job, uint32_t sample, size_t kv_head, query_block *b)
{
    const facet_prompts *prompts = job->step->batch->prompts;
    const uint32_t prompt = facet_step_prompt(job->step->batch, sample);
    const uint32_t border = prompt > b->lo ? prompt : b->lo; // at most the first query
    b->own = border - prompt;
    b->parts[PART_OWN] = (key_part){.k = job->layer->k + b->at_kv + b->own * b->n_kv,
                                    .v = job->layer->v + b->at_kv + b->own * b->n_kv,
                                    .first = border - b->lo,
                                    .n = b->hi - border};
    b->parts[PART_PROMPT] = (key_part){0};
    if (border == b->lo) return;
    const size_t row = job->index * prompts->n_tokens + prompts->first[sample] + b->lo;
    const size_t at = row * b->n_kv + kv_head * job->step->net->hp.head_dim;
    b->parts[PART_PROMPT] =
        (key_part){.k = prompts->keys + at, .v = prompts->values + at, .n = border - b->lo};
}

static query_block block_at(const heads_job *job, uint32_t sample, uint32_t head, uint32_t query)
{
    const facet_hparams *hp = &job->step->net->hp;
    const size_t token = job->step->start[sample], dim = hp->head_dim;
    const size_t kv_head = head / (hp->n_heads / hp->n_kv_heads);
    const uint32_t left = job->step->batch->lengths[sample] - query;
    query_block b = {.n_q = hp->n_heads * dim, .n_kv = hp->n_kv_heads * dim};
    b.query = facet_step_prompt(job->step->batch, sample) + query;
    b.n_rows = left < FACET_STEP_QUERY ? left : FACET_STEP_QUERY;
    b.lo = job->window && b.query >= job->window ? b.query - job->window + 1 : 0;
    b.hi = b.query + b.n_rows;
    b.at_q = (token + query) * b.n_q + head * dim;
    b.at_kv = token * b.n_kv + kv_head * dim;
    parts_of(job, sample, kv_head, &b);
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

// columns of out (n_rows, hi - lo) = alpha rows (n_rows, head_dim) keys^T, or values^T.
static void times_keys(const heads_job *job, const query_block *b, const facet_real *rows,
                       bool values, facet_real *out)
{
    const facet_hparams *hp = &job->step->net->hp;
    for (int i = 0; i < PARTS; i++) {
        const key_part *part = &b->parts[i];
        if (part->n == 0) continue;
        facet_product_run(&(facet_product){.kind = FACET_PRODUCT_NT,
                                           .m = b->n_rows,
                                           .n = part->n,
                                           .k = hp->head_dim,
                                           .alpha = values ? 1 : (facet_real)hp->attn_scale,
                                           .a = rows,
                                           .b = values ? part->v : part->k,
                                           .c = out + part->first,
                                           .stride_a = b->n_q,
                                           .stride_b = b->n_kv,
                                           .stride_c = b->hi - b->lo});
    }
}

// out (n_rows, head_dim) = alpha weights (n_rows, hi - lo) values, or keys.
static void sum_keys(const heads_job *job, const query_block *b, const facet_real *weights,
                     bool values, facet_real *out)
{
    const facet_hparams *hp = &job->step->net->hp;
    bool add = false;
    for (int i = 0; i < PARTS; i++) {
        const key_part *part = &b->parts[i];
        if (part->n == 0) continue;
        facet_product_run(&(facet_product){.kind = FACET_PRODUCT_NN,
                                           .add = add,
                                           .m = b->n_rows,
                                           .n = hp->head_dim,
                                           .k = part->n,
                                           .alpha = values ? 1 : (facet_real)hp->attn_scale,
                                           .a = weights + part->first,
                                           .b = values ? part->v : part->k,
                                           .c = out,
                                           .stride_a = b->hi - b->lo,
                                           .stride_b = b->n_kv,
                                           .stride_c = b->n_q});
        add = true;
    }
}

static void weights_of(const heads_job *job, const query_block *b)
{
    times_keys(job, b, job->layer->q + b->at_q, false, b->scores);
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
        sum_keys(job, &b, b.scores, true, job->layer->attended + b.at_q);
    }
}

// dS from the weights and dattended: b->dscores (n_rows, hi - lo).
static void scores_back(const heads_job *job, const query_block *b)
{
    const size_t dim = job->step->net->hp.head_dim, n = b->hi - b->lo;
    const facet_real *dy = job->step->dattended + b->at_q;
    const facet_real *y = job->layer->attended + b->at_q;
    times_keys(job, b, dy, true, b->dscores);
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
    const key_part *own = &b->parts[PART_OWN];
    facet_product product = {.kind = FACET_PRODUCT_TN,
                             .add = true,
                             .m = own->n,
                             .n = dim,
                             .k = b->n_rows,
                             .alpha = 1,
                             .a = b->scores + own->first,
                             .b = job->step->dattended + b->at_q,
                             .c = dv + b->own * dim,
                             .stride_a = n,
                             .stride_b = b->n_q,
                             .stride_c = dim};
    facet_product_run(&product);
    product.alpha = (facet_real)hp->attn_scale;
    product.a = b->dscores + own->first;
    product.b = q;
    product.c = dk + b->own * dim;
    facet_product_run(&product);
    sum_keys(job, b, b->dscores, false, q);
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
                       .index = layer,
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
