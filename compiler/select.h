// SPDX-License-Identifier: Apache-2.0
// Which channels does a family keep under its budget? Uniform: the same share in every layer.
#ifndef FACET_COMPILER_SELECT_H
#define FACET_COMPILER_SELECT_H

#include "base/status.h"

// Tiles of a layer of d_ff channels, the ragged last one included.
uint32_t facet_select_all(uint32_t d_ff);
// Tiles kept of them: max(1, round(keep * d_ff / 32)), all of them for keep 1.
uint32_t facet_select_tiles(uint32_t d_ff, double keep);
// Channels of a mask: floor(keep * d_ff), at least 1.
uint32_t facet_select_channels(uint32_t d_ff, double keep);
// FACET_BAD_INPUT unless 0 < keep <= 1.
facet_status facet_select_check(double keep, facet_err *err);
// Marks the n highest of f scores in `bits` (facet_bits_bytes(f), cleared first); on a tie the
// lower channel. Needs `order` (f) as scratch; its first n are the chosen channels, in no order.
void facet_select_top(const float *scores, uint32_t f, uint32_t n, uint32_t *order, uint8_t *bits);

#endif
