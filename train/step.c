// SPDX-License-Identifier: Apache-2.0
// Life of a step: buffers, the embedding and the walk over the stages.
#include "train/step.h"

#include "base/memory.h"
#include "calib/rotary.h"
#include "products/each.h"
#include "train/step_private.h"

#define LOGITS_BYTES  ((size_t)64 << 20) // of the head at a time
#define EMBED_COLUMNS 64u                // of an item of the embedding's gradient

// ---- buffers ----------------------------------------------------------------------------------

// Numbers are cut off one slab: a first pass with no slab counts, a second one hands them out.
typedef struct cutter {
    facet_real *slab; // NULL: count
    size_t used;
    bool overflow;
} cutter;

static facet_real *cut(cutter *c, size_t rows, size_t columns)
{
    size_t n, end;
    if (!facet_mul_size(rows, columns, &n) || n > SIZE_MAX - 15 ||
        !facet_add_size(c->used, (n + 15) & ~(size_t)15, &end)) {
        c->overflow = true;
        return NULL;
    }
    facet_real *at = c->slab ? c->slab + c->used : NULL;
    c->used = end;
    return at;
}

static void cut_layer(facet_step *step, cutter *c, uint32_t layer)
{
    const facet_net *net = step->net;
    const facet_hparams *hp = &net->hp;
    const size_t t = step->opts.max_tokens, n_kept = facet_net_kept(net, layer);
    const size_t n_q = (size_t)hp->n_heads * hp->head_dim;
    const size_t n_kv = (size_t)hp->n_kv_heads * hp->head_dim;
    facet_step_layer *l = &step->layers[layer];
    l->q = cut(c, t, n_q);
    l->k = cut(c, t, n_kv);
    l->v = cut(c, t, n_kv);
    l->attended = cut(c, t, n_q);
    l->gate = cut(c, t, n_kept);
    l->up = cut(c, t, n_kept);
    if (facet_net_param(net, FACET_ROLE_Q_NORM, layer)) l->q_plain = cut(c, t, n_q);
    if (facet_net_param(net, FACET_ROLE_K_NORM, layer)) l->k_plain = cut(c, t, n_kv);
    if (facet_net_param(net, FACET_ROLE_ATTN_POST, layer)) l->attn_out = cut(c, t, hp->d_model);
    if (facet_net_param(net, FACET_ROLE_FFN_POST, layer)) l->ffn_out = cut(c, t, hp->d_model);
}

static void cut_all(facet_step *step, cutter *c)
{
    const facet_hparams *hp = &step->net->hp;
    const size_t t = step->opts.max_tokens, d = hp->d_model;
    size_t widest = 0;
    for (uint32_t s = 0; s < facet_step_stages(step); s++)
        step->x[s] = cut(c, t, d);
    for (uint32_t layer = 0; layer < hp->n_layers; layer++) {
        const size_t n_kept = facet_net_kept(step->net, layer);
        cut_layer(step, c, layer);
        if (n_kept > widest) widest = n_kept;
    }
    facet_real **rows[] = {&step->normed, &step->branch, &step->dbranch, &step->dx, &step->hidden};
    for (size_t i = 0; i < FACET_COUNT_OF(rows); i++)
        *rows[i] = cut(c, t, d);
    step->wide = cut(c, t, widest);
    step->dattended = cut(c, t, (size_t)hp->n_heads * hp->head_dim);
    step->inverse = cut(c, t, hp->n_heads);
    // Attention: two blocks of scores, and the gradients of one head's keys and values.
    step->lane = 2 * (size_t)step->opts.longest * (FACET_STEP_QUERY + (size_t)hp->head_dim);
    step->lanes = cut(c, facet_pool_threads(step->opts.pool), step->lane);
    facet_step_head *head = &step->head;
    head->states = cut(c, 2 * t, d);
    head->logits = cut(c, (step->opts.distill ? 2 : 1) * (size_t)head->rows, hp->n_vocab);
    head->partial = cut(c, (size_t)head->segments * head->rows, d);
}

static facet_status numbers_new(facet_step *step, facet_err *err)
{
    cutter c = {0};
    cut_all(step, &c);
    if (c.overflow) return facet_fail_memory(err, SIZE_MAX);
    step->slab = facet_mem_new_aligned(step->opts.alloc, c.used, sizeof *step->slab);
    if (!step->slab) return facet_fail_memory(err, c.used * sizeof *step->slab);
    c = (cutter){.slab = step->slab};
    cut_all(step, &c);
    return FACET_OK;
}

static facet_status rotary_new(facet_step *step, facet_err *err)
{
    const facet_hparams *hp = &step->net->hp;
    const size_t row = (size_t)hp->rope_dims / 2 * 2 * sizeof(float);
    if (hp->rotary == FACET_ROTARY_NONE) return FACET_OK;
    for (int local = 0; local < 2; local++) {
        step->rotary[local] = facet_mem_new_aligned(step->opts.alloc, step->opts.longest, row);
        if (!step->rotary[local]) return facet_fail_memory(err, step->opts.longest * row);
        facet_rotary_fill(hp, step->net->rope_factors, local != 0, step->opts.longest,
                          step->rotary[local]);
    }
    return FACET_OK;
}

