// SPDX-License-Identifier: Apache-2.0
// Reading packed groups, private to kernels/. In: a matrix packed as kernels/abi.h says. Out:
// quants, scales and offsets of 16 rows at a time. Nothing here knows what a stage is.
#ifndef FACET_KERNELS_UNPACK_H
#define FACET_KERNELS_UNPACK_H

#include "kernels/abi.h"

// 32 columns of a group of a quantised type: value (r, c) = scale[c / 16][r] * q[c][r] - min[r],
// each operation rounded to float, q with the type's offset already taken off.
typedef struct facet_group_block {
    int16_t q[FACET_BLOCK][FACET_GROUP];
    float scale[2][FACET_GROUP];
    float min[FACET_GROUP];
} facet_group_block;

// Is the type multiplied with integer activations?
static inline int facet_pack_quantised(uint32_t pack)
{
    return pack > FACET_PACK_BF16;
}

// Block `block` (columns 32 block ..) of a group that starts at `group`.
void facet_group_read(uint32_t pack, const uint8_t *group, uint32_t block, facet_group_block *out);
// Column `col` of a group of a float type.
void facet_group_column(uint32_t pack, const uint8_t *group, uint32_t col, float out[FACET_GROUP]);

#endif
