// SPDX-License-Identifier: Apache-2.0
// Seeded random numbers (splitmix64): the same everywhere, seeds are arguments.
#ifndef FACET_BASE_RANDOM_H
#define FACET_BASE_RANDOM_H

#include <stdint.h>

typedef struct facet_random {
    uint64_t state;
} facet_random;

static inline facet_random facet_random_seed(uint64_t seed)
{
    return (facet_random){seed};
}
uint64_t facet_random_u64(facet_random *random);
uint64_t facet_random_below(facet_random *random, uint64_t n); // uniform in 0..n-1, n > 0
double facet_random_unit(facet_random *random);                // uniform in [0, 1)
double facet_random_normal(facet_random *random);              // mean 0, variance 1

#endif
