// SPDX-License-Identifier: Apache-2.0
// The search for one layer's tiles. Private to compiler/layout*.c.
#ifndef FACET_COMPILER_LAYOUT_SEARCH_H
#define FACET_COMPILER_LAYOUT_SEARCH_H

#include "base/memory.h"

enum { facet_layout_max_families = 64 };

typedef struct facet_tiling {
    uint32_t n_families, d_ff, n_tiles;
    const double *scores;   // (n_families, d_ff), each family's best possible sum is 1
    const uint32_t *n_keep; // (n_families) tiles
    uint32_t *tile;         // (d_ff) result: tile of each channel; the last tile may be ragged
    uint64_t *pattern;      // (n_tiles) result: bit k: family k keeps it
    double captured;        // result: sum over families
} facet_tiling;

uint32_t facet_tiling_capacity(const facet_tiling *tiling, uint32_t tile);
// Fills tile, pattern and captured.
facet_status facet_tiling_search(facet_tiling *tiling, const facet_alloc *alloc, facet_err *err);

// An order of the tiles (n_tiles positions) with few runs over all families; a ragged last tile
// stays last, equal patterns stand together.
facet_status facet_tiling_order(const uint64_t *pattern, uint32_t n_tiles, bool ragged,
                                const facet_alloc *alloc, uint32_t *order, facet_err *err);

#endif
