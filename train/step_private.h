// SPDX-License-Identifier: Apache-2.0
// The inside of a facet_step, shared by step*.c.
//
//     x[0] = embedding    x[2l+1] = x[2l] + attention l    x[2l+2] = x[2l+1] + FFN l    head(x[2L])
//
// Stages are numbered from below: 0 the embedding, 2l+1 and 2l+2 as above, 2L+1 the head. Forward
// keeps what backward reads; backward overwrites a stage's activations with their gradients.
#ifndef FACET_TRAIN_STEP_PRIVATE_H
#define FACET_TRAIN_STEP_PRIVATE_H

#include "train/rows.h"
#include "train/step.h"

#define FACET_STEP_QUERY 128u // queries that share a block of attention scores

typedef struct facet_step_layer {
    facet_real *q, *k, *v;          // (tokens, heads of each * head_dim), rotated
    facet_real *q_plain, *k_plain;  // before norm and rotary; NULL where there is no norm
    facet_real *attended;           // (tokens, n_heads * head_dim)
    facet_real *attn_out, *ffn_out; // (tokens, d_model) before the post norm; NULL without one
    facet_real *gate, *up;          // (tokens, n_kept)
} facet_step_layer;

// With part of the vocabulary more tokens come at a time, in fewer segments.
typedef struct facet_step_head {
    uint32_t rows;           // tokens at a time, over all of the vocabulary
    uint32_t segments;       // of all of it, for the gradient of the states
    facet_real *states;      // (2 max_tokens, d_model) of student, then of teacher
    facet_real *logits;      // (2 rows, n_vocab), then the gradient of the student's
    facet_real *partial;     // (segments, rows, d_model)
    facet_product *products; // (segments)
    double *losses;          // (max_tokens)
    uint32_t *scored;        // (max_tokens) tokens of weight other than 0
} facet_step_head;
#define FACET_STEP_SEGMENT 4096u // rows of the head in one partial sum

struct facet_step {
    const facet_net *net; // borrowed
    facet_step_opts opts;
    uint32_t lowest; // stage of the lowest trained parameter
    const facet_batch *batch;
    uint32_t *position; // (max_tokens) within the sample
    uint32_t *start;    // (max_tokens) first token of each sample
    float *row;         // (d_model) a row of the embedding
    float *rotary[2];   // (longest, rope_dims / 2, 2): global and local layers
    facet_real *slab;   // all numbers below
    facet_real **x;     // (2 n_layers + 1) -> (tokens, d_model)
    facet_step_layer *layers;
    facet_real *normed;    // (tokens, d_model) input of a block
    facet_real *branch;    // (tokens, d_model) output of a block, or the gradient of `normed`
    facet_real *dbranch;   // (tokens, d_model) gradient of a block's output before a post norm
    facet_real *dx;        // (tokens, d_model) gradient of the residual stream
    facet_real *hidden;    // (tokens, d_model) final states, normed
    facet_real *wide;      // (tokens, most kept channels) z
    facet_real *dattended; // (tokens, n_heads * head_dim)
    facet_real *inverse;   // (tokens * n_heads)
    facet_real *lanes;     // (threads, lane)
    size_t lane;           // numbers of one thread's scratch
    facet_step_head head;
};

static inline uint32_t facet_step_target(const facet_batch *batch, uint32_t token)
{
    return batch->targets ? batch->targets[token] : FACET_NO_TARGET;
}
// The logit of a token.
static inline uint32_t facet_step_place(const facet_batch *batch, uint32_t token)
{
    return batch->vocabulary ? batch->vocabulary->place[token] : token;
}
static inline uint32_t facet_step_prompt(const facet_batch *batch, uint32_t sample)
{
    return batch->prompts ? batch->prompts->lengths[sample] : 0;
}
static inline uint32_t facet_step_stages(const facet_step *step)
{
    return 2 * step->net->hp.n_layers + 1;
}
// Does anything below the stage want a gradient?
static inline bool facet_step_flows(const facet_step *step, uint32_t stage)
{
    return step->lowest < stage;
}
// Is a parameter of these roles trained in the layer?
bool facet_step_trains(const facet_step *step, uint32_t layer, uint32_t roles);
// The value of a gain or a bias, or NULL.
const facet_real *facet_step_vector(const facet_step *step, uint32_t role, uint32_t layer);

// The norm of rows x (tokens, d_model).
facet_norm facet_step_norm(const facet_step *step, const facet_real *x, const facet_real *gain);

// An attention or FFN block of a layer, as the residual stream sees it.
typedef struct facet_step_block {
    uint32_t layer, stage;
    uint32_t norm, bias, post; // roles
    facet_real *out;           // output kept for the post norm, or NULL
} facet_step_block;
// normed = norm of the block's input.
void facet_step_block_norm(const facet_step *step, const facet_step_block *block);
// x[stage] = x[stage - 1] + post norm of (branch + bias).
void facet_step_block_add(const facet_step *step, const facet_step_block *block);
// The gradient of the block's output without bias (tokens, d_model); bias and post gain get theirs.
const facet_real *facet_step_block_back(const facet_step *step, const facet_step_block *block);
// dx += what `branch`, the gradient of the block's normed input, comes to; the gain gets its own.
void facet_step_block_input(const facet_step *step, const facet_step_block *block);

// A product of whole matrices, the second one a parameter.
facet_product facet_step_by(facet_product_kind kind, const size_t mnk[3], const facet_real *a,
                            const facet_param *w, facet_real *c);
// A product of a stage with a weight: y (tokens, rows) = x W^T, or dx (tokens, cols) (+)= dy W.
facet_product facet_step_forward(const facet_step *step, const facet_param *w, const facet_real *x,
                                 facet_real *y);
facet_product facet_step_input(const facet_step *step, const facet_param *w, const facet_real *dy,
                               facet_real *dx);
// grad (rows, cols) += dy^T x, if the weight is trained; false if not.
bool facet_step_weight(const facet_step *step, const facet_param *w, const facet_real *dy,
                       const facet_real *x, facet_product *product);

// Independent products on all threads, in the step's precision.
static inline void facet_step_products(const facet_step *step, const facet_product *products,
                                       uint32_t n)
{
    facet_products_run(step->opts.pool, step->net->precision, products, n);
}

// Every head of every sample: attended from q, k, v; and back from dattended to the gradients of q,
// k, v in their places.
void facet_step_heads(const facet_step *step, uint32_t layer);
void facet_step_heads_back(const facet_step *step, uint32_t layer);

void facet_step_attn(facet_step *step, uint32_t layer);
void facet_step_attn_back(facet_step *step, uint32_t layer);
void facet_step_ffn(facet_step *step, uint32_t layer);
void facet_step_ffn_back(facet_step *step, uint32_t layer);
// Loss of the batch; with `backward`, `branch` receives the gradient of the normed states and the
// head its own.
double facet_step_head_run(facet_step *step);

#endif
