// SPDX-License-Identifier: Apache-2.0
// The rows of a matrix as floats, on the threads of a pool.
#ifndef FACET_CALIB_EACH_ROWS_H
#define FACET_CALIB_EACH_ROWS_H

#include "model/model.h"
#include "products/each.h"

// Rows first..first+n-1 of a matrix as floats, into dst.
void facet_each_rows(facet_pool *pool, const facet_tensor *tensor, uint64_t first, uint64_t n,
                     float *dst);

#endif
