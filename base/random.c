// SPDX-License-Identifier: Apache-2.0
#include "base/random.h"

#include <math.h>

// splitmix64 (Steele, Lea, Flood 2014): one addition and a mixing function.
uint64_t facet_random_u64(facet_random *random)
{
    uint64_t z = random->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t facet_random_below(facet_random *random, uint64_t n)
{
    const uint64_t first = (0 - n) % n; // 2^64 mod n: below it the last, incomplete span begins
    uint64_t value;
    do
        value = facet_random_u64(random);
    while (value < first);
    return value % n;
}

double facet_random_unit(facet_random *random)
{
    return (double)(facet_random_u64(random) >> 11) * 0x1p-53;
}

// Box and Muller; the second value is dropped to keep the state one number.
double facet_random_normal(facet_random *random)
{
    const double u = 1.0 - facet_random_unit(random);
    const double v = facet_random_unit(random);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}
