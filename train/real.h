// SPDX-License-Identifier: Apache-2.0
// The number type of training and its matrix products. float in facet; the gradient checks build
// the same files in double (FACET_REAL_DOUBLE), where central differences are exact enough to tell
// a wrong gradient from rounding.
#ifndef FACET_TRAIN_REAL_H
#define FACET_TRAIN_REAL_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/threads.h"

#ifdef FACET_REAL_DOUBLE
typedef double facet_real;
#define FACET_REAL(x) x
#else
typedef float facet_real;
#define FACET_REAL(x) x##f
#endif

// c (m, n) = alpha * a b, or += when `add`. All matrices are rows with a stride.
typedef enum facet_product_kind {
    FACET_PRODUCT_NT, // a (m, k), b (n, k)
    FACET_PRODUCT_NN, // a (m, k), b (k, n)
    FACET_PRODUCT_TN  // a (k, m), b (k, n)
} facet_product_kind;

typedef struct facet_product {
    facet_product_kind kind;
    bool add;
    size_t m, n, k; // any may be 0
    facet_real alpha;
    const facet_real *a, *b;
    facet_real *c;
    size_t stride_a, stride_b, stride_c;
} facet_product;

// A product of whole matrices: strides follow from the shapes, alpha is 1.
facet_product facet_product_whole(facet_product_kind kind, const size_t mnk[3], const facet_real *a,
                                  const facet_real *b, facet_real *c);
// On the calling thread.
void facet_product_run(const facet_product *product);
// Independent products on all threads, in tiles of c that depend on the shapes only.
void facet_products_run(facet_pool *pool, const facet_product *products, uint32_t n);

// e^x. The float one has no branches and no table, so that loops over it become vector code; its
// error is below 1.25 ulp. Outside the range of normal floats it gives their smallest or (nearly)
// their largest. NaN stays NaN. (gcc makes vectors of the two choices only without trapping-math,
// which changes no value: see CMakeLists.txt.)
#ifdef FACET_REAL_DOUBLE
static inline facet_real facet_real_exp(facet_real x)
{
    return exp(x);
}
#else
static inline facet_real facet_real_exp(facet_real x)
{
    // x = n ln 2 + r, |r| <= ln 2 / 2: adding 1.5 * 2^23 leaves the nearest n in the low bits.
    // ln 2 is split so that n times its upper part is exact.
    const float low = -87.33654f, high = 88.72283f, shift = 12582912.0f;
    float y = x < low ? low : x;
    y = y > high ? high : y;
    const float shifted = y * 1.44269504f + shift;
    const float n = shifted - shift;
    const float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    // 2^n in two factors: n = 128 has no float of its own.
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    const uint32_t exponent = bits - 0x4b400000u + 254u; // n + 2 * 127, never negative
    const uint32_t first = (exponent >> 1) << 23, second = (exponent - (exponent >> 1)) << 23;
    float a, b;
    memcpy(&a, &first, sizeof a);
    memcpy(&b, &second, sizeof b);
    return p * a * b;
}
#endif

#endif
