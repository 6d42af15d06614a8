// SPDX-License-Identifier: Apache-2.0
// e^x without branches or a table, so that loops over it become vector code; the error is below
// 1.25 ulp. Outside the range of normal floats it gives their smallest or (nearly) their largest.
// NaN stays NaN. (gcc makes vectors of the two choices only without trapping-math, which changes no
// value: see CMakeLists.txt.)
#ifndef FACET_CALIB_EXP_H
#define FACET_CALIB_EXP_H

#include <stdint.h>
#include <string.h>

static inline float facet_exp(float x)
{
    // x = n ln 2 + r, |r| <= ln 2 / 2: adding 1.5 * 2^23 leaves the nearest n in the low bits.
    // ln 2 is split so that n times its upper part is exact.
    const float low = -87.33654f, high = 88.72283f, shift = 12582912.0f;
    float y = x < low ? low : x;
    y = y > high ? high : y;
    const float shifted = y * 1.44269504f + shift;
    const float n = shifted - shift;
    const float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    // 2^n in two factors: n = 128 has no float of its own.
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    const uint32_t exponent = bits - 0x4b400000u + 254u; // n + 2 * 127, never negative
    const uint32_t first = (exponent >> 1) << 23, second = (exponent - (exponent >> 1)) << 23;
    float a, b;
    memcpy(&a, &first, sizeof a);
    memcpy(&b, &second, sizeof b);
    return p * a * b;
}

#endif
