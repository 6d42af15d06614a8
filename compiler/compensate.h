// SPDX-License-Identifier: Apache-2.0
// What do the kept channels owe for the dropped ones? In: second moments of the kept activations
// and their products with the wanted output, on calibration tokens, one part to fit and one to
// judge; the original rows of the down projection. Out: rows and bias that come closest on the
// judging part. Formulas: design, section 4. Nothing here runs a model.
#ifndef FACET_COMPILER_COMPENSATE_H
#define FACET_COMPILER_COMPENSATE_H

#include "base/report.h"
#include "base/threads.h"
#include "compiler/build.h"

enum { FACET_PART_FIT, FACET_PART_JUDGE, FACET_PART_COUNT };

// Sums over tokens, of n = kept channels + 1 columns, the last of which is the constant 1 (the
// bias). A token's row may be weighted, its constant with it.
typedef struct facet_moments {
    const facet_alloc *alloc;
    uint32_t n, d;
    float *c[FACET_PART_COUNT];      // (n, n) z z^T, the upper triangle of rows
    float *m[FACET_PART_COUNT];      // (n, d) z y*^T
    double wanted[FACET_PART_COUNT]; // sum of |y*|^2
    double energy;                   // judging part: sum of |y|^2, y the dense layer's output
    uint64_t tokens[FACET_PART_COUNT];
} facet_moments;

facet_status facet_moments_init(facet_moments *moments, uint32_t n_kept, uint32_t d,
                                const facet_alloc *alloc, facet_err *err);
void facet_moments_fini(facet_moments *moments);
// Sum of x^2, in double.
double facet_squares(const float *x, size_t n);

// Adds n_rows tokens to a part: z (n_rows, n) with the constant column, wanted (n_rows, d).
typedef struct facet_moments_rows {
    uint32_t n_rows;
    const float *z, *wanted;
} facet_moments_rows;
void facet_moments_add(facet_moments *moments, int part, const facet_moments_rows *rows);
// The same from rows rounded to BF16, on the threads of the pool.
void facet_moments_add_bf16(facet_moments *moments, int part, const facet_moments_rows *rows,
                            facet_pool *pool);
// Moments of n_kept of the channels, by their ascending places, into *out, which is initialised.
facet_status facet_moments_pick(const facet_moments *from, const uint32_t *places, uint32_t n_kept,
                                facet_moments *out, facet_err *err);
// Squared error of rows (n, d) on a part: sum of |y* - z rows|^2. scratch: (n, d).
double facet_moments_error(const facet_moments *moments, int part, const float *rows,
                           float *scratch);
// Squared size of a change of rows on a part: sum of |z change|^2. scratch: (n, d).
double facet_moments_size(const facet_moments *moments, int part, const float *change,
                          float *scratch);
// FACET_FAILED when a sum is not finite, naming the layer.
facet_status facet_moments_check(const facet_moments *moments, uint32_t layer, facet_err *err);

typedef struct facet_compensated {
    facet_compensation method; // the one that was kept
    double ridge;              // of the refit, as a multiple of the mean diagonal
    double error_none, error;  // squared errors on the judging part, before and after
} facet_compensated;

// rows: (n, d), in: the original rows, the bias row zero; out: the compensated ones. `method` is
// the most that may be done; what is not better on the judging part is not done. TUNE: a refit that
// is not solved again on both parts, so that the judging tokens still judge. `start` is where the
// search for the ridge begins and receives where it ended (0: nowhere yet).
facet_status facet_compensate_layer(const facet_moments *moments, facet_compensation method,
                                    uint32_t layer, double *start, float *rows,
                                    facet_compensated *result, facet_err *err);

// Solves (C + ridge D) X = M - C W for the sums of both parts, in F64, D the mean diagonal of C
// (the constant's own for the bias), and adds X to rows W. FACET_FAILED: singular or not finite.
facet_status facet_compensate_solve(const facet_moments *moments, double ridge, uint32_t layer,
                                    float *rows, facet_err *err);

#endif
