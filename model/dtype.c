// SPDX-License-Identifier: Apache-2.0
// Source data types: a table of blocks, and their exact values. Every product and sum is a float
// operation of its own, in the order that defines the format, so that values compare bit for bit.
// Sources may be unaligned (a safetensors header has any length): bytes are read by memcpy.
#include "model/dtype.h"

#include <assert.h>
#include <string.h>

// A fused multiply-add would round once where the format rounds twice. GCC fuses nothing under
// -std=c17, Clang does where the machine has the instruction.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

typedef void decode_fn(const uint8_t *block, float *dst);

enum { K_COLS = 256 };

static uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static float load_half(const uint8_t *p)
{
    return facet_half_to_float(load_u16(p));
}

float facet_half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t exponent = (half >> 10) & 31u;
    const uint32_t fraction = half & 1023u;
    union {
        uint32_t u;
        float f;
    } v;
    if (exponent == 0) {
        // Subnormal: fraction * 2^-24 is exact in float.
        v.f = (float)fraction * 0x1p-24f;
        v.u |= sign;
    } else if (exponent == 31) {
        v.u = sign | 0x7f800000u | fraction << 13;
    } else {
        v.u = sign | (exponent + 112u) << 23 | fraction << 13;
    }
    return v.f;
}

// The fraction of `bits` without its low `drop` bits (1 to 31), rounded to nearest even.
static uint32_t round_shift(uint32_t bits, uint32_t drop)
{
    const uint32_t half = 1u << (drop - 1);
    const uint32_t rest = bits & ((half << 1) - 1);
    const uint32_t kept = bits >> drop;
    return kept + (rest > half || (rest == half && (kept & 1u)));
}

uint16_t facet_float_to_half(float value)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = value};
    const uint32_t sign = v.u >> 16 & 0x8000u;
    const uint32_t bits = v.u & 0x7fffffffu;
    if (bits > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);  // NaN stays NaN
    if (bits >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); // rounds to infinity
    if (bits >= 0x38800000u) {
        // Normal: a carry out of the fraction rightly raises the exponent.
        return (uint16_t)(sign | (round_shift(bits, 13) - (112u << 10)));
    }
    if (bits < 0x33000000u) return (uint16_t)sign; // below half of the smallest subnormal
    const uint32_t exponent = bits >> 23;
    return (uint16_t)(sign | round_shift((bits & 0x7fffffu) | 0x800000u, 126u - exponent));
}

static void decode_f32(const uint8_t *block, float *dst)
{
    memcpy(dst, block, sizeof *dst);
}

static void decode_f16(const uint8_t *block, float *dst)
{
    *dst = load_half(block);
}

static void decode_bf16(const uint8_t *block, float *dst)
{
    *dst = facet_bf16_to_float(load_u16(block));
}

// Legacy blocks: column j in the low nibble of byte j, column j + 16 in its high nibble.
static void decode_q4_0(const uint8_t *block, float *dst)
{
    const float d = load_half(block);
    const uint8_t *q = block + 2;
    for (int j = 0; j < 16; j++) {
        dst[j] = (float)((q[j] & 15) - 8) * d;
        dst[j + 16] = (float)((q[j] >> 4) - 8) * d;
    }
}

static void decode_q4_1(const uint8_t *block, float *dst)
{
    const float d = load_half(block);
    const float m = load_half(block + 2);
    const uint8_t *q = block + 4;
    for (int j = 0; j < 16; j++) {
        dst[j] = (float)(q[j] & 15) * d + m;
        dst[j + 16] = (float)(q[j] >> 4) * d + m;
    }
}

// Bit 4 of columns j and j + 16 are bits j and j + 16 of `high`.
static void decode_q5_0(const uint8_t *block, float *dst)
{
    const float d = load_half(block);
    const uint32_t high = load_u32(block + 2);
    const uint8_t *q = block + 6;
    for (int j = 0; j < 16; j++) {
        const int low = (q[j] & 15) | (int)(high >> j & 1u) << 4;
        const int up = (q[j] >> 4) | (int)(high >> (j + 16) & 1u) << 4;
        dst[j] = (float)(low - 16) * d;
        dst[j + 16] = (float)(up - 16) * d;
    }
}

static void decode_q5_1(const uint8_t *block, float *dst)
{
    const float d = load_half(block);
    const float m = load_half(block + 2);
    const uint32_t high = load_u32(block + 4);
    const uint8_t *q = block + 8;
    for (int j = 0; j < 16; j++) {
        const int low = (q[j] & 15) | (int)(high >> j & 1u) << 4;
        const int up = (q[j] >> 4) | (int)(high >> (j + 16) & 1u) << 4;
        dst[j] = (float)low * d + m;
        dst[j + 16] = (float)up * d + m;
    }
}

static void decode_q8_0(const uint8_t *block, float *dst)
{
    const float d = load_half(block);
    for (int j = 0; j < 32; j++)
        dst[j] = (float)(int8_t)block[2 + j] * d;
}

