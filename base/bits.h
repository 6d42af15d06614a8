// SPDX-License-Identifier: Apache-2.0
// Bit sets over bytes: bit j is bit j % 8 of byte j / 8, as in our mask files.
#ifndef FACET_BASE_BITS_H
#define FACET_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline size_t facet_bits_bytes(size_t n)
{
    return (n + 7) / 8;
}
static inline bool facet_bits_get(const uint8_t *bits, size_t i)
{
    return ((unsigned)bits[i / 8] >> (i % 8)) & 1u;
}
static inline void facet_bits_set(uint8_t *bits, size_t i)
{
    bits[i / 8] = (uint8_t)((unsigned)bits[i / 8] | (1u << (i % 8)));
}
static inline void facet_bits_clear(uint8_t *bits, size_t i)
{
    bits[i / 8] = (uint8_t)((unsigned)bits[i / 8] & ~(1u << (i % 8)));
}
// Set bits among the first n; bits of the last byte past n are ignored.
size_t facet_bits_count(const uint8_t *bits, size_t n);
// Set bits that two sets of n share.
size_t facet_bits_common(const uint8_t *a, const uint8_t *b, size_t n);

#endif
