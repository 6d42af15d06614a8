// SPDX-License-Identifier: Apache-2.0
// One block of 32 weights: scales by least squares over a small search, codes, and their place in
// the source's block formats. Private to compiler/quantize*.c.
#ifndef FACET_COMPILER_QUANTIZE_BLOCK_H
#define FACET_COMPILER_QUANTIZE_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/abi.h"

// value = d * (q - offset) + m, q in 0..top.
typedef struct facet_block_scale {
    uint16_t d_bits, m_bits; // F16
    float d, m;              // as stored
} facet_block_scale;

// Is the pack one of 32-column blocks with one scale?
bool facet_block_known(uint32_t pack);
uint32_t facet_block_bytes(uint32_t pack); // in memory
// The scale of the block that loses least when all 32 values round to nearest.
facet_block_scale facet_block_fit(uint32_t pack, const float x[32]);
uint8_t facet_block_code(uint32_t pack, const facet_block_scale *scale, float x);
float facet_block_value(uint32_t pack, const facet_block_scale *scale, uint8_t code);
void facet_block_write(uint32_t pack, const facet_block_scale *scale, const uint8_t codes[32],
                       uint8_t *out);

#endif
