// SPDX-License-Identifier: Apache-2.0
// How many tiles does each layer keep? Uniform shares, or shares moved to where a tile buys most.
// In: what a layer costs the model at a few keep ratios. Out: tiles a layer. Measuring is
// build_budget.c's work; nothing here runs anything.
#ifndef FACET_COMPILER_BUDGET_H
#define FACET_COMPILER_BUDGET_H

#include "base/memory.h"

// Keep ratios at which a layer's cost is known. Keeping nothing and keeping all frame them.
enum { FACET_BUDGET_POINTS = 5 };
extern const double facet_budget_ratios[FACET_BUDGET_POINTS]; // 0 ... 1, ascending

typedef struct facet_budget_problem {
    uint32_t n_layers, n_tiles; // tiles of a whole layer
    uint32_t total;             // tiles to give away
    uint32_t floor;             // least tiles of a layer
    const double *cost;         // (n_layers, FACET_BUDGET_POINTS) finite, not negative
} facet_budget_problem;

// The least tiles of a layer: an eighth of them, or what equal shares of a small total allow; at
// least one.
uint32_t facet_budget_floor(const facet_budget_problem *problem);
// Writes tiles (n_layers) that sum to `total`, from n_layers * floor to n_layers * n_tiles, with
// the least total cost.
facet_status facet_budget_share(const facet_budget_problem *problem, const facet_alloc *alloc,
                                uint32_t *tiles, facet_err *err);
// Cost of a layer with that many tiles: exponential between the measured points.
double facet_budget_cost(const facet_budget_problem *problem, uint32_t layer, uint32_t tiles);

#endif
