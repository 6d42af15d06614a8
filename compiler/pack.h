// SPDX-License-Identifier: Apache-2.0
// From source blocks to the packing of kernels/abi.h. Nothing is requantised here: values stay
// equal.
#ifndef FACET_COMPILER_PACK_H
#define FACET_COMPILER_PACK_H

#include "base/status.h"
#include "kernels/abi.h"
#include "model/dtype.h"

// One group: rows[i] is row i in the source's blocks of the same type (NULL: a zero row), n_cols a
// multiple of the unit; out receives n_cols / unit * facet_pack_bytes. A zero row of a type with an
// offset is d = 0. Q6_0's source block is facet_q6_0.
typedef struct facet_q6_0 {
    uint16_t d;    // F16
    uint8_t q[32]; // 0..63, value d * (q - 32)
} facet_q6_0;

void facet_pack_group(facet_pack pack, const void *const rows[16], uint32_t n_cols, uint8_t *out);

facet_pack facet_pack_of(facet_dtype dtype);
const char *facet_pack_name(facet_pack pack);
// false when the name is none.
bool facet_pack_find(const char *name, facet_pack *pack);
// Bytes of a packed matrix: groups of 16 rows, columns rounded up to the unit; false on overflow.
bool facet_pack_size(facet_pack pack, uint64_t n_rows, uint64_t n_cols, uint64_t *bytes);

#endif
