// SPDX-License-Identifier: Apache-2.0
// Reading packed groups: items 1 to 10 of kernels/abi.h, the other way round.
#include "kernels/unpack.h"

#include <string.h>

#include "kernels/reference.h"

static float half_at(const uint8_t *bytes)
{
    return facet_f16_to_f32((uint16_t)(bytes[0] | (uint32_t)bytes[1] << 8));
}

// Bits 4 and up that a type keeps in a high plane of its own: none, one or two.
static uint32_t high_bits(uint32_t pack)
{
    switch (pack) {
    case FACET_PACK_Q5_0:
    case FACET_PACK_Q5_1:
    case FACET_PACK_Q5_K:
        return 1;
    case FACET_PACK_Q6_0:
    case FACET_PACK_Q6_K:
        return 2;
    default:
        return 0;
    }
}

static uint32_t planes_bytes(uint32_t pack)
{
    return pack == FACET_PACK_Q8_0 ? 512 : 256 + 64 * high_bits(pack);
}

static int16_t offset_of(uint32_t pack)
{
    switch (pack) {
    case FACET_PACK_Q4_0:
        return 8;
    case FACET_PACK_Q5_0:
        return 16;
    case FACET_PACK_Q6_0:
    case FACET_PACK_Q6_K:
        return 32;
    case FACET_PACK_Q8_0:
        return 128;
    default:
        return 0;
    }
}

// Items 3 to 6, and the offset of item 2. First in the order of the planes, 64 bytes at a time,
// which compilers turn into vector code; then to columns of rows.
static void read_planes(uint32_t pack, const uint8_t *planes, int16_t q[FACET_BLOCK][FACET_GROUP])
{
    const uint32_t bits = high_bits(pack);
    const int offset = offset_of(pack);
    uint8_t raw[8][64];
    for (uint32_t k = 0; k < 8; k++) {
        const uint8_t *low = planes + 64 * (pack == FACET_PACK_Q8_0 ? k : k % 4);
        const uint8_t *high = planes + 256 + (bits == 2 ? 64 * (k / 4) : 0);
        const uint32_t low_shift = k < 4 ? 0 : 4, high_shift = bits == 2 ? 2 * (k % 4) : k;
        const uint32_t high_mask = bits == 2 ? 3 : 1;
        for (uint32_t i = 0; i < 64; i++)
            raw[k][i] = pack == FACET_PACK_Q8_0 ? low[i] : (uint8_t)((low[i] >> low_shift) & 15u);
        for (uint32_t i = 0; bits && i < 64; i++)
            raw[k][i] = (uint8_t)(raw[k][i] | ((high[i] >> high_shift) & high_mask) << 4);
    }
    // Four columns written out: a loop over them cost gcc 12 half again as much time.
    for (uint32_t k = 0; k < 8; k++) {
        for (uint32_t r = 0; r < FACET_GROUP; r++) {
            const uint8_t *four = &raw[k][4 * r];
            q[4 * k][r] = (int16_t)(four[0] - offset);
            q[4 * k + 1][r] = (int16_t)(four[1] - offset);
            q[4 * k + 2][r] = (int16_t)(four[2] - offset);
            q[4 * k + 3][r] = (int16_t)(four[3] - offset);
        }
    }
}

static void read_legacy(uint32_t pack, const uint8_t *unit, facet_group_block *out)
{
    const uint8_t *scales = unit + planes_bytes(pack);
    const int with_min = pack == FACET_PACK_Q4_1 || pack == FACET_PACK_Q5_1;
    read_planes(pack, unit, out->q);
    for (uint32_t r = 0; r < FACET_GROUP; r++) {
        out->scale[0][r] = out->scale[1][r] = half_at(scales + 2 * r);
        out->min[r] = with_min ? -half_at(scales + 32 + 2 * r) : 0.0f;
    }
}

static void read_k(uint32_t pack, const uint8_t *unit, uint32_t block, facet_group_block *out)
{
    const int six = pack == FACET_PACK_Q6_K;
    const uint8_t *small = unit + (six ? 32 : 64) + (32 + planes_bytes(pack)) * block;
    read_planes(pack, small + 32, out->q);
    for (uint32_t r = 0; r < FACET_GROUP; r++) {
        const float d = half_at(unit + 2 * r);
        if (six) {
            out->scale[0][r] = d * (float)(int8_t)small[r];
            out->scale[1][r] = d * (float)(int8_t)small[16 + r];
            out->min[r] = 0.0f;
        } else {
            out->scale[0][r] = out->scale[1][r] = d * (float)small[r];
            out->min[r] = half_at(unit + 32 + 2 * r) * (float)small[16 + r];
        }
    }
}

void facet_group_read(uint32_t pack, const uint8_t *group, uint32_t block, facet_group_block *out)
{
    const uint32_t blocks = facet_pack_cols(pack) / FACET_BLOCK;
    const uint8_t *unit = group + (uint64_t)(block / blocks) * facet_pack_bytes(pack);
    if (blocks == 1)
        read_legacy(pack, unit, out);
    else
        read_k(pack, unit, block % blocks, out);
}

void facet_group_column(uint32_t pack, const uint8_t *group, uint32_t col, float out[FACET_GROUP])
{
    const uint8_t *unit = group + (uint64_t)col * facet_pack_bytes(pack);
    for (uint32_t r = 0; r < FACET_GROUP; r++) {
        if (pack == FACET_PACK_F32) {
            memcpy(&out[r], unit + 4 * r, 4);
        } else if (pack == FACET_PACK_F16) {
            out[r] = half_at(unit + 2 * r);
        } else {
            const uint32_t bits = (uint32_t)unit[2 * r] << 16 | (uint32_t)unit[2 * r + 1] << 24;
            memcpy(&out[r], &bits, 4);
        }
    }
}

uint64_t facet_group_bytes(uint32_t pack, uint32_t n_cols)
{
    return (uint64_t)n_cols / facet_pack_cols(pack) * facet_pack_bytes(pack);
}

uint64_t facet_tile_bytes(const facet_layer *layer)
{
    return 2 * facet_group_bytes(layer->gate.pack, layer->gate.n_cols) +
           2 * facet_group_bytes(layer->up.pack, layer->up.n_cols);
}

void facet_mat_row(const facet_mat *mat, uint32_t row, float *dst)
{
    const uint64_t bytes = facet_group_bytes(mat->pack, mat->n_cols);
    const uint8_t *group = mat->data + row / FACET_GROUP * bytes;
    const uint32_t r = row % FACET_GROUP;
    if (!facet_pack_quantised(mat->pack)) {
        for (uint32_t c = 0; c < mat->n_cols; c++) {
            float column[FACET_GROUP];
            facet_group_column(mat->pack, group, c, column);
            dst[c] = column[r];
        }
        return;
    }
    for (uint32_t b = 0; b < mat->n_cols / FACET_BLOCK; b++) {
        facet_group_block block;
        facet_group_read(mat->pack, group, b, &block);
        for (uint32_t c = 0; c < FACET_BLOCK; c++) {
            const float product = block.scale[c / 16][r] * (float)block.q[c][r];
            dst[FACET_BLOCK * b + c] = product - block.min[r];
        }
    }
}
