// SPDX-License-Identifier: Apache-2.0
// What would become of the family if it were compiled so? A rehearsal solves every layer on the
// fitting tokens of a part of the text, rounds and stores nothing, and returns the loss of the
// judging tokens. All searches of a family (build_choose.c, build_budget.c) rehearse on the same
// text, of which the dense model's states are computed once.
#ifndef FACET_COMPILER_BUILD_REHEARSE_H
#define FACET_COMPILER_BUILD_REHEARSE_H

#include "compiler/layer_fit.h"

// Takes the dense model's stream of `samples` through all layers; `each` moves it one layer on,
// with a fit of the layer's own output at hand.
typedef facet_status facet_dense_step(void *ctx, facet_layer_fit *fit, void *stream, uint32_t layer,
                                      facet_err *err);
typedef struct facet_dense_walk {
    const char *name; // for progress
    const facet_samples *samples;
    uint64_t n_fit;
    facet_dense_step *each;
    void *ctx;
} facet_dense_walk;
facet_status facet_dense_walk_run(const facet_building *b, const facet_dense_walk *walk,
                                  facet_err *err);

typedef struct facet_rehearsal {
    facet_building *b;
    uint32_t family;
    facet_samples samples, judging; // `judging` is a view of those that judge
    uint64_t n_fit;
    facet_trail trail; // of `samples`
    uint32_t *order;   // (d_ff) scratch
    uint8_t *bits;
} facet_rehearsal;

// *r is empty before; fini also when it failed.
facet_status facet_rehearsal_init(facet_rehearsal *r, facet_building *b, uint32_t family,
                                  facet_err *err);
void facet_rehearsal_fini(facet_rehearsal *r);

// The layer's best channels by worth (n_layers, d_ff), ascending; returns how many.
uint32_t facet_rehearsal_channels(facet_rehearsal *r, const float *worth, uint32_t layer,
                                  uint32_t tiles, uint32_t *channels);

// Loss of the judging tokens, in nats a token, of the family with so many tiles (n_layers) of the
// best channels.
typedef struct facet_rehearsed {
    const char *name; // for progress
    facet_refit_target target;
    const float *worth;
    const uint32_t *tiles;
    double loss; // result
} facet_rehearsed;
facet_status facet_rehearse(facet_rehearsal *r, facet_rehearsed *what, facet_err *err);

#endif
