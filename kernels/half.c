// SPDX-License-Identifier: Apache-2.0
// IEEE half precision by integer arithmetic, so that results are the same on every machine.
#include "kernels/reference.h"

#include <string.h>

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float facet_f16_to_f32(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t exponent = (half >> 10) & 31u, mantissa = half & 0x3ffu;
    if (exponent == 31) return float_of_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent != 0) return float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    // Subnormal halves are whole multiples of 2^-24, which a float holds exactly.
    const float value = (float)mantissa * 0x1p-24f;
    return sign ? -value : value;
}

uint16_t facet_f32_to_f16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (bits >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); // 65520 and above round to infinity
    if (bits < 0x38800000u) {
        // Below 2^-14 a half is a multiple of 2^-24; adding 0.5, whose last place is 2^-24, lets
        // the float addition round to the nearest even multiple.
        const float sum = float_of_bits(bits) + 0.5f;
        uint32_t rounded;
        memcpy(&rounded, &sum, sizeof rounded);
        return (uint16_t)(sign | (rounded - 0x3f000000u));
    }
    const uint32_t odd = (bits >> 13) & 1u;
    return (uint16_t)(sign | ((bits - 0x38000000u + 0xfffu + odd) >> 13));
}
