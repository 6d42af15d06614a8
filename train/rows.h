// SPDX-License-Identifier: Apache-2.0
// What a step does to rows of activations beside matrix products: norms, gated activations, sums
// over tokens, forward and backward, on all threads. Results do not depend on their number: rows
// are independent, and a sum over rows is one thread's, column by column.
#ifndef FACET_TRAIN_ROWS_H
#define FACET_TRAIN_ROWS_H

#include "model/model.h"
#include "train/real.h"

// y = x / rms(x) * gain, row by row.
typedef struct facet_norm {
    const facet_real *x;    // (rows, n)
    const facet_real *gain; // (n)
    size_t rows, n;
    facet_real eps;
} facet_norm;
void facet_norm_run(facet_pool *pool, const facet_norm *norm, facet_real *y); // y may be x
// dx = what dy (rows, n) comes to, or += when `add`; dx may be dy.
void facet_norm_back(facet_pool *pool, const facet_norm *norm, const facet_real *dy, facet_real *dx,
                     bool add);
// grad (n) += sum over rows of dy * x / rms(x). `inverse` (rows) is scratch.
void facet_norm_gain_back(facet_pool *pool, const facet_norm *norm, const facet_real *dy,
                          facet_real *inverse, facet_real *grad);

// bias (n) is added to each of the rows y (rows, n).
void facet_bias_run(facet_pool *pool, const facet_real *bias, const size_t rows_n[2],
                    facet_real *y);
// grad (n) += sum of the rows of dy (rows, n).
void facet_bias_back(facet_pool *pool, const facet_real *dy, const size_t rows_n[2],
                     facet_real *grad);

// z = act(gate) * up for n numbers; z may be gate.
typedef struct facet_gated {
    facet_gate_act act;
    size_t n;
    facet_real *gate, *up, *z;
} facet_gated;
void facet_gated_run(facet_pool *pool, const facet_gated *gated);
// In: z holds dz. Out: z holds z, gate and up hold their own gradients.
void facet_gated_back(facet_pool *pool, const facet_gated *gated);

#endif
