// SPDX-License-Identifier: Apache-2.0
// Vector primitives in plain C, for any machine: the same names as every simd_*.h
// (templates/README.md), one lane after the other.

#define SIMD_TOKENS       4
#define SIMD_FLOAT_TOKENS 4
#define SIMD_FEW          4 // as on AVX-512
#define INLINE            static inline __attribute__((always_inline, unused))
#define PLAIN             static __attribute__((unused)) // the compiler decides: its loops are long
#define NOINLINE          static __attribute__((noinline, unused))

typedef struct v16f {
    float v[16];
} v16f;
typedef struct v16i {
    int32_t v[16];
} v16i;
typedef struct v64b {
    uint8_t v[64];
} v64b;

// One line for each operation that works lane by lane.
#define LANES(type, expression)                                                                    \
    type out;                                                                                      \
    for (uint32_t i = 0; i < sizeof out.v / sizeof out.v[0]; i++)                                  \
        out.v[i] = (expression);                                                                   \
    return out

PLAIN v16f vf_set(float x)
{
    LANES(v16f, x);
}
PLAIN v16f vf_zero(void)
{
    return vf_set(0.0f);
}
PLAIN v16f vf_load(const float *p)
{
    LANES(v16f, p[i]);
}
PLAIN v16f vf_load_part(const float *p, uint32_t n)
{
    LANES(v16f, i < n ? p[i] : 0.0f);
}
PLAIN void vf_store_part(float *p, v16f v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        p[i] = v.v[i];
}
PLAIN void vf_store(float *p, v16f v)
{
    vf_store_part(p, v, 16);
}
PLAIN v16f vf_add(v16f a, v16f b)
{
    LANES(v16f, a.v[i] + b.v[i]);
}
PLAIN v16f vf_sub(v16f a, v16f b)
{
    LANES(v16f, a.v[i] - b.v[i]);
}
PLAIN v16f vf_mul(v16f a, v16f b)
{
    LANES(v16f, a.v[i] * b.v[i]);
}
PLAIN v16f vf_div(v16f a, v16f b)
{
    LANES(v16f, a.v[i] / b.v[i]);
}
PLAIN v16f vf_fma(v16f a, v16f b, v16f c)
{
    LANES(v16f, a.v[i] * b.v[i] + c.v[i]);
}
// As the vector instructions do, the second operand is the answer when either is no number.
PLAIN v16f vf_min(v16f a, v16f b)
{
    LANES(v16f, a.v[i] < b.v[i] ? a.v[i] : b.v[i]);
}
PLAIN v16f vf_max(v16f a, v16f b)
{
    LANES(v16f, a.v[i] > b.v[i] ? a.v[i] : b.v[i]);
}
PLAIN v16f vf_abs(v16f a)
{
    LANES(v16f, a.v[i] < 0.0f ? -a.v[i] : a.v[i]);
}

// The halves are added lane by lane down to one, in the same order in every simd_*.h.
PLAIN float vf_sum(v16f v)
{
    for (uint32_t half = 8; half > 0; half /= 2)
        for (uint32_t i = 0; i < half; i++)
            v.v[i] += v.v[i + half];
    return v.v[0];
}
PLAIN float vf_top(v16f v)
{
    for (uint32_t i = 1; i < 16; i++)
        v.v[0] = v.v[i] > v.v[0] ? v.v[i] : v.v[0];
    return v.v[0];
}

