// SPDX-License-Identifier: Apache-2.0
// The activation rule of kernels/abi.h.
#include <math.h>

#include "kernels/reference.h"

#define COLUMNS 16u // of an activation block

static void quantize_block(const float *x, int8_t *q, float *scale, int32_t *sum)
{
    float amax = 0.0f;
    for (uint32_t c = 0; c < COLUMNS; c++) {
        const float a = fabsf(x[c]);
        if (a > amax) amax = a;
    }
    // 127 / amax must be finite: a block so small that it is not counts as zero.
    const float inverse = amax > 0.0f ? 127.0f / amax : 0.0f;
    const int zero = !(inverse > 0.0f) || isinf(inverse);
    *scale = zero ? 0.0f : amax / 127.0f;
    *sum = 0;
    for (uint32_t c = 0; c < COLUMNS; c++) {
        // Rounds to nearest even in the default rounding mode. A NaN input must not become
        // undefined behaviour; it stays visible because the norm that made it is NaN everywhere.
        const float value = zero ? 0.0f : nearbyintf(x[c] * inverse);
        q[c] = value >= -127.0f && value <= 127.0f ? (int8_t)value : 0;
        *sum += q[c];
    }
}

void facet_quantize_row(const float *x, uint32_t n, int8_t *q, float *scale, int32_t *sum)
{
    for (uint32_t b = 0; b < n / COLUMNS; b++)
        quantize_block(x + COLUMNS * b, q + COLUMNS * b, scale + b, sum + b);
}
