// SPDX-License-Identifier: Apache-2.0
#include "compiler/quantize_block.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "compiler/pack.h"
#include "model/dtype.h"

typedef struct block_type {
    uint8_t top, offset; // codes 0..top, value d * (q - offset)
    bool minimum;        // value d * q + m
    uint8_t bytes;       // in memory
    uint8_t low, high;   // places of the nibbles and of the fifth bits, 0: none
} block_type;

static const block_type types[FACET_PACK_COUNT] = {
    [FACET_PACK_Q4_0] = {15, 8, false, 18, 2, 0},
    [FACET_PACK_Q4_1] = {15, 0, true, 20, 4, 0},
    [FACET_PACK_Q5_0] = {31, 16, false, 22, 6, 2},
    [FACET_PACK_Q5_1] = {31, 0, true, 24, 8, 4},
    [FACET_PACK_Q6_0] = {63, 32, false, sizeof(facet_q6_0), 0, 0},
    [FACET_PACK_Q8_0] = {255, 128, false, 34, 0, 0},
};

bool facet_block_known(uint32_t pack)
{
    return pack < FACET_PACK_COUNT && types[pack].bytes > 0;
}
uint32_t facet_block_bytes(uint32_t pack)
{
    return types[pack].bytes;
}

static facet_block_scale stored(double d, double m)
{
    facet_block_scale scale = {.d_bits = facet_float_to_half((float)d),
                               .m_bits = facet_float_to_half((float)m)};
    scale.d = facet_half_to_float(scale.d_bits);
    scale.m = facet_half_to_float(scale.m_bits);
    return scale;
}

static float code_of(const block_type *type, float x, float inverse, float m)
{
    const float q = rintf((x - m) * inverse) + (float)type->offset;
    return q < 0 ? 0 : q > (float)type->top ? (float)type->top : q;
}

// Codes of a trial scale, then the scale that is best for those codes; returns what it gains: the
// sum of squares it explains.
static double refine(const block_type *type, const float x[32], float d, double *best_d)
{
    const float inverse = d < 0 || d > 0 ? 1.0f / d : 0.0f;
    float xq = 0, qq = 0;
    for (int i = 0; i < 32; i++) {
        const float q = code_of(type, x[i], inverse, 0) - (float)type->offset;
        xq += x[i] * q;
        qq += q * q;
    }
    *best_d = qq > 0 ? (double)(xq / qq) : 0;
    return qq > 0 ? (double)(xq * xq / qq) : 0;
}

// The largest value may lie at the long end of the codes or at the short one, a little clipped or
// not.
static facet_block_scale fit_offset(const block_type *type, const float x[32])
{
    float extreme = 0;
    for (int i = 0; i < 32; i++)
        if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
    double best = -1, best_d = 0;
    const int tries = type->top > 31 ? 2 : 5;
    for (int side = 0; side < 2; side++) {
        const float reach = side ? (float)(type->top - type->offset) : -(float)type->offset;
        for (int i = 0; i < tries; i++) {
            double d = 0;
            const double gain = refine(type, x, extreme / (reach * (1.0f + 0.06f * (float)i)), &d);
            if (!(gain > best)) continue;
            best = gain;
            best_d = d;
        }
    }
    return stored(best_d, 0);
}

static facet_block_scale fit_minimum(const block_type *type, const float x[32])
{
    float low = x[0], high = x[0];
    double mean = 0;
    for (int i = 0; i < 32; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
        mean += (double)x[i] / 32;
    }
    double best = INFINITY, best_d = 0, best_m = (double)low;
    for (int i = 0; i < 4; i++) {
        const float shrink = 0.04f * (float)i * (high - low);
        const float m = low + 0.5f * shrink, d = (high - low - shrink) / (float)type->top;
        if (!(d > 0)) break;
        double q1 = 0, q2 = 0, xq = 0;
        float codes[32];
        for (int j = 0; j < 32; j++) {
            codes[j] = code_of(type, x[j], 1.0f / d, m);
            q1 += (double)codes[j] / 32;
            q2 += (double)codes[j] * (double)codes[j] / 32;
            xq += (double)codes[j] * (double)x[j] / 32;
        }
        const double spread = q2 - q1 * q1;
        if (!(spread > 0)) continue;
        const double fit_d = (xq - mean * q1) / spread, fit_m = mean - fit_d * q1;
        double error = 0;
        for (int j = 0; j < 32; j++) {
            const double e = (double)x[j] - fit_d * (double)codes[j] - fit_m;
            error += e * e;
        }
        if (!(error < best)) continue;
        best = error;
        best_d = fit_d;
        best_m = fit_m;
    }
    return stored(best_d, best_m);
}

facet_block_scale facet_block_fit(uint32_t pack, const float x[32])
{
    const block_type *type = &types[pack];
    return type->minimum ? fit_minimum(type, x) : fit_offset(type, x);
}

uint8_t facet_block_code(uint32_t pack, const facet_block_scale *scale, float x)
{
    const float d = scale->d, inverse = d < 0 || d > 0 ? 1.0f / d : 0.0f;
    return (uint8_t)code_of(&types[pack], x, inverse, scale->m);
}

float facet_block_value(uint32_t pack, const facet_block_scale *scale, uint8_t code)
{
    return scale->d * (float)((int)code - (int)types[pack].offset) + scale->m;
}

void facet_block_write(uint32_t pack, const facet_block_scale *scale, const uint8_t codes[32],
                       uint8_t *out)
{
    const block_type *type = &types[pack];
    memset(out, 0, type->bytes);
    memcpy(out, &scale->d_bits, 2);
    if (type->minimum) memcpy(out + 2, &scale->m_bits, 2);
    if (pack == FACET_PACK_Q6_0) {
        memcpy(out + offsetof(facet_q6_0, q), codes, 32);
        return;
    }
    for (int i = 0; i < 32; i++) {
        if (pack == FACET_PACK_Q8_0) {
            out[2 + i] = (uint8_t)(codes[i] ^ 0x80u); // signed: code - 128
            continue;
        }
        const uint32_t nibble = codes[i] & 15u;
        uint8_t *low = out + type->low + i % 16;
        *low = (uint8_t)(*low | (i < 16 ? nibble : nibble << 4));
        if (type->high && (codes[i] & 16u))
            out[type->high + i / 8] = (uint8_t)(out[type->high + i / 8] | (1u << (i % 8)));
    }
}