PLAIN float float_of_bits(uint32_t bits)
{
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}
PLAIN uint32_t bits_of_float(float x)
{
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    return bits;
}
PLAIN float float_of_half(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t rest = half & 0x7fffu;
    if (rest >= 0x7c00u) return float_of_bits(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    // Shifted into place the value is 2^112 too small, subnormal halves included.
    return float_of_bits(sign | bits_of_float(float_of_bits(rest << 13) * 0x1p112f));
}
PLAIN uint16_t half_of_float(float x)
{
    const uint32_t bits = bits_of_float(x);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    const uint32_t rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (rest >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); // rounds past 65504
    if (rest < 0x38800000u) // subnormal half: adding 0.5 lets the float adder round
        return (uint16_t)(sign | (bits_of_float(float_of_bits(rest) + 0.5f) - 0x3f000000u));
    return (uint16_t)(sign | (rest - 0x38000000u + 0xfffu + (rest >> 13 & 1u)) >> 13);
}
PLAIN v16f vf_load_f16(const uint16_t *p)
{
    LANES(v16f, float_of_half(p[i]));
}
PLAIN void vf_store_f16(uint16_t *p, v16f v)
{
    for (uint32_t i = 0; i < 16; i++)
        p[i] = half_of_float(v.v[i]);
}
PLAIN v16f vf_load_bf16(const uint16_t *p)
{
    LANES(v16f, float_of_bits((uint32_t)p[i] << 16));
}
// v * 2^n for n in -126 .. 127.
PLAIN v16f vf_scale(v16f v, v16i n)
{
    LANES(v16f, v.v[i] * float_of_bits((uint32_t)(n.v[i] + 127) << 23));
}

PLAIN v16i vi_set(int32_t x)
{
    LANES(v16i, x);
}
PLAIN v16i vi_zero(void)
{
    return vi_set(0);
}
PLAIN v16i vi_load(const int32_t *p)
{
    LANES(v16i, p[i]);
}
PLAIN int32_t vi_sum(v16i v)
{
    for (uint32_t i = 1; i < 16; i++)
        v.v[0] += v.v[i];
    return v.v[0];
}
PLAIN v16i vi_load_u8(const uint8_t *p)
{
    LANES(v16i, p[i]);
}
PLAIN v16i vi_load_i8(const int8_t *p)
{
    LANES(v16i, p[i]);
}
PLAIN void vi_store_i8(int8_t *p, v16i v)
{
    for (uint32_t i = 0; i < 16; i++)
        p[i] = (int8_t)v.v[i];
}
PLAIN v16f vf_of_int(v16i v)
{
    LANES(v16f, (float)v.v[i]);
}
// To nearest, ties to even: adding 1.5 * 2^23 leaves no bits for a fraction (|v| < 2^22).
PLAIN int32_t round_even(float x)
{
    const volatile float moved = x + 12582912.0f;
    return (int32_t)(moved - 12582912.0f);
}
PLAIN v16i vi_round(v16f v)
{
    LANES(v16i, round_even(v.v[i]));
}

PLAIN v64b vb_load(const uint8_t *p)
{
    LANES(v64b, p[i]);
}
PLAIN void vb_store(uint8_t *p, v64b v)
{
    for (uint32_t i = 0; i < 64; i++)
        p[i] = v.v[i];
}
PLAIN v64b vb_or(v64b a, v64b b)
{
    LANES(v64b, a.v[i] | b.v[i]);
}
PLAIN v64b vb_low4(v64b v)
{
    LANES(v64b, v.v[i] & 0x0f);
}
PLAIN v64b vb_high4(v64b v)
{
    LANES(v64b, v.v[i] >> 4);
}
// Bit k of every byte moved to bit 4; k is a literal.
PLAIN v64b vb_bit(v64b v, uint32_t k)
{
    LANES(v64b, (uint8_t)((v.v[i] >> k & 1u) << 4));
}
// Bits 2k and 2k + 1 of every byte moved to bits 4 and 5; k is a literal 0..3.
PLAIN v64b vb_pair(v64b v, uint32_t k)
{
    LANES(v64b, (uint8_t)((v.v[i] >> 2 * k & 3u) << 4));
}

// acc[r] += sum over j of w[4 r + j] * a[j], for any bytes of w.
PLAIN v16i dot4(v16i acc, v64b w, const int8_t *a)
{
    for (uint32_t i = 0; i < 64; i++)
        acc.v[i / 4] += w.v[i] * a[i % 4];
    return acc;
}
PLAIN v16i dot4_wide(v16i acc, v64b w, const int8_t *a)
{
    return dot4(acc, w, a);
}
