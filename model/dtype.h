// SPDX-License-Identifier: Apache-2.0
// Data types of source tensors: ggml's block formats and the plain float types.
#ifndef FACET_MODEL_DTYPE_H
#define FACET_MODEL_DTYPE_H

#include "base/status.h"

typedef enum facet_dtype {
    FACET_DTYPE_F32,
    FACET_DTYPE_F16,
    FACET_DTYPE_BF16,
    FACET_DTYPE_Q4_0,
    FACET_DTYPE_Q4_1,
    FACET_DTYPE_Q5_0,
    FACET_DTYPE_Q5_1,
    FACET_DTYPE_Q8_0,
    FACET_DTYPE_Q4_K,
    FACET_DTYPE_Q5_K,
    FACET_DTYPE_Q6_K,
    FACET_DTYPE_COUNT
} facet_dtype;

const char *facet_dtype_name(facet_dtype dtype);
uint32_t facet_dtype_block(facet_dtype dtype); // elements of a block
uint32_t facet_dtype_bytes(facet_dtype dtype); // bytes of a block
// Bytes of n elements (n a multiple of the block); false on overflow or a ragged n.
bool facet_dtype_size(facet_dtype dtype, uint64_t n, uint64_t *bytes);

// n elements (a multiple of the block) to float, exactly as the format defines them.
void facet_dequantize(facet_dtype dtype, const void *src, uint64_t n, float *dst);

float facet_half_to_float(uint16_t half);
uint16_t facet_float_to_half(float value); // round to nearest even
static inline float facet_bf16_to_float(uint16_t bits)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)bits << 16};
    return v.f;
}

#endif
