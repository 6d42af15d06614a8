// SPDX-License-Identifier: Apache-2.0
// Packing: from the source's blocks of one row to groups of 16 rows, as kernels/abi.h numbers it.
//
//     16 rows of source blocks -> 32 unsigned quants of each row -> planes of the group
//                              -> scales and minima, copied bit by bit
//
// Source blocks are read byte by byte: rows of a mapped file need not be aligned.
#include "compiler/pack.h"

#include <stddef.h>
#include <string.h>

#include "base/memory.h"

// Source blocks and which planes their quants need.
typedef struct pack_facts {
    const char *name;
    uint32_t source_bytes; // of a block of facet_pack_cols columns
    uint32_t high_bytes;   // of the Q5 or Q6 high plane of 32 columns
    bool low;              // has the 4-bit plane (else the Q8 plane, or a float type)
} pack_facts;

static const pack_facts facts[FACET_PACK_COUNT] = {
    [FACET_PACK_F32] = {"F32", 4, 0, false},     [FACET_PACK_F16] = {"F16", 2, 0, false},
    [FACET_PACK_BF16] = {"BF16", 2, 0, false},   [FACET_PACK_Q4_0] = {"Q4_0", 18, 0, true},
    [FACET_PACK_Q4_1] = {"Q4_1", 20, 0, true},   [FACET_PACK_Q5_0] = {"Q5_0", 22, 64, true},
    [FACET_PACK_Q5_1] = {"Q5_1", 24, 64, true},  [FACET_PACK_Q6_0] = {"Q6_0", 34, 128, true},
    [FACET_PACK_Q8_0] = {"Q8_0", 34, 0, false},  [FACET_PACK_Q4_K] = {"Q4_K", 144, 0, true},
    [FACET_PACK_Q5_K] = {"Q5_K", 176, 64, true}, [FACET_PACK_Q6_K] = {"Q6_K", 210, 128, true},
};

// Q4_0 .. Q5_1: 16 bytes of nibbles at `low`, column j in the low half of byte j and column 16 + j
// in the high half; bit c of the four bytes at `high` (or NULL) is bit 4 of column c.
static void read_legacy(const uint8_t *low, const uint8_t *high, uint8_t q[32])
{
    for (uint32_t c = 0; c < 32; c++) {
        uint32_t value = c < 16 ? low[c] & 15u : (uint32_t)low[c - 16] >> 4;
        if (high) value |= (((uint32_t)high[c / 8] >> (c % 8)) & 1u) << 4;
        q[c] = (uint8_t)value;
    }
}

// Q4_K, Q5_K: blocks 2 i and 2 i + 1 share 32 bytes of nibbles; bit `block` of the 32 bytes at
// `high` (or NULL) is bit 4.
static void read_k45(const uint8_t *low, const uint8_t *high, uint32_t block, uint8_t q[32])
{
    const uint8_t *nibbles = low + 32 * (block / 2);
    for (uint32_t c = 0; c < 32; c++) {
        uint32_t value = block % 2 ? (uint32_t)nibbles[c] >> 4 : nibbles[c] & 15u;
        if (high) value |= (((uint32_t)high[c] >> block) & 1u) << 4;
        q[c] = (uint8_t)value;
    }
}

// Q6_K: each half of 128 columns has 64 bytes of nibbles (blocks 0, 1 low halves, 2, 3 high halves)
// and 32 bytes of high bits, two for each of its four blocks.
static void read_k6(const uint8_t *unit, uint32_t block, uint8_t q[32])
{
    const uint32_t quarter = block % 4;
    const uint8_t *low = unit + 64 * (block / 4) + 32 * (quarter % 2);
    const uint8_t *high = unit + 128 + 32 * (block / 4);
    for (uint32_t c = 0; c < 32; c++) {
        const uint32_t nibble = quarter < 2 ? low[c] & 15u : (uint32_t)low[c] >> 4;
        q[c] = (uint8_t)(nibble | ((((uint32_t)high[c] >> (2 * quarter)) & 3u) << 4));
    }
}

