// SPDX-License-Identifier: Apache-2.0
// Monotonic time, for measuring only: no output of facet depends on it.
#ifndef FACET_BASE_CLOCK_H
#define FACET_BASE_CLOCK_H

#include <stdint.h>

uint64_t facet_clock_ns(void);
static inline double facet_clock_seconds(uint64_t since_ns)
{
    return (double)(facet_clock_ns() - since_ns) * 1e-9;
}

#endif
