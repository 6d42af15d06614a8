// SPDX-License-Identifier: Apache-2.0
// The safetensors reader and writer: round trip, and damage of every kind.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include <string.h>

#include "base/file.h"
#include "model/safetensors.h"
#include "tests/support/failing.h"

// A file with this header and `n` bytes of data, in a block of exactly its size.
static uint8_t *make(const char *header, size_t n, size_t *bytes)
{
    const size_t length = strlen(header);
    *bytes = 8 + length + n;
    uint8_t *file = calloc(*bytes, 1);
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)((uint64_t)length >> (8 * i));
    memcpy(file + 8, header, length);
    return file;
}

static void test_reads(void **state)
{
    (void)state;
    size_t bytes;
    uint32_t n;
    facet_safetensors *st;
    uint8_t *file = make("{\"b\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
                         "\"__metadata__\":{\"k\":\"v\"},"
                         "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                         "\"c\":{\"dtype\":\"I64\",\"shape\":[0],\"data_offsets\":[16,16]}}  ",
                         16, &bytes);
    assert_int_equal(facet_safetensors_parse(file, bytes, "x", NULL, &st, NULL), FACET_OK);
    const facet_st_tensor *all = facet_safetensors_tensors(st, &n);
    assert_int_equal(n, 3);
    assert_string_equal(all[0].name, "a");
    assert_int_equal(all[0].n_dims, 0);
    assert_int_equal(all[0].bytes, 4);
    const facet_st_tensor *b = facet_safetensors_find(st, "b");
    assert_int_equal(b->type, FACET_ST_F16);
    assert_int_equal(b->dims[0], 2);
    assert_int_equal(b->dims[1], 3);
    assert_int_equal(b->offset, bytes - 12);
    assert_ptr_equal(b->data, file + bytes - 12);
    assert_null(facet_safetensors_find(st, "d"));
    assert_string_equal(facet_safetensors_meta(st, "k"), "v");
    assert_null(facet_safetensors_meta(st, "l"));
    facet_safetensors_free(st);
    free(file);
}

#define TENSOR(name, dtype, shape, offsets)                                                        \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_damaged(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t n;
        facet_status status;
        const char *words;
    } cases[] = {
        {"[1]", 0, FACET_BAD_FILE, "not a JSON object"},
        {"{\"a\":", 0, FACET_BAD_FILE, "not a JSON document"},
        {"{\"a\":1}", 0, FACET_BAD_TENSOR, "lacks dtype"},
        {"{\"\":{}}", 0, FACET_BAD_TENSOR, "unprintable name"},
        {"{\"a\\nb\":{}}", 0, FACET_BAD_TENSOR, "unprintable name"},
        {"{\"__metadata__\":{\"k\":1}}", 0, FACET_BAD_FILE, "something else than strings"},
        {"{" TENSOR("a", "F31", "[1]", "[0,4]") "}", 4, FACET_BAD_TENSOR, "unknown dtype"},
        {"{" TENSOR("a", "F32", "[1.5]", "[0,4]") "}", 4, FACET_BAD_TENSOR, "impossible shape"},
        {"{" TENSOR("a", "F32", "[-1]", "[0,4]") "}", 4, FACET_BAD_TENSOR, "impossible shape"},
        {"{" TENSOR("a", "F32", "[\"1\"]", "[0,4]") "}", 4, FACET_BAD_TENSOR, "impossible shape"},
        {"{" TENSOR("a", "F32", "1", "[0,4]") "}", 4, FACET_BAD_TENSOR, "impossible shape"},
        {"{" TENSOR("a", "F32", "[9007199254740991,9007199254740991]", "[0,4]") "}", 4,
         FACET_BAD_TENSOR, "impossible shape"},
        {"{" TENSOR("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, FACET_BAD_TENSOR,
         "impossible shape"},
        {"{" TENSOR("a", "F32", "[1]", "[0]") "}", 4, FACET_BAD_TENSOR, "data_offsets"},
        {"{" TENSOR("a", "F32", "[1]", "[4,0]") "}", 4, FACET_BAD_TENSOR, "data_offsets"},
        {"{" TENSOR("a", "F32", "[1]", "[0,1e300]") "}", 4, FACET_BAD_TENSOR, "data_offsets"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "}", 3, FACET_BAD_TENSOR, "ends after the file"},
        {"{" TENSOR("a", "F32", "[2]", "[0,4]") "}", 4, FACET_BAD_TENSOR, "other bytes"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "}", 5, FACET_BAD_FILE, "belong to no tensor"},
        {"{" TENSOR("a", "F32", "[1]", "[4,8]") "}", 8, FACET_BAD_TENSOR, "leaves a hole"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("b", "F32", "[1]", "[0,4]") "}", 4,
         FACET_BAD_TENSOR, "overlaps"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("b", "F32", "[1]", "[2,6]") "}", 6,
         FACET_BAD_TENSOR, "overlaps"},
        {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("a", "F32", "[1]", "[4,8]") "}", 8,
         FACET_BAD_TENSOR, "occurs twice"},
    };
    for (size_t i = 0; i < FACET_COUNT_OF(cases); i++) {
        size_t bytes;
        facet_safetensors *st = NULL;
        facet_err err = {0};
        uint8_t *file = make(cases[i].header, cases[i].n, &bytes);
        const facet_status status = facet_safetensors_parse(file, bytes, "x.st", NULL, &st, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].words) ||
            !strstr(err.message, "x.st")) {
            print_error("case %zu: wanted '%s', got %s: %s\n", i, cases[i].words,
                        facet_status_slug(status), err.message);
            fail();
        }
        assert_null(st);
        free(file);
    }
}