// The 32 unsigned quants of block `block` of a source unit.
static void read_quants(facet_pack pack, const uint8_t *unit, uint32_t block, uint8_t q[32])
{
    switch (pack) {
    case FACET_PACK_Q4_0:
        read_legacy(unit + 2, NULL, q);
        break;
    case FACET_PACK_Q4_1:
        read_legacy(unit + 4, NULL, q);
        break;
    case FACET_PACK_Q5_0:
        read_legacy(unit + 6, unit + 2, q);
        break;
    case FACET_PACK_Q5_1:
        read_legacy(unit + 8, unit + 4, q);
        break;
    case FACET_PACK_Q6_0:
        memcpy(q, unit + offsetof(facet_q6_0, q), 32);
        break;
    case FACET_PACK_Q8_0:
        // Adding 128 modulo 256 turns the top bit over.
        for (uint32_t c = 0; c < 32; c++)
            q[c] = (uint8_t)(unit[2 + c] ^ 0x80u);
        break;
    case FACET_PACK_Q4_K:
        read_k45(unit + 16, NULL, block, q);
        break;
    case FACET_PACK_Q5_K:
        read_k45(unit + 48, unit + 16, block, q);
        break;
    case FACET_PACK_Q6_K:
        read_k6(unit, block, q);
        break;
    default:
        break;
    }
}

// Items 3 to 6: row r's quants into the (zeroed) planes at `out`.
static void put_quants(const pack_facts *fact, uint32_t r, const uint8_t q[32], uint8_t *out)
{
    uint8_t *high = out + 256;
    for (uint32_t c = 0; c < 32; c++) {
        const uint32_t k = c / 4, lane = 4 * r + c % 4;
        if (!fact->low) {
            out[64 * k + lane] = q[c];
            continue;
        }
        uint8_t *low = out + 64 * (k % 4) + lane;
        *low = (uint8_t)(*low | ((q[c] & 15u) << (k < 4 ? 0 : 4)));
        if (fact->high_bytes == 64)
            high[lane] = (uint8_t)(high[lane] | ((((uint32_t)q[c] >> 4) & 1u) << k));
        if (fact->high_bytes == 128) {
            uint8_t *two = high + 64 * (k / 4) + lane;
            *two = (uint8_t)(*two | ((((uint32_t)q[c] >> 4) & 3u) << (2 * (k % 4))));
        }
    }
}

static uint32_t planes_bytes(const pack_facts *fact)
{
    return fact->low ? 256 + fact->high_bytes : 512;
}

// Items 7 and 8: planes, d and, for Q4_1 and Q5_1, m.
static void put_legacy(facet_pack pack, uint32_t r, const uint8_t *unit, uint8_t *out)
{
    uint8_t q[32];
    read_quants(pack, unit, 0, q);
    put_quants(&facts[pack], r, q, out);
    uint8_t *scales = out + planes_bytes(&facts[pack]);
    memcpy(scales + 2 * r, unit, 2);
    if (pack == FACET_PACK_Q4_1 || pack == FACET_PACK_Q5_1)
        memcpy(scales + 32 + 2 * r, unit + 2, 2);
}

// The 6-bit scale and minimum of block `b` from the 12 bytes of a Q4_K or Q5_K block.
static void read_scale_min(const uint8_t *bytes, uint32_t b, uint8_t *scale, uint8_t *min)
{
    if (b < 4) {
        *scale = bytes[b] & 63u;
        *min = bytes[b + 4] & 63u;
    } else {
        *scale = (uint8_t)((bytes[b + 4] & 15u) | (((uint32_t)bytes[b - 4] >> 6) << 4));
        *min = (uint8_t)(((uint32_t)bytes[b + 4] >> 4) | (((uint32_t)bytes[b] >> 6) << 4));
    }
}