static uint32_t lowest_stage(const facet_net *net)
{
    uint32_t lowest = UINT32_MAX;
    for (uint32_t i = 0; i < net->n_params; i++) {
        const facet_param *p = &net->params[i];
        uint32_t stage = 2 * p->layer + (p->role < FACET_ROLE_FFN_NORM ? 1 : 2);
        if (p->role == FACET_ROLE_TOKEN_EMBD) stage = 0;
        if (p->role == FACET_ROLE_OUT_NORM || p->role == FACET_ROLE_HEAD)
            stage = 2 * net->hp.n_layers + 1;
        if (p->grad && stage < lowest) lowest = stage;
    }
    return lowest;
}

static facet_status step_build(facet_step *step, facet_err *err)
{
    const facet_alloc *alloc = step->opts.alloc;
    const facet_hparams *hp = &step->net->hp;
    const size_t t = step->opts.max_tokens;
    facet_step_head *head = &step->head;
    const size_t row = (size_t)hp->n_vocab * sizeof(facet_real) * (step->opts.distill ? 2 : 1);
    const size_t fit = (step->opts.logits_bytes ? step->opts.logits_bytes : LOGITS_BYTES) / row;
    head->rows = fit < 1 ? 1 : fit < t ? (uint32_t)fit : (uint32_t)t;
    head->segments = (hp->n_vocab + FACET_STEP_SEGMENT - 1) / FACET_STEP_SEGMENT;
    step->lowest = lowest_stage(step->net);
    step->x = facet_mem_new(alloc, facet_step_stages(step), sizeof *step->x);
    step->layers = facet_mem_new(alloc, hp->n_layers, sizeof *step->layers);
    step->position = facet_mem_new(alloc, t, sizeof *step->position);
    step->start = facet_mem_new(alloc, t, sizeof *step->start);
    step->row = facet_mem_new(alloc, hp->d_model, sizeof *step->row);
    head->products = facet_mem_new(alloc, head->segments, sizeof *head->products);
    head->losses = facet_mem_new(alloc, t, sizeof *head->losses);
    head->scored = facet_mem_new(alloc, t, sizeof *head->scored);
    if (!step->x || !step->layers || !step->position || !step->start || !step->row ||
        !head->products || !head->losses || !head->scored)
        return facet_fail_memory(err, t * sizeof *step->position);
    FACET_TRY(rotary_new(step, err));
    return numbers_new(step, err);
}

facet_status facet_step_new(const facet_net *net, const facet_step_opts *opts, facet_step **out,
                            facet_err *err)
{
    if (opts->max_tokens == 0 || opts->longest == 0 || opts->longest > opts->max_tokens)
        return facet_fail(err, FACET_BAD_INPUT,
                          "training: samples of %u tokens do not go into batches of %u; "
                          "ask for larger batches",
                          (unsigned)opts->longest, (unsigned)opts->max_tokens);
    facet_step *step = facet_mem_new(opts->alloc, 1, sizeof *step);
    if (!step) return facet_fail_memory(err, sizeof *step);
    step->net = net;
    step->opts = *opts;
    const facet_status status = step_build(step, err);
    if (status != FACET_OK) {
        facet_step_free(step);
        return status;
    }
    *out = step;
    return FACET_OK;
}

void facet_step_free(facet_step *step)
{
    if (!step) return;
    const facet_alloc *alloc = step->opts.alloc;
    facet_mem_free_aligned(alloc, step->slab);
    facet_mem_free_aligned(alloc, step->rotary[0]);
    facet_mem_free_aligned(alloc, step->rotary[1]);
    facet_mem_free(alloc, step->x);
    facet_mem_free(alloc, step->layers);
    facet_mem_free(alloc, step->position);
    facet_mem_free(alloc, step->start);
    facet_mem_free(alloc, step->row);
    facet_mem_free(alloc, step->head.products);
    facet_mem_free(alloc, step->head.losses);
    facet_mem_free(alloc, step->head.scored);
    facet_mem_free(alloc, step);
}

const facet_real *facet_step_hidden(const facet_step *step)
{
    return step->hidden;
}

// ---- the embedding ----------------------------------------------------------------------------

static void embed(const facet_step *step)
{
    const facet_net *net = step->net;
    const size_t d = net->hp.d_model;
    const facet_real scale = (facet_real)net->hp.embed_scale;
    const facet_real *table = facet_net_param(net, FACET_ROLE_TOKEN_EMBD, 0)->value;
    for (uint32_t t = 0; t < step->batch->n_tokens; t++) {
        const uint32_t token = step->batch->tokens[t];
        facet_real *x = step->x[0] + t * d;
        if (!table) facet_tensor_row(net->embed, token, step->row);
        for (size_t j = 0; j < d; j++)
            x[j] = scale * (table ? table[token * d + j] : (facet_real)step->row[j]);
    }
}

