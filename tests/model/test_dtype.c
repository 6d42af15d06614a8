// SPDX-License-Identifier: Apache-2.0
// Block types: values bit for bit as dequantize.txt has them, which numpy computed; halves; sizes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/dtype.h"

static unsigned hex_digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// One line: NAME, bytes, bits. The bytes are read at an odd address on purpose.
static void check_line(facet_dtype dtype, const char *bytes, const char *bits)
{
    static uint8_t block[1024];
    static float values[1024];
    const size_t n_bytes = strlen(bytes) / 2;
    const size_t n = strlen(bits) / 8;
    uint64_t size;
    assert_true(n_bytes < sizeof block && n <= FACET_COUNT_OF(values));
    assert_true(facet_dtype_size(dtype, n, &size) && size == n_bytes);
    for (size_t i = 0; i < n_bytes; i++)
        block[i + 1] = (uint8_t)(hex_digit(bytes[2 * i]) << 4 | hex_digit(bytes[2 * i + 1]));
    facet_dequantize(dtype, block + 1, n, values);
    for (size_t i = 0; i < n; i++) {
        uint32_t want = 0;
        for (size_t j = 0; j < 8; j++)
            want = want << 4 | hex_digit(bits[8 * i + j]);
        if (bits_of(values[i]) != want)
            fail_msg("%s value %zu: %08x, not %08x", facet_dtype_name(dtype), i, bits_of(values[i]),
                     want);
    }
}

static void test_golden(void **state)
{
    (void)state;
    char path[4096];
    char *text;
    size_t bytes;
    unsigned n_seen = 0;
    const char *source = getenv("FACET_SOURCE");
    if (!source) {
        print_message("FACET_SOURCE is not set\n");
        skip();
        return;
    }
    snprintf(path, sizeof path, "%s/tests/model/dequantize.txt", source);
    assert_int_equal(facet_file_read(path, 1 << 20, NULL, &text, &bytes, NULL), FACET_OK);
    char *at = text;
    for (char *line = strtok_r(text, "\n", &at); line; line = strtok_r(NULL, "\n", &at)) {
        char *rest = line;
        const char *name = strtok_r(line, " ", &rest);
        const char *block = strtok_r(NULL, " ", &rest);
        const char *bits = strtok_r(NULL, " ", &rest);
        for (int dtype = 0; dtype < FACET_DTYPE_COUNT; dtype++) {
            if (strcmp(name, facet_dtype_name((facet_dtype)dtype)) != 0) continue;
            check_line((facet_dtype)dtype, block, bits);
            n_seen++;
        }
    }
    assert_int_equal(n_seen, FACET_DTYPE_COUNT);
    facet_mem_free(NULL, text);
}

static void test_halves(void **state)
{
    (void)state;
    // Every half survives the way to float and back.
    for (uint32_t half = 0; half < 65536; half++) {
        const float value = facet_half_to_float((uint16_t)half);
        if (isnan(value)) {
            assert_true((half & 0x7c00u) == 0x7c00u && (half & 0x3ffu) != 0);
            assert_true(isnan(facet_half_to_float(facet_float_to_half(value))));
        } else {
            assert_int_equal(facet_float_to_half(value), half);
        }
    }
    static const struct {
        float value;
        uint16_t half;
    } cases[] = {
        {1.0f, 0x3c00},
        {-2.0f, 0xc000},
        {65504.0f, 0x7bff},
        {65519.996f, 0x7bff},
        {65520.0f, 0x7c00},
        {-1e30f, 0xfc00},
        {0x1p-24f, 0x0001},
        {0x1p-25f, 0x0000}, // a tie goes to even
        {0x1.000002p-25f, 0x0001},
        {0x1.8p-24f, 0x0002},
        {0x1.002p0f, 0x3c00},
        {0x1.006p0f, 0x3c02},
        {0x1.ff8p-15f, 0x03ff},
        {0x1.ffcp-15f, 0x0400},
        {-0.0f, 0x8000},
        {1e-30f, 0x0000},
    };
    for (size_t i = 0; i < FACET_COUNT_OF(cases); i++)
        assert_int_equal(facet_float_to_half(cases[i].value), cases[i].half);
    assert_true(facet_bf16_to_float(0x3fc0) == 1.5f);
}

static void test_sizes(void **state)
{
    (void)state;
    uint64_t bytes = 5;
    assert_true(facet_dtype_size(FACET_DTYPE_Q6_K, 512, &bytes) && bytes == 420);
    assert_false(facet_dtype_size(FACET_DTYPE_Q6_K, 511, &bytes));
    assert_false(facet_dtype_size(FACET_DTYPE_Q8_0, 16, &bytes));
    assert_false(facet_dtype_size(FACET_DTYPE_F32, UINT64_MAX / 2, &bytes));
    assert_int_equal(bytes, 420);
    assert_string_equal(facet_dtype_name(FACET_DTYPE_BF16), "BF16");
    assert_string_equal(facet_dtype_name(FACET_DTYPE_COUNT), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
