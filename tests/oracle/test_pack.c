// SPDX-License-Identifier: Apache-2.0
// Packing keeps values: random source blocks of every type, packed by compiler/, read back by
// kernels/, equal what model/ dequantises bit for bit; ragged last groups, unaligned rows, zero
// rows.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "compiler/pack.h"
#include "kernels/reference.h"
#include "model/dtype.h"

enum { ROWS = 37, COLS = 512, GROUPS = (ROWS + 15) / 16 };

// Finite halves only: the bits of a NaN may differ from one machine to the next.
static void random_half(facet_random *random, uint8_t *out)
{
    const uint16_t half = (uint16_t)(facet_random_u64(random) & 0xbbffu);
    memcpy(out, &half, 2);
}

// Random bytes with the halves of every block made finite.
static void random_row(facet_random *random, facet_dtype dtype, uint8_t *row)
{
    const uint32_t block = facet_dtype_bytes(dtype);
    const uint32_t n = COLS / facet_dtype_block(dtype);
    for (uint32_t b = 0; b < n; b++) {
        uint8_t *bytes = row + (size_t)b * block;
        for (uint32_t i = 0; i < block; i++)
            bytes[i] = (uint8_t)facet_random_u64(random);
        switch (dtype) {
        case FACET_DTYPE_F32:
            bytes[3] &= 0xbfu;
            break;
        case FACET_DTYPE_BF16:
            bytes[1] &= 0xbfu;
            break;
        case FACET_DTYPE_Q6_K:
            random_half(random, bytes + 208);
            break;
        case FACET_DTYPE_Q4_1:
        case FACET_DTYPE_Q5_1:
        case FACET_DTYPE_Q4_K:
        case FACET_DTYPE_Q5_K:
            random_half(random, bytes + 2); // falls through
        default:
            random_half(random, bytes);
            break;
        }
    }
}

static void check_dtype(facet_dtype dtype)
{
    facet_random random = facet_random_seed(dtype + 1);
    const facet_pack pack = facet_pack_of(dtype);
    assert_string_equal(facet_pack_name(pack), facet_dtype_name(dtype));
    const size_t row_bytes = COLS / facet_dtype_block(dtype) * facet_dtype_bytes(dtype);
    uint64_t packed_bytes = 0;
    assert_true(facet_pack_size(pack, ROWS, COLS, &packed_bytes));
    assert_int_equal(packed_bytes, GROUPS * facet_group_bytes(pack, COLS));
    // One byte in front leaves every row unaligned.
    uint8_t *source = malloc(1 + ROWS * row_bytes), *packed = malloc(packed_bytes);
    assert_non_null(source);
    assert_non_null(packed);
    for (uint32_t r = 0; r < ROWS; r++)
        random_row(&random, dtype, source + 1 + r * row_bytes);
    for (uint32_t g = 0; g < GROUPS; g++) {
        const void *rows[16] = {NULL};
        for (uint32_t r = 0; r < 16 && 16 * g + r < ROWS; r++)
            rows[r] = source + 1 + (16 * g + r) * row_bytes;
        facet_pack_group(pack, rows, COLS, packed + g * facet_group_bytes(pack, COLS));
    }
    const facet_mat mat = {packed, pack, ROWS, COLS};
    float got[COLS], want[COLS];
    for (uint32_t r = 0; r < 16 * GROUPS; r++) {
        facet_mat_row(&mat, r, got);
        if (r < ROWS) {
            facet_dequantize(dtype, source + 1 + r * row_bytes, COLS, want);
            assert_memory_equal(got, want, sizeof got);
        } else {
            for (uint32_t c = 0; c < COLS; c++)
                assert_true(got[c] == 0.0f);
        }
    }
    free(packed);
    free(source);
}

static void test_every_dtype(void **state)
{
    (void)state;
    for (uint32_t dtype = 0; dtype < FACET_DTYPE_COUNT; dtype++)
        check_dtype((facet_dtype)dtype);
}

// Q6_0 is ours: compared with its definition.
static void test_q6_0(void **state)
{
    (void)state;
    facet_random random = facet_random_seed(6);
    facet_q6_0 blocks[16][2];
    const void *rows[16];
    for (uint32_t r = 0; r < 16; r++) {
        rows[r] = blocks[r];
        for (uint32_t b = 0; b < 2; b++) {
            random_half(&random, (uint8_t *)&blocks[r][b].d);
            for (uint32_t c = 0; c < 32; c++)
                blocks[r][b].q[c] = (uint8_t)facet_random_below(&random, 64);
        }
    }
    uint8_t packed[2 * 416];
    facet_pack_group(FACET_PACK_Q6_0, rows, 64, packed);
    const facet_mat mat = {packed, FACET_PACK_Q6_0, 16, 64};
    for (uint32_t r = 0; r < 16; r++) {
        float got[64];
        facet_mat_row(&mat, r, got);
        for (uint32_t c = 0; c < 64; c++) {
            const facet_q6_0 *block = &blocks[r][c / 32];
            const float want = facet_half_to_float(block->d) * (float)(block->q[c % 32] - 32);
            assert_memory_equal(&got[c], &want, 4);
        }
    }
}

static void test_names_and_sizes(void **state)
{
    (void)state;
    facet_pack pack;
    for (uint32_t i = 0; i < FACET_PACK_COUNT; i++) {
        assert_true(facet_pack_find(facet_pack_name((facet_pack)i), &pack));
        assert_int_equal(pack, i);
    }
    assert_false(facet_pack_find("Q2_K", &pack));
    uint64_t bytes = 0;
    assert_true(facet_pack_size(FACET_PACK_Q4_K, 17, 257, &bytes));
    assert_int_equal(bytes, 2 * 2 * 2368);
    assert_false(facet_pack_size(FACET_PACK_F32, UINT64_MAX, UINT64_MAX, &bytes));
}

// All 65536 halves survive the way to float and back, and agree with model/.
static void test_halves(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        const float value = facet_f16_to_f32((uint16_t)i);
        if ((i & 0x7fffu) > 0x7c00u) continue;
        const float other = facet_half_to_float((uint16_t)i);
        assert_memory_equal(&value, &other, 4);
        assert_int_equal(facet_f32_to_f16(value), i);
    }
    facet_random random = facet_random_seed(16);
    for (uint32_t i = 0; i < 200000; i++) {
        const uint32_t bits = (uint32_t)facet_random_u64(&random);
        float value;
        memcpy(&value, &bits, 4);
        if (value != value) continue;
        assert_int_equal(facet_f32_to_f16(value), facet_float_to_half(value));
        const float small = value > 0 ? 1.0f / (1.0f + value) : -6e-5f * (float)(i % 97) / 97.0f;
        assert_int_equal(facet_f32_to_f16(small), facet_float_to_half(small));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_dtype), cmocka_unit_test(test_q6_0),
        cmocka_unit_test(test_names_and_sizes), cmocka_unit_test(test_halves)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
