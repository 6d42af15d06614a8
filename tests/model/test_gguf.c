// SPDX-License-Identifier: Apache-2.0
// The GGUF reader: what it reads, and that every kind of damage gives a sentence and a status.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "base/memory.h"
#include "tests/model/gguf_maker.h"
#include "tests/support/failing.h"

// Parses a copy whose end is the end of its block, so that a sanitizer sees every step beyond it.
static facet_status parse(const facet_text *text, size_t bytes, facet_gguf **gguf, facet_err *err)
{
    uint8_t *exact = malloc(bytes ? bytes : 1);
    memcpy(exact, text->data, bytes);
    *err = (facet_err){0};
    *gguf = NULL;
    const facet_status status = facet_gguf_parse(exact, bytes, "x.gguf", NULL, gguf, err);
    if (status != FACET_OK) assert_null(*gguf);
    facet_gguf_free(*gguf);
    free(exact);
    return status;
}

static void expect(const facet_text *text, facet_status status, const char *words)
{
    facet_gguf *gguf;
    facet_err err;
    const facet_status got = parse(text, text->length, &gguf, &err);
    if (got != status || !strstr(err.message, words) || !strstr(err.message, "x.gguf")) {
        print_error("wanted %s with '%s', got %s: %s\n", facet_status_slug(status), words,
                    facet_status_slug(got), err.message);
        fail();
    }
    assert_int_equal(err.code, status);
}

static void put_sample(facet_text *out, uint32_t version)
{
    put_head(out, version, 2, 9);
    put_entry_str(out, "general.architecture", "llama");
    put_entry_u32(out, "a.u32", 7);
    put_entry_f32(out, "a.f32", 2.5f);
    put_str(out, "a.i8");
    put_u32(out, FACET_GGUF_I8);
    put_number(out, 0xfe, 1);
    put_str(out, "a.u64");
    put_u32(out, FACET_GGUF_U64);
    put_u64(out, UINT64_MAX);
    put_str(out, "a.bool");
    put_u32(out, FACET_GGUF_BOOL);
    put_number(out, 1, 1);
    put_str(out, "a.words");
    put_u32(out, FACET_GGUF_ARRAY);
    put_u32(out, FACET_GGUF_STRING);
    put_u64(out, 3);
    put_str(out, "one");
    put_str(out, "");
    put_str(out, "three");
    put_str(out, "a.numbers");
    put_u32(out, FACET_GGUF_ARRAY);
    put_u32(out, FACET_GGUF_I32);
    put_u64(out, 2);
    put_u32(out, 5);
    put_u32(out, (uint32_t)-6);
    put_str(out, "general.alignment");
    put_u32(out, FACET_GGUF_U32);
    put_u32(out, 64);
    put_info(out, "b", (const uint64_t[2]){32, 2}, 2, 64);
    put_info(out, "a", (const uint64_t[2]){3}, 0, 0);
    put_pad(out, 64);
    put_zeros(out, 64);
    put_zeros(out, 36);
}