// Eight 6-bit scales and eight 6-bit minimums in 12 bytes: 0..3 lie whole in bytes 0..3 and 4..7;
// 4..7 have their low nibbles in bytes 8..11 and their two high bits on top of bytes 0..7.
static void k_scale(const uint8_t *packed, int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = packed[j] & 63;
        *min = packed[j + 4] & 63;
    } else {
        *scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
        *min = (packed[j + 4] >> 4) | (packed[j] >> 6) << 4;
    }
}

static void decode_q4_k(const uint8_t *block, float *dst)
{
    const float d = load_half(block);
    const float dmin = load_half(block + 2);
    const uint8_t *q = block + 16;
    for (int j = 0; j < 8; j++) {
        int scale, min;
        k_scale(block + 4, j, &scale, &min);
        const float ds = d * (float)scale;
        const float dm = dmin * (float)min;
        const uint8_t *bytes = q + 32 * (j / 2);
        const int shift = 4 * (j % 2);
        for (int l = 0; l < 32; l++)
            dst[32 * j + l] = ds * (float)(bytes[l] >> shift & 15) - dm;
    }
}

static void decode_q5_k(const uint8_t *block, float *dst)
{
    const float d = load_half(block);
    const float dmin = load_half(block + 2);
    const uint8_t *high = block + 16;
    const uint8_t *q = block + 48;
    for (int j = 0; j < 8; j++) {
        int scale, min;
        k_scale(block + 4, j, &scale, &min);
        const float ds = d * (float)scale;
        const float dm = dmin * (float)min;
        const uint8_t *bytes = q + 32 * (j / 2);
        const int shift = 4 * (j % 2);
        for (int l = 0; l < 32; l++) {
            const int value = (bytes[l] >> shift & 15) | (high[l] >> j & 1) << 4;
            dst[32 * j + l] = ds * (float)value - dm;
        }
    }
}

// Two halves of 128 columns, each four runs of 32: low nibbles of 32 + 32 bytes, then their high
// nibbles; bits 4 and 5 of the four runs share one byte.
static void decode_q6_k(const uint8_t *block, float *dst)
{
    const float d = load_half(block + 208);
    for (int run = 0; run < 8; run++) {
        const int half = run / 4;
        const int part = run % 4;
        const uint8_t *low = block + 64 * half + 32 * (part % 2);
        const uint8_t *high = block + 128 + 32 * half;
        const uint8_t *scales = block + 192 + 8 * half + 2 * part;
        for (int l = 0; l < 32; l++) {
            const int value = (low[l] >> (4 * (part / 2)) & 15) | (high[l] >> (2 * part) & 3) << 4;
            dst[32 * run + l] = d * (float)(int8_t)scales[l / 16] * (float)(value - 32);
        }
    }
}

static const struct {
    const char *name;
    uint32_t block, bytes;
    decode_fn *decode;
} types[FACET_DTYPE_COUNT] = {
    [FACET_DTYPE_F32] = {"F32", 1, 4, decode_f32},
    [FACET_DTYPE_F16] = {"F16", 1, 2, decode_f16},
    [FACET_DTYPE_BF16] = {"BF16", 1, 2, decode_bf16},
    [FACET_DTYPE_Q4_0] = {"Q4_0", 32, 18, decode_q4_0},
    [FACET_DTYPE_Q4_1] = {"Q4_1", 32, 20, decode_q4_1},
    [FACET_DTYPE_Q5_0] = {"Q5_0", 32, 22, decode_q5_0},
    [FACET_DTYPE_Q5_1] = {"Q5_1", 32, 24, decode_q5_1},
    [FACET_DTYPE_Q8_0] = {"Q8_0", 32, 34, decode_q8_0},
    [FACET_DTYPE_Q4_K] = {"Q4_K", K_COLS, 144, decode_q4_k},
    [FACET_DTYPE_Q5_K] = {"Q5_K", K_COLS, 176, decode_q5_k},
    [FACET_DTYPE_Q6_K] = {"Q6_K", K_COLS, 210, decode_q6_k},
};

const char *facet_dtype_name(facet_dtype dtype)
{
    return (unsigned)dtype < FACET_DTYPE_COUNT ? types[dtype].name : "?";
}

uint32_t facet_dtype_block(facet_dtype dtype)
{
    return types[dtype].block;
}

uint32_t facet_dtype_bytes(facet_dtype dtype)
{
    return types[dtype].bytes;
}

bool facet_dtype_size(facet_dtype dtype, uint64_t n, uint64_t *bytes)
{
    const uint64_t blocks = n / types[dtype].block;
    if (n % types[dtype].block != 0 || blocks > UINT64_MAX / types[dtype].bytes) return false;
    *bytes = blocks * types[dtype].bytes;
    return true;
}

void facet_dequantize(facet_dtype dtype, const void *src, uint64_t n, float *dst)
{
    const uint64_t block = types[dtype].block;
    const uint64_t bytes = types[dtype].bytes;
    const uint8_t *in = src;
    assert(n % block == 0);
    if (dtype == FACET_DTYPE_F32) {
        if (n) memcpy(dst, src, n * sizeof *dst);
        return;
    }
    for (uint64_t i = 0; i < n / block; i++)
        types[dtype].decode(in + i * bytes, dst + i * block);
}
