// SPDX-License-Identifier: Apache-2.0
// Products of packed matrices with activations, private to kernels/. In: a matrix and the
// activations of a stage. Out: dot products, summed in double and rounded once by the caller.
#ifndef FACET_KERNELS_DOT_H
#define FACET_KERNELS_DOT_H

#include "kernels/abi.h"

// Tokens that share one unpacking of a group.
#define FACET_DOT_TOKENS 16u

// Activations of all tokens: row t of x and q starts at t * stride (a multiple of 32).
typedef struct facet_dot_input {
    const float *x;
    const int8_t *q;
    const float *scale;
    const int32_t *sum;
    uint32_t stride;
} facet_dot_input;

// One group (16 rows, n_cols stored columns) with tokens first .. first + n - 1, n <= 16.
void facet_dot_group(uint32_t pack, const uint8_t *group, uint32_t n_cols,
                     const facet_dot_input *in, uint32_t first, uint32_t n,
                     double out[FACET_DOT_TOKENS][FACET_GROUP]);

typedef struct facet_rows {
    uint32_t begin, end;
} facet_rows;

// Rows of a matrix with tokens first .. first + n - 1 (any n): dst[t * dst_stride + row - begin],
// t counted from `first`.
void facet_dot_rows(const facet_mat *mat, facet_rows rows, const facet_dot_input *in,
                    uint32_t first, uint32_t n, float *dst, uint64_t dst_stride);

#endif
