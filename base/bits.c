// SPDX-License-Identifier: Apache-2.0
#include "base/bits.h"

static unsigned ones(unsigned byte)
{
    unsigned count = 0;
    for (; byte; byte &= byte - 1)
        count++;
    return count;
}

// The part of byte i that belongs to the first n bits.
static unsigned valid(size_t i, size_t n)
{
    return (i + 1) * 8 <= n ? 0xffu : (1u << (n % 8)) - 1u;
}

size_t facet_bits_count(const uint8_t *bits, size_t n)
{
    return facet_bits_common(bits, bits, n);
}

size_t facet_bits_common(const uint8_t *a, const uint8_t *b, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < facet_bits_bytes(n); i++)
        count += ones(a[i] & b[i] & valid(i, n));
    return count;
}
