// SPDX-License-Identifier: Apache-2.0
// Large matrix products on the calling thread (each.h has threads): in float32 by OpenBLAS, or with
// operands rounded to BF16 and sums in float32 by oneDNN, where the CPU multiplies BF16 in hardware
// and the library is there. BF16 is about twice as fast; what it rounds (a relative 2^-9 of an
// operand) is less than the 8 bits that the runtime gives activations.
#ifndef FACET_PRODUCTS_PRODUCT_H
#define FACET_PRODUCTS_PRODUCT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum facet_precision { FACET_PRECISION_F32, FACET_PRECISION_BF16 } facet_precision;

// c (m, n) = alpha * op(a) op(b), or += when `add`. All matrices are rows with a stride.
typedef struct facet_gemm {
    bool a_transposed; // a is (k, m), else (m, k)
    bool b_transposed; // b is (n, k), else (k, n)
    bool add;
    size_t m, n, k; // any may be 0
    float alpha;
    const float *a, *b;
    const uint16_t
        *b_rounded; // BF16 in place of b, for BF16 products where facet_bf16_has(); or NULL
    float *c;
    size_t stride_a, stride_b, stride_c;
} facet_gemm;

// Any value is allowed in the operands; BF16 keeps NaN and infinities. Panels that oneDNN fails to
// multiply, for want of memory, are multiplied by plain loops.
void facet_gemm_run(const facet_gemm *gemm, facet_precision precision);

// Whether products of BF16 are to be had in this process; the first call loads oneDNN. Without
// them both precisions are float32.
bool facet_bf16_has(void);
// dst (n) = x (n) rounded to BF16, ties to even; only where facet_bf16_has().
void facet_bf16_round(uint16_t *dst, const float *x, size_t n);
// The product by panels of BF16; for facet_gemm_run.
void facet_bf16_run(const facet_gemm *gemm);

#endif