static void test_reads(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        facet_text text;
        facet_gguf *gguf;
        facet_err err;
        uint32_t n;
        uint64_t u;
        int64_t i;
        double d;
        bool b;
        facet_span span;
        facet_gguf_array array;
        facet_text_init(&text, NULL);
        put_sample(&text, version);
        assert_int_equal(
            facet_gguf_parse((const uint8_t *)text.data, text.length, "x.gguf", NULL, &gguf, &err),
            FACET_OK);
        assert_int_equal(facet_gguf_version(gguf), version);
        const facet_tensor *tensors = facet_gguf_tensors(gguf, &n);
        assert_int_equal(n, 2);
        assert_string_equal(tensors[0].name, "a");
        assert_int_equal(tensors[0].dtype, FACET_DTYPE_F32);
        assert_int_equal(tensors[0].bytes, 12);
        assert_int_equal(tensors[1].dtype, FACET_DTYPE_Q4_0);
        assert_int_equal(tensors[1].bytes, 36);
        assert_int_equal(tensors[1].dims[1], 2);
        assert_int_equal(tensors[1].offset, text.length - 36);
        assert_ptr_equal(tensors[1].data, text.data + text.length - 36);
        assert_true(facet_gguf_find_string(gguf, "general.architecture", &span));
        assert_memory_equal(span.data, "llama", 5);
        assert_true(facet_gguf_find_u64(gguf, "a.u32", &u) && u == 7);
        assert_true(facet_gguf_find_f64(gguf, "a.u32", &d) && d == 7);
        assert_true(facet_gguf_find_f64(gguf, "a.f32", &d) && d == 2.5);
        assert_false(facet_gguf_find_u64(gguf, "a.f32", &u));
        assert_true(facet_gguf_find_i64(gguf, "a.i8", &i) && i == -2);
        assert_false(facet_gguf_find_u64(gguf, "a.i8", &u));
        assert_false(facet_gguf_find_u64(gguf, "a.u64", &u));
        assert_true(facet_gguf_find_bool(gguf, "a.bool", &b) && b);
        assert_false(facet_gguf_find_u64(gguf, "a.bool", &u));
        assert_false(facet_gguf_find_string(gguf, "a.none", &span));
        assert_false(facet_gguf_find_array_of(gguf, "a.words", FACET_GGUF_I32, &array));
        assert_true(facet_gguf_find_array_of(gguf, "a.words", FACET_GGUF_STRING, &array));
        assert_true(facet_gguf_next_string(&array, &span) && span.bytes == 3);
        assert_true(facet_gguf_next_string(&array, &span) && span.bytes == 0);
        assert_true(facet_gguf_next_string(&array, &span) && span.bytes == 5);
        assert_memory_equal(span.data, "three", 5);
        assert_false(facet_gguf_next_string(&array, &span));
        assert_true(facet_gguf_find_array(gguf, "a.numbers", &array));
        assert_int_equal(facet_gguf_array_i64(&array, 1), -6);
        assert_true(facet_gguf_array_f64(&array, 0) == 5);
        assert_int_equal(facet_gguf_array_i64(&array, 2), 0);
        facet_gguf_free(gguf);
        facet_text_fini(&text);
    }
}

static void test_truncated(void **state)
{
    (void)state;
    facet_text text;
    facet_text_init(&text, NULL);
    put_sample(&text, 3);
    for (size_t bytes = 0; bytes < text.length; bytes++) {
        facet_gguf *gguf;
        facet_err err;
        const facet_status status = parse(&text, bytes, &gguf, &err);
        assert_int_equal(facet_status_exit(status), 3);
        assert_non_null(strstr(err.message, "x.gguf"));
    }
    facet_text_fini(&text);
}

// One byte at a time set to several values: any status, but no read outside the bytes.
static void test_flipped(void **state)
{
    (void)state;
    static const char values[] = {0, 1, 0x7f, (char)0x80, (char)0xff, 13};
    facet_text text;
    facet_text_init(&text, NULL);
    put_sample(&text, 3);
    for (size_t at = 0; at < text.length; at++) {
        const char old = text.data[at];
        for (size_t v = 0; v < sizeof values; v++) {
            facet_gguf *gguf;
            facet_err err;
            text.data[at] = values[v];
            parse(&text, text.length, &gguf, &err);
        }
        text.data[at] = old;
    }
    facet_text_fini(&text);
}

typedef void make_fn(facet_text *out);

static void no_magic(facet_text *out)
{
    facet_text_puts(out, "GGML and more");
}
static void old_version(facet_text *out)
{
    put_head(out, 1, 0, 0);
}
static void new_version(facet_text *out)
{
    put_head(out, 4, 0, 0);
}
static void big_endian(facet_text *out)
{
    put_head(out, 3u << 24, 0, 0);
}
static void many_tensors(facet_text *out)
{
    put_head(out, 3, UINT64_MAX, 0);
}
static void many_entries(facet_text *out)
{
    put_head(out, 3, 0, UINT64_MAX / 13);
}

static void long_key(facet_text *out)
{
    put_head(out, 3, 0, 1);
    put_u64(out, UINT64_MAX);
    put_zeros(out, 32);
}

static void empty_key(facet_text *out)
{
    put_head(out, 3, 0, 1);
    put_entry_u32(out, "", 1);
}

static void control_key(facet_text *out)
{
    put_head(out, 3, 0, 1);
    put_entry_u32(out, "a\nb", 1);
}

static void long_string(facet_text *out)
{
    put_head(out, 3, 0, 1);
    put_str(out, "k");
    put_u32(out, FACET_GGUF_STRING);
    put_u64(out, (uint64_t)1 << 62);
    put_zeros(out, 16);
}

