// SPDX-License-Identifier: Apache-2.0
// One step: a batch of whole samples forward, its loss, and the gradients of the parameters that
// the net trains. In: a net and a batch. Out: the loss, and gradients added to the net's. A step
// owns the activations of its largest batch and allocates nothing when it runs. It computes no more
// of the backward pass than the trained parameters need: nothing flows below the lowest one.
//
// Results do not depend on the number of threads: every sum has one order, fixed by the shapes.
#ifndef FACET_TRAIN_STEP_H
#define FACET_TRAIN_STEP_H

#include "train/net.h"
#include "train/vocabulary.h"

typedef struct facet_step facet_step;

typedef struct facet_step_opts {
    uint32_t max_tokens; // of a batch
    uint32_t longest;    // tokens of a sample with its prompt, at most max_tokens
    bool distill;        // batches have a teacher
    size_t logits_bytes; // logits in memory at a time; 0: 64 MiB
    facet_pool *pool;    // borrowed until free
    const facet_alloc *alloc;
} facet_step_opts;

#define FACET_NO_TARGET UINT32_MAX

// What samples follow: prompts that somebody else has read, of which their keys, rotated, and
// values are there, one prompt's tokens one behind another. No gradient reaches them.
typedef struct facet_prompts {
    const facet_real *keys, *values; // (n_layers, n_tokens, n_kv_heads * head_dim)
    size_t n_tokens;
    const uint32_t *lengths; // (n of the batch) tokens of a sample's prompt
    const size_t *first;     // (n of the batch) its first token among n_tokens
} facet_prompts;

// Samples one after another, each a sequence from position 0, or from its prompt's end. All
// borrowed for the call. `targets`, `teacher` or both:
//   targets   loss of a token: -log p(target); the last token of a sample usually has weight 0
//   teacher   loss of a token: KL(teacher || student), the teacher given by the normed state that
//             its head reads; the net's own head makes both distributions, and its gradient takes
//             the teacher's as given
//   both      (1 - text) KL(teacher || student) + text (log p_teacher(target) - log p(target)):
//   both
//             parts are 0 for the teacher itself. FACET_NO_TARGET: the KL whole
typedef struct facet_batch {
    const uint32_t *tokens;  // (n_tokens)
    const uint32_t *lengths; // (n)
    uint32_t n, n_tokens;
    const facet_prompts *prompts; // NULL: nothing comes before
    // Stands for all tokens in the loss, which is then an estimate; it has the targets. NULL: all.
    // Not for a net that trains its head.
    const facet_vocabulary *vocabulary;
    const uint32_t *targets;   // (n_tokens)
    const facet_real *teacher; // (n_tokens, d_model)
    facet_real text;           // share of the targets beside a teacher, 0 to 1
    const facet_real *weights; // (n_tokens) or NULL: 1 each; tokens of weight 0 skip the head
    facet_real scale;          // gradients are those of scale * sum of weight * loss
    bool backward;
} facet_batch;

// Buffers for batches of a net; `net` is borrowed until free.
facet_status facet_step_new(const facet_net *net, const facet_step_opts *opts, facet_step **step,
                            facet_err *err);
void facet_step_free(facet_step *step);
// *loss: sum of weight * loss. FACET_BAD_INPUT: a batch that does not fit; FACET_FAILED: a loss
// that is not finite (gradients are then spoiled, values are not).
facet_status facet_step_run(facet_step *step, const facet_batch *batch, double *loss,
                            facet_err *err);
// The normed states (n_tokens, d_model) that the head read in the last run. Borrowed.
const facet_real *facet_step_hidden(const facet_step *step);

#endif
