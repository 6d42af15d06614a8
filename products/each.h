// SPDX-License-Identifier: Apache-2.0
// Independent items on the threads of a pool, for loops around OpenBLAS. In: a pool and a function.
//
// THREADS. Threads claim items one by one, and each item's products run on one thread, so a result
// is the same for every number of threads as long as the items are, and no two thread pools fight
// for the cores. OpenBLAS has one thread count for the whole process: it is 1 while items run and
// then what it was, so other users of OpenBLAS see their own setting.
#ifndef FACET_PRODUCTS_EACH_H
#define FACET_PRODUCTS_EACH_H

#include "base/threads.h"

// Runs fn for the items 0..n_items-1; `thread` is below the pool's number of threads. One caller at
// a time.
typedef void facet_each_fn(void *ctx, uint32_t thread, uint64_t item);
void facet_each(facet_pool *pool, uint64_t n_items, facet_each_fn *fn, void *ctx);

#endif