static void unknown_value(facet_text *out)
{
    put_head(out, 3, 0, 1);
    put_str(out, "k");
    put_u32(out, 13);
    put_zeros(out, 16);
}

static void long_array(facet_text *out)
{
    put_head(out, 3, 0, 1);
    put_str(out, "k");
    put_u32(out, FACET_GGUF_ARRAY);
    put_u32(out, FACET_GGUF_F64);
    put_u64(out, UINT64_MAX / 8 + 2);
    put_zeros(out, 32);
}

static void long_strings(facet_text *out)
{
    put_head(out, 3, 0, 1);
    put_str(out, "k");
    put_u32(out, FACET_GGUF_ARRAY);
    put_u32(out, FACET_GGUF_STRING);
    put_u64(out, 2);
    put_str(out, "fits");
    put_u64(out, 1000);
    put_zeros(out, 8);
}

static void nested_array(facet_text *out)
{
    put_head(out, 3, 0, 1);
    put_str(out, "k");
    put_u32(out, FACET_GGUF_ARRAY);
    put_u32(out, FACET_GGUF_ARRAY);
    put_u64(out, 1);
    put_zeros(out, 32);
}

static void double_key(facet_text *out)
{
    put_head(out, 3, 0, 2);
    put_entry_u32(out, "k", 1);
    put_entry_u32(out, "k", 2);
}

static void put_aligned(facet_text *out, uint32_t alignment)
{
    put_head(out, 3, 0, 1);
    put_entry_u32(out, "general.alignment", alignment);
}

static void zero_alignment(facet_text *out)
{
    put_aligned(out, 0);
}
static void odd_alignment(facet_text *out)
{
    put_aligned(out, 48);
}
static void huge_alignment(facet_text *out)
{
    put_aligned(out, 1u << 31);
}

// One tensor of this shape, type and offset, with `bytes` of data.
static void put_one(facet_text *out, const uint64_t dims[2], uint32_t type, uint64_t offset,
                    size_t bytes)
{
    put_head(out, 3, 1, 0);
    put_info(out, "weight", dims, type, offset);
    put_pad(out, 32);
    put_zeros(out, bytes);
}

static void tensor_outside(facet_text *out)
{
    put_one(out, (uint64_t[2]){8}, 0, 32, 32);
}
static void tensor_far(facet_text *out)
{
    put_one(out, (uint64_t[2]){8}, 0, UINT64_MAX - 31, 32);
}
static void tensor_long(facet_text *out)
{
    put_one(out, (uint64_t[2]){9}, 0, 0, 32);
}
static void tensor_misaligned(facet_text *out)
{
    put_one(out, (uint64_t[2]){8}, 0, 16, 64);
}
static void tensor_empty(facet_text *out)
{
    put_one(out, (uint64_t[2]){0}, 0, 0, 32);
}
static void tensor_ragged(facet_text *out)
{
    put_one(out, (uint64_t[2]){33, 2}, 2, 0, 99);
}
static void tensor_iq(facet_text *out)
{
    put_one(out, (uint64_t[2]){256}, 16, 0, 99);
}
static void tensor_type(facet_text *out)
{
    put_one(out, (uint64_t[2]){256}, 999, 0, 99);
}

static void tensor_overflow(facet_text *out)
{
    put_one(out, (uint64_t[2]){(uint64_t)1 << 33, (uint64_t)1 << 33}, 0, 0, 99);
}

static void tensor_huge(facet_text *out)
{
    put_one(out, (uint64_t[2]){(uint64_t)1 << 31, (uint64_t)1 << 31}, 0, 0, 99);
}

static void put_dims(facet_text *out, uint32_t n_dims)
{
    put_head(out, 3, 1, 0);
    put_str(out, "weight");
    put_u32(out, n_dims);
    put_zeros(out, 64);
}

static void no_dims(facet_text *out)
{
    put_dims(out, 0);
}
static void five_dims(facet_text *out)
{
    put_dims(out, 5);
}

static void long_name(facet_text *out)
{
    put_head(out, 3, 1, 0);
    put_u64(out, 300);
    for (int i = 0; i < 400; i++)
        facet_text_puts(out, "n");
}

