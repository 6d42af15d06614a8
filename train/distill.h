// SPDX-License-Identifier: Apache-2.0
// Distils the dense model into a pruned one: the rows and biases of its down projections, and
// vectors of its own, learn to give the dense model's next-token distribution (KL) and, in a share
// that is chosen, the text's own next token; everything else stays. In: model, channel sets, rows
// and vectors to start from, samples to learn from and samples to judge by. Out: rows and vectors
// that judge best, never worse than those at the start. Here is the whole job; it knows no file and
// no bundle.
#ifndef FACET_TRAIN_DISTILL_H
#define FACET_TRAIN_DISTILL_H

#include "base/report.h"
#include "model/model.h"
#include "model/samples.h"
#include "model/vectors.h"
#include "products/product.h"

typedef struct facet_distill_layer {
    const uint32_t *kept; // (n_kept) channels, ascending
    uint32_t n_kept;
    float *down; // (n_kept, d_model) by channel, changed in place; never NULL
    float *bias; // (d_model), changed in place; never NULL
} facet_distill_layer;

// All borrowed for the call. Samples are sequences from position 0. Where a sample tells where its
// answer begins, a token of the prompt counts an eighth of one of the answer; or, with
// dense_prompts, the dense model reads the prompt, once, and only the answer is learnt behind it.
typedef struct facet_distill_data {
    const facet_model *model;
    const facet_distill_layer *layers; // (n_layers)
    const facet_samples *train, *judge;
    facet_vectors *own; // those that are there are changed in place; NULL: the model's stay
    bool dense_prompts;
} facet_distill_data;

typedef struct facet_distill_opts {
    uint32_t epochs;       // passes over the training samples
    uint32_t max_steps;    // 0: as many as the passes have
    uint32_t batch_tokens; // of a step: whole samples up to this, or one longer sample
    uint32_t judge_every;  // steps; 0: after an eighth of them, then four times in all
    // Peak, as a share of each parameter's size (train/adam.h). The mean of the last steps is
    // judged (train/mean.h); when it is worse than the best so far, training goes on from that at a
    // quarter of the rate.
    double rate;
    double text;        // share of the text's own next token in the loss, 0 to 1 (train/step.h)
    uint64_t seed;      // of the order of samples
    uint32_t n_threads; // 0: the cores this process may use
    facet_precision precision;
    const facet_alloc *alloc;
    const facet_report *report;
} facet_distill_opts;

#define FACET_DISTILL_OPTS_DEFAULT                                                                 \
    ((facet_distill_opts){.epochs = 4, .batch_tokens = 256, .rate = 2e-3})

typedef struct facet_distill_result {
    double before, after; // mean loss of a judging token, in nats; 0 is dense's
    uint32_t steps;       // taken
    uint32_t best_step;   // after which what is given back was judged; 0: it is what was put in
    double rate;          // peak that was left in the end
    uint64_t tokens;      // seen in training, repeats counted
} facet_distill_result;

// Where a loss or a gradient is not finite, training goes on from the best values so far at a
// quarter of the rate, with a warning; the third time it ends there. On failure, FACET_INTERRUPTED
// included, rows, biases and vectors are the best so far. Results do not depend on n_threads.
facet_status facet_distill(const facet_distill_data *data, const facet_distill_opts *opts,
                           facet_distill_result *result, facet_err *err);

#endif