// Items 9 and 10: the header of halves, then for each block scales (minima) and planes.
static void put_k(facet_pack pack, uint32_t r, const uint8_t *unit, uint8_t *out)
{
    const bool six = pack == FACET_PACK_Q6_K;
    const uint32_t header = six ? 32 : 64;
    const uint32_t block_bytes = 32 + planes_bytes(&facts[pack]);
    if (six) {
        memcpy(out + 2 * r, unit + 208, 2);
    } else {
        memcpy(out + 2 * r, unit, 2);
        memcpy(out + 32 + 2 * r, unit + 2, 2);
    }
    for (uint32_t b = 0; b < 8; b++) {
        uint8_t *block = out + header + b * block_bytes;
        if (six) {
            block[r] = unit[192 + 2 * b];
            block[16 + r] = unit[192 + 2 * b + 1];
        } else {
            read_scale_min(unit + 4, b, &block[r], &block[16 + r]);
        }
        uint8_t q[32];
        read_quants(pack, unit, b, q);
        put_quants(&facts[pack], r, q, block + 32);
    }
}

void facet_pack_group(facet_pack pack, const void *const rows[16], uint32_t n_cols, uint8_t *out)
{
    const uint32_t cols = facet_pack_cols(pack), bytes = facet_pack_bytes(pack);
    const uint32_t source_bytes = facts[pack].source_bytes;
    for (uint32_t u = 0; u < n_cols / cols; u++) {
        uint8_t *unit = out + (size_t)u * bytes;
        memset(unit, 0, bytes);
        for (uint32_t r = 0; r < FACET_GROUP; r++) {
            if (!rows[r]) continue;
            const uint8_t *source = (const uint8_t *)rows[r] + (size_t)u * source_bytes;
            if (cols == 1)
                memcpy(unit + r * source_bytes, source, source_bytes);
            else if (cols == 32)
                put_legacy(pack, r, source, unit);
            else
                put_k(pack, r, source, unit);
        }
    }
}

facet_pack facet_pack_of(facet_dtype dtype)
{
    static const facet_pack packs[FACET_DTYPE_COUNT] = {
        [FACET_DTYPE_F32] = FACET_PACK_F32,   [FACET_DTYPE_F16] = FACET_PACK_F16,
        [FACET_DTYPE_BF16] = FACET_PACK_BF16, [FACET_DTYPE_Q4_0] = FACET_PACK_Q4_0,
        [FACET_DTYPE_Q4_1] = FACET_PACK_Q4_1, [FACET_DTYPE_Q5_0] = FACET_PACK_Q5_0,
        [FACET_DTYPE_Q5_1] = FACET_PACK_Q5_1, [FACET_DTYPE_Q8_0] = FACET_PACK_Q8_0,
        [FACET_DTYPE_Q4_K] = FACET_PACK_Q4_K, [FACET_DTYPE_Q5_K] = FACET_PACK_Q5_K,
        [FACET_DTYPE_Q6_K] = FACET_PACK_Q6_K,
    };
    return packs[dtype];
}

const char *facet_pack_name(facet_pack pack)
{
    return facts[pack].name;
}

bool facet_pack_find(const char *name, facet_pack *pack)
{
    for (uint32_t i = 0; i < FACET_PACK_COUNT; i++) {
        if (strcmp(facts[i].name, name) == 0) {
            *pack = (facet_pack)i;
            return true;
        }
    }
    return false;
}

bool facet_pack_size(facet_pack pack, uint64_t n_rows, uint64_t n_cols, uint64_t *bytes)
{
    const uint32_t cols = facet_pack_cols(pack);
    const uint64_t groups = n_rows / FACET_GROUP + (n_rows % FACET_GROUP != 0);
    const uint64_t units = n_cols / cols + (n_cols % cols != 0);
    size_t size = 0;
    if (groups > SIZE_MAX || units > SIZE_MAX) return false;
    if (!facet_mul_size((size_t)groups, (size_t)units, &size)) return false;
    if (!facet_mul_size(size, facet_pack_bytes(pack), &size)) return false;
    *bytes = size;
    return true;
}
