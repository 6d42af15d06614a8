// SPDX-License-Identifier: Apache-2.0
// The scalar reference: every stage of kernels/abi.h in readable C, for any shape, any packing. It
// is what specialised kernels are checked against, and the portable (`generic`) kernels of the
// runtime.
#ifndef FACET_KERNELS_REFERENCE_H
#define FACET_KERNELS_REFERENCE_H

#include "kernels/abi.h"

// The five stages of a layer, in facet_stage_id order, and the head. n_units is 0: use
// facet_stage_units. They read shape, packs, tiles and perm from the step.
extern const facet_stage facet_reference_stages[FACET_STAGE_COUNT];
extern const facet_stage facet_reference_head;

// Units of a stage for a layer (per token for ATTN); stage FACET_STAGE_COUNT stands for the head.
uint32_t facet_stage_units(const facet_step *step, uint32_t layer, uint32_t stage);

// Row `row` of a packed matrix as floats (n_cols of them), equal to the source's values bit by bit.
void facet_mat_row(const facet_mat *mat, uint32_t row, float *dst);
// Bytes of one group of 16 rows of n_cols stored columns.
uint64_t facet_group_bytes(uint32_t pack, uint32_t n_cols);
// Bytes of one tile of gate_up.
uint64_t facet_tile_bytes(const facet_layer *layer);
// The activation rule of abi.h for one row of n columns (a multiple of 32).
void facet_quantize_row(const float *x, uint32_t n, int8_t *q, float *scale, int32_t *sum);

float facet_f16_to_f32(uint16_t half);
uint16_t facet_f32_to_f16(float value);

#endif
