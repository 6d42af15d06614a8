// SPDX-License-Identifier: Apache-2.0
// One layer's refit on calibration tokens: what the kept channels say (z), what they should say
// (wanted), and the moments of both. z of all tokens stays in memory for one layer, so that no
// channel is computed twice. Used by the walk through a family's layers (build_calibrate.c) and by
// the search for the budget between layers (build_budget.c).
#ifndef FACET_COMPILER_LAYER_FIT_H
#define FACET_COMPILER_LAYER_FIT_H

#include "compiler/build_parts.h"
#include "compiler/compensate.h"

typedef struct facet_layer_fit {
    const facet_building *b;
    facet_pool *pool; // NULL: sums in float32 by OpenBLAS and its threads
    uint32_t d, d_ff;
    uint64_t n_tokens, n_fit; // tokens; those that fit, the rest judge
    uint64_t n_fitting;       // of these, those that are the family's own to read
    float repair;             // share of what the stream lacks of dense that the layer should add
    bool post_norm;           // rows are weighted by 1 / rms(y): the norm behind the FFN does that
    // Of the layer at hand.
    uint32_t *channels;  // (tiles * 32) stored order; the caller writes them before begin
    uint32_t *ascending; // (n_kept)
    uint32_t *order;     // (n_kept) place of each ascending channel in stored order
    uint32_t n_kept;
    float *rows; // (n_kept + 1, d) rows of the kept channels, then the bias
    facet_moments moments;
    float *wanted; // (n_tokens, d)
    // Inside.
    uint8_t *read; // (n_tokens) by dense, so it neither fits nor judges; NULL: none
    float *source; // (d_ff) one row of the source
    float *weight; // (n_tokens) of a token's row in the moments, z's and wanted's
    float *z;      // (n_tokens, n_kept + 1) kept channels in stored order, then the constant
    size_t z_room; // floats
    double energy; // of the dense layer's output on the judging part
} facet_layer_fit;

// `samples`: NULL where no stream runs. Borrowed for the call. `target` is not AUTO, not BEST.
facet_status facet_layer_fit_init(facet_layer_fit *fit, const facet_building *b,
                                  facet_refit_target target, const facet_samples *samples,
                                  uint64_t n_fit, facet_err *err);
void facet_layer_fit_fini(facet_layer_fit *fit);

// Is there a norm behind the FFN? Then only the direction of its output counts, and the residual
// stream cannot be reached by a linear map: the layer's own output is the only target.
bool facet_layer_fit_normed(const facet_model *model);

// Takes fit->channels (n_kept) for a layer: their order and their original rows, bias zero.
facet_status facet_layer_fit_begin(facet_layer_fit *fit, uint32_t layer, uint32_t n_kept,
                                   facet_err *err);
// Attention and dense FFN of the dense stream; keeps the output's energy.
facet_status facet_layer_fit_dense(facet_layer_fit *fit, void *dense, facet_err *err);
// Looks at `stream` in front of the FFN and sums the moments. `dense` (n_tokens, d): the dense
// residual stream behind the layer, where fit->repair > 0; else NULL.
facet_status facet_layer_fit_look(facet_layer_fit *fit, void *stream, const float *dense,
                                  facet_err *err);
// As facet_layer_fit_look; the stream then moves on, through the dense FFN. With `dense` the
// output's energy is the caller's to set.
facet_status facet_layer_fit_pass(facet_layer_fit *fit, void *stream, const float *dense,
                                  facet_err *err);
// The layer's output with the given rows (n_kept, d), into fit->wanted, which it replaces.
void facet_layer_fit_output(facet_layer_fit *fit, const float *rows, const float *bias);

#endif