// Columns of the embedding's gradient, token after token: two tokens of one id never race.
static void embed_back_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const facet_step *step = ctx;
    const facet_hparams *hp = &step->net->hp;
    facet_real *grad = facet_net_param(step->net, FACET_ROLE_TOKEN_EMBD, 0)->grad;
    const size_t first = item * EMBED_COLUMNS;
    const size_t end = first + EMBED_COLUMNS < hp->d_model ? first + EMBED_COLUMNS : hp->d_model;
    for (uint32_t t = 0; t < step->batch->n_tokens; t++) {
        const facet_real *dx = step->dx + (size_t)t * hp->d_model;
        facet_real *row = grad + (size_t)step->batch->tokens[t] * hp->d_model;
        for (size_t j = first; j < end; j++)
            row[j] += (facet_real)hp->embed_scale * dx[j];
    }
}

// ---- the walk ---------------------------------------------------------------------------------

static facet_status batch_check(const facet_step *step, const facet_batch *batch, facet_err *err)
{
    uint64_t sum = 0;
    uint32_t longest = 0;
    for (uint32_t i = 0; i < batch->n; i++) {
        const uint32_t prompt = facet_step_prompt(batch, i);
        sum += batch->lengths[i];
        if (prompt > UINT32_MAX - batch->lengths[i])
            longest = UINT32_MAX;
        else if (prompt + batch->lengths[i] > longest)
            longest = prompt + batch->lengths[i];
    }
    const bool whole = sum == batch->n_tokens && sum > 0 && sum <= step->opts.max_tokens &&
                       longest <= step->opts.longest && batch->n <= step->opts.max_tokens;
    if (!whole || (!batch->teacher && !batch->targets) || (batch->teacher && !step->opts.distill))
        return facet_fail(err, FACET_BAD_INPUT,
                          "training: a batch of %u tokens in %u samples does not fit a step made "
                          "for %u; make the step for the largest batch",
                          (unsigned)batch->n_tokens, (unsigned)batch->n,
                          (unsigned)step->opts.max_tokens);
    if (batch->vocabulary && facet_net_trains(step->net, FACET_ROLE_HEAD, 0))
        return facet_fail(err, FACET_BAD_INPUT,
                          "training: a head that is trained needs all of the vocabulary");
    for (uint32_t t = 0; t < batch->n_tokens; t++) {
        const uint32_t n_vocab = step->net->hp.n_vocab, target = facet_step_target(batch, t);
        const bool there = target < n_vocab && facet_step_place(batch, target) != FACET_NO_PLACE;
        const bool known = there || (batch->teacher && target == FACET_NO_TARGET);
        if (batch->tokens[t] < n_vocab && known) continue;
        return facet_fail(err, FACET_MISMATCH,
                          "training: token %u of a batch is not in the vocabulary of %u; "
                          "use the model that the samples were made with",
                          (unsigned)t, (unsigned)step->net->hp.n_vocab);
    }
    return FACET_OK;
}

static void places_fill(facet_step *step)
{
    const facet_batch *batch = step->batch;
    for (uint32_t i = 0, t = 0; i < batch->n; i++) {
        const uint32_t prompt = facet_step_prompt(batch, i);
        step->start[i] = t;
        for (uint32_t p = 0; p < batch->lengths[i]; p++)
            step->position[t++] = prompt + p;
    }
}

static void forward(facet_step *step)
{
    const uint32_t n_layers = step->net->hp.n_layers;
    embed(step);
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        facet_step_attn(step, layer);
        facet_step_ffn(step, layer);
    }
    const facet_norm norm = facet_step_norm(step, step->x[2 * n_layers],
                                            facet_step_vector(step, FACET_ROLE_OUT_NORM, 0));
    facet_norm_run(step->opts.pool, &norm, step->hidden);
}

// After the head: `branch` holds the gradient of the normed states.
static void backward(facet_step *step)
{
    const facet_hparams *hp = &step->net->hp;
    const facet_step_block top = {.stage = facet_step_stages(step), .norm = FACET_ROLE_OUT_NORM};
    memset(step->dx, 0, (size_t)step->batch->n_tokens * hp->d_model * sizeof *step->dx);
    facet_step_block_input(step, &top);
    for (uint32_t layer = hp->n_layers; layer-- > 0;) {
        if (step->lowest <= 2 * layer + 2) facet_step_ffn_back(step, layer);
        if (step->lowest <= 2 * layer + 1) facet_step_attn_back(step, layer);
    }
    if (step->lowest == 0)
        facet_each(step->opts.pool, (hp->d_model + EMBED_COLUMNS - 1) / EMBED_COLUMNS,
                   embed_back_item, step);
}

facet_status facet_step_run(facet_step *step, const facet_batch *batch, double *loss,
                            facet_err *err)
{
    FACET_TRY(batch_check(step, batch, err));
    step->batch = batch;
    places_fill(step);
    forward(step);
    const double sum = facet_step_head_run(step);
    if (!isfinite(sum))
        return facet_fail(err, FACET_FAILED,
                          "training: the loss is not finite; use a lower learning rate, or check "
                          "the model's weights");
    if (batch->backward) backward(step);
    step->batch = NULL;
    *loss = sum;
    return FACET_OK;
}
