// SPDX-License-Identifier: Apache-2.0
// In which order do channels lie in memory? One permutation a layer, shared by all families, so
// that every family is a short list of runs of 32-channel tiles that holds as much of its score as
// can be.
#ifndef FACET_COMPILER_LAYOUT_H
#define FACET_COMPILER_LAYOUT_H

#include "base/report.h"

typedef struct facet_layout {
    const facet_alloc *alloc;
    uint32_t n_layers, d_ff, n_families, n_tiles;
    uint32_t *perm;   // (n_layers, n_tiles * 32) channel at each position, UINT32_MAX: none
    uint32_t *tiles;  // (n_families, n_layers, n_tiles) kept tiles ascending, first n_kept used
    uint32_t *n_kept; // (n_families, n_layers)
    double *recall;   // (n_families, n_layers) captured score / best score of as many channels
} facet_layout;

// scores: (n_families, n_layers, d_ff) >= 0, finite; n_tiles: (n_families, n_layers) tiles to keep,
// each in 1..all. n_families 0: the identity. Deterministic. Free with facet_layout_fini.
typedef struct facet_layout_problem {
    uint32_t n_families, n_layers, d_ff;
    const float *scores;
    const uint32_t *n_keep;
} facet_layout_problem;
facet_status facet_layout_build(const facet_layout_problem *problem, const facet_alloc *alloc,
                                const facet_report *report, facet_layout *layout, facet_err *err);
void facet_layout_fini(facet_layout *layout);

const uint32_t *facet_layout_perm(const facet_layout *layout, uint32_t layer);
const uint32_t *facet_layout_tiles(const facet_layout *layout, uint32_t family, uint32_t layer);
uint32_t facet_layout_kept(const facet_layout *layout, uint32_t family, uint32_t layer);
double facet_layout_recall(const facet_layout *layout, uint32_t family); // mean over layers
// Runs of ascending tiles as pairs (first, count); runs may be NULL to count only.
uint32_t facet_layout_runs(const uint32_t *tiles, uint32_t n_tiles, uint32_t *runs);
// Channels in kept order (position by position; UINT32_MAX where the last tile is ragged):
// channels (n_kept * 32). Returns the number of real ones.
uint32_t facet_layout_channels(const facet_layout *layout, uint32_t family, uint32_t layer,
                               uint32_t *channels);

#endif
