// SPDX-License-Identifier: Apache-2.0
// Spherical k-means that sees its points only through their similarities, so that the choice of k
// and every restart cost nothing per channel. Private to compiler/family*.c.
#ifndef FACET_COMPILER_FAMILY_KMEANS_H
#define FACET_COMPILER_FAMILY_KMEANS_H

#include "base/memory.h"

// similarity: (n, n) symmetric, 1 on the diagonal. assign: (n) receives clusters 0..k-1, none empty
// (k <= n), numbered by their lowest member. The best of `restarts` seeded runs.
typedef struct facet_kmeans {
    const float *similarity;
    uint32_t n, k, restarts;
    uint64_t seed;
} facet_kmeans;
facet_status facet_kmeans_run(const facet_kmeans *problem, const facet_alloc *alloc,
                              uint32_t *assign, facet_err *err);
// Mean silhouette of a grouping by the distance 1 - similarity (0 for k 1), and the mean similarity
// of points with their centre.
facet_status facet_kmeans_quality(const facet_kmeans *problem, const uint32_t *assign,
                                  const facet_alloc *alloc, double *silhouette, double *cohesion,
                                  facet_err *err);

#endif