static void test_short(void **state)
{
    (void)state;
    size_t bytes;
    facet_safetensors *st;
    uint8_t *file = make("{" TENSOR("a", "F32", "[4]", "[0,16]") "}", 16, &bytes);
    for (size_t n = 0; n < bytes; n++) {
        uint8_t *cut = malloc(n ? n : 1);
        memcpy(cut, file, n);
        assert_int_equal(
            facet_status_exit(facet_safetensors_parse(cut, n, "x.st", NULL, &st, NULL)), 3);
        free(cut);
    }
    memset(file, 0xff, 8); // a header as long as the address space
    assert_int_equal(facet_safetensors_parse(file, bytes, "x.st", NULL, &st, NULL), FACET_BAD_FILE);
    free(file);
}

static void test_memory(void **state)
{
    (void)state;
    size_t bytes;
    facet_status status = FACET_NO_MEMORY;
    uint8_t *file = make("{" TENSOR("a", "F32", "[4]", "[0,16]") ",\"__metadata__\":{\"k\":\"v\"}}",
                         16, &bytes);
    for (long n = 1; status != FACET_OK; n++) {
        facet_failing failing;
        facet_safetensors *st = NULL;
        facet_failing_init(&failing, n);
        status = facet_safetensors_parse(file, bytes, "x", &failing.alloc, &st, NULL);
        assert_true(status == FACET_OK || status == FACET_NO_MEMORY);
        facet_safetensors_free(st);
        assert_int_equal(atomic_load(&failing.alive), 0);
    }
    free(file);
}

static void test_saves(void **state)
{
    (void)state;
    char folder[4096], path[4200];
    const char *temp = getenv("TMPDIR");
    const float a[6] = {1, 2, 3, 4, 5, 6};
    const uint8_t b[3] = {7, 8, 9};
    const facet_st_meta meta[] = {{"k", "a \"quoted\" \\ line\n"}, {"l", ""}};
    const facet_st_tensor tensors[] = {
        {.name = "a", .type = FACET_ST_F32, .n_dims = 2, .dims = {2, 3}, .data = a, .bytes = 24},
        {.name = "b\"", .type = FACET_ST_U8, .n_dims = 1, .dims = {3}, .data = b, .bytes = 3},
    };
    const facet_st_file content = {meta, 2, tensors, 2, NULL};
    facet_map map;
    facet_safetensors *st;
    assert_int_equal(facet_dir_temp(temp ? temp : "/tmp", "facet-st", folder, sizeof folder, NULL),
                     FACET_OK);
    snprintf(path, sizeof path, "%s/x.st", folder);
    assert_int_equal(facet_safetensors_save(&content, path, false, NULL), FACET_OK);
    assert_int_equal(facet_safetensors_save(&content, path, false, NULL), FACET_REFUSED);
    assert_int_equal(facet_safetensors_save(&content, path, true, NULL), FACET_OK);
    assert_int_equal(facet_map_open(path, &map, NULL), FACET_OK);
    assert_int_equal(facet_safetensors_parse(map.data, map.bytes, path, NULL, &st, NULL), FACET_OK);
    assert_string_equal(facet_safetensors_meta(st, "k"), meta[0].value);
    assert_string_equal(facet_safetensors_meta(st, "l"), "");
    const facet_st_tensor *found = facet_safetensors_find(st, "a");
    assert_memory_equal(found->data, a, sizeof a);
    assert_int_equal(found->offset % 8, 0);
    assert_memory_equal(facet_safetensors_find(st, "b\"")->data, b, sizeof b);
    facet_safetensors_free(st);
    facet_map_close(&map);
    assert_int_equal(facet_dir_remove(folder, NULL), FACET_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),  cmocka_unit_test(test_damaged), cmocka_unit_test(test_short),
        cmocka_unit_test(test_memory), cmocka_unit_test(test_saves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
