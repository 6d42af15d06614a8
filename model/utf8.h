// SPDX-License-Identifier: Apache-2.0
// UTF-8, read as leniently as llama.cpp reads it: overlong forms and surrogates count as
// characters, a byte that starts nothing counts as U+FFFD.
#ifndef FACET_MODEL_UTF8_H
#define FACET_MODEL_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FACET_UTF8_BAD 0xfffdu

// Bytes that the first byte of a character announces; 1 for a byte that cannot be first.
static inline size_t facet_utf8_announced(uint8_t first)
{
    static const uint8_t bytes[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
    return bytes[first >> 4];
}

// The character at text[0] of `bytes` > 0, and how many bytes it takes.
static inline uint32_t facet_utf8_get(const char *text, size_t bytes, size_t *taken)
{
    const uint8_t *s = (const uint8_t *)text;
    static const uint8_t first_bits[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    const size_t n = facet_utf8_announced(s[0]);
    *taken = 1;
    if (s[0] < 0x80) return s[0];
    if (n == 1 || s[0] >= 0xf8 || n > bytes) return FACET_UTF8_BAD;
    uint32_t c = s[0] & first_bits[n];
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return FACET_UTF8_BAD;
        c = c << 6 | (s[i] & 0x3fu);
    }
    if (c > 0x10ffff) return FACET_UTF8_BAD;
    *taken = n;
    return c;
}

// Writes a character (at most U+10FFFF) to out[4] and returns its bytes.
static inline size_t facet_utf8_put(uint32_t c, char out[4])
{
    uint8_t b[4] = {0};
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t marks[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; c >>= 6)
        b[i] = (uint8_t)(0x80 | (c & 0x3f));
    b[0] = (uint8_t)(marks[n] | c);
    for (size_t i = 0; i < n; i++)
        out[i] = (char)b[i];
    return n;
}

static inline bool facet_utf8_surrogate(uint32_t c)
{
    return c >= 0xd800 && c <= 0xdfff;
}

#endif