static void put_two(facet_text *out, const char *second, uint64_t offset)
{
    put_head(out, 3, 2, 0);
    put_info(out, "weight", (uint64_t[2]){16}, 0, 0);
    put_info(out, second, (uint64_t[2]){16}, 0, offset);
    put_pad(out, 32);
    put_zeros(out, 128);
}

static void tensor_twice(facet_text *out)
{
    put_two(out, "weight", 64);
}
static void tensor_overlap(facet_text *out)
{
    put_two(out, "other", 32);
}
static void tensor_same(facet_text *out)
{
    put_two(out, "other", 0);
}

static void test_damaged(void **state)
{
    (void)state;
    static const struct {
        make_fn *make;
        facet_status status;
        const char *words;
    } cases[] = {
        {no_magic, FACET_BAD_FILE, "not a GGUF file"},
        {old_version, FACET_UNSUPPORTED, "version 1"},
        {new_version, FACET_UNSUPPORTED, "version 4"},
        {big_endian, FACET_UNSUPPORTED, "big-endian"},
        {many_tensors, FACET_BAD_FILE, "more than the file holds"},
        {many_entries, FACET_BAD_FILE, "more than the file holds"},
        {long_key, FACET_BAD_FILE, "a metadata key"},
        {empty_key, FACET_BAD_FILE, "a metadata key"},
        {control_key, FACET_BAD_FILE, "control bytes"},
        {long_string, FACET_BAD_FILE, "a metadata string"},
        {unknown_value, FACET_BAD_FILE, "unknown type 13"},
        {long_array, FACET_BAD_FILE, "claims"},
        {long_strings, FACET_BAD_FILE, "an array of strings"},
        {nested_array, FACET_UNSUPPORTED, "array of arrays"},
        {double_key, FACET_BAD_FILE, "occurs twice"},
        {zero_alignment, FACET_BAD_FILE, "general.alignment"},
        {odd_alignment, FACET_BAD_FILE, "general.alignment"},
        {huge_alignment, FACET_BAD_FILE, "general.alignment"},
        {tensor_outside, FACET_BAD_TENSOR, "truncated"},
        {tensor_far, FACET_BAD_TENSOR, "truncated"},
        {tensor_long, FACET_BAD_TENSOR, "truncated"},
        {tensor_misaligned, FACET_BAD_TENSOR, "not a multiple of 32"},
        {tensor_empty, FACET_BAD_TENSOR, "impossible dimensions"},
        {tensor_ragged, FACET_BAD_TENSOR, "rows of 33"},
        {tensor_iq, FACET_UNSUPPORTED, "tensor weight has type IQ2_XXS"},
        {tensor_type, FACET_BAD_TENSOR, "unknown type 999"},
        {tensor_overflow, FACET_BAD_TENSOR, "impossible dimensions"},
        {tensor_huge, FACET_BAD_TENSOR, "impossible dimensions"},
        {no_dims, FACET_BAD_TENSOR, "impossible dimensions"},
        {five_dims, FACET_BAD_TENSOR, "impossible dimensions"},
        {long_name, FACET_BAD_FILE, "a tensor name"},
        {tensor_twice, FACET_BAD_TENSOR, "occurs twice"},
        {tensor_overlap, FACET_BAD_TENSOR, "overlap"},
        {tensor_same, FACET_BAD_TENSOR, "overlap"},
    };
    for (size_t i = 0; i < FACET_COUNT_OF(cases); i++) {
        facet_text text;
        facet_text_init(&text, NULL);
        cases[i].make(&text);
        expect(&text, cases[i].status, cases[i].words);
        facet_text_fini(&text);
    }
}

static void test_memory(void **state)
{
    (void)state;
    facet_text text;
    facet_text_init(&text, NULL);
    put_sample(&text, 3);
    facet_status status = FACET_NO_MEMORY;
    for (long n = 1; status != FACET_OK; n++) {
        facet_failing failing;
        facet_gguf *gguf = NULL;
        facet_err err;
        facet_failing_init(&failing, n);
        status = facet_gguf_parse((const uint8_t *)text.data, text.length, "x.gguf", &failing.alloc,
                                  &gguf, &err);
        assert_true(status == FACET_OK || status == FACET_NO_MEMORY);
        facet_gguf_free(gguf);
        assert_int_equal(atomic_load(&failing.alive), 0);
    }
    facet_text_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),   cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_flipped), cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
