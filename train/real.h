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
#include "calib/exp.h"
#include "products/product.h"

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
    const uint16_t *b_rounded; // in place of b (products/product.h), or NULL
    facet_real *c;
    size_t stride_a, stride_b, stride_c;
} facet_product;

// A product of whole matrices: strides follow from the shapes, alpha is 1.
facet_product facet_product_whole(facet_product_kind kind, const size_t mnk[3], const facet_real *a,
                                  const facet_real *b, facet_real *c);
// On the calling thread, with the operands as they are.
void facet_product_run(const facet_product *product);
// Independent products on all threads, in tiles of c that depend on the shapes only. In double the
// operands are never rounded.
void facet_products_run(facet_pool *pool, facet_precision precision, const facet_product *products,
                        uint32_t n);

// e^x; the float one makes vector code of loops.
#ifdef FACET_REAL_DOUBLE
static inline facet_real facet_real_exp(facet_real x)
{
    return exp(x);
}
#else
static inline facet_real facet_real_exp(facet_real x)
{
    return facet_exp(x);
}
#endif

#endif
