// SPDX-License-Identifier: Apache-2.0
// Text, numbers, bits, hashes, random numbers, JSON access.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/text.h"

static void text_grows_and_is_taken(void **state)
{
    (void)state;
    facet_text text;
    facet_text_init(&text, NULL);
    assert_string_equal(facet_text_str(&text), "");
    for (int i = 0; i < 1000; i++)
        facet_text_add(&text, "%d,", i);
    facet_text_add_number(&text, 0.1);
    assert_int_equal(facet_text_status(&text, NULL), FACET_OK);
    assert_memory_equal(text.data, "0,1,2,3,", 8);
    assert_memory_equal(text.data + text.length - 3, "0.1", 3);
    char *taken = facet_text_take(&text);
    assert_non_null(taken);
    assert_null(text.data);
    facet_mem_free(NULL, taken);
}

static void numbers_are_strict(void **state)
{
    (void)state;
    uint64_t u;
    double d;
    assert_true(facet_parse_u64("18446744073709551615", &u));
    assert_true(u == UINT64_MAX);
    assert_false(facet_parse_u64("18446744073709551616", &u));
    static const char *const bad[] = {"", "-1", "1 ", "0x1", "1.5", "+1"};
    for (size_t i = 0; i < FACET_COUNT_OF(bad); i++)
        assert_false(facet_parse_u64(bad[i], &u));
    assert_true(facet_parse_double("0.1", &d) && d == 0.1);
    assert_true(facet_parse_double("-2.5e-3", &d) && d == -0.0025);
    assert_true(facet_parse_double(".5", &d) && d == 0.5);
    static const char *const wrong[] = {"", ".", "1e", "nan", "inf", "1,5", "1e999", "2x", "--1"};
    for (size_t i = 0; i < FACET_COUNT_OF(wrong); i++)
        assert_false(facet_parse_double(wrong[i], &d));
}

static void bits_count_only_the_first_n(void **state)
{
    (void)state;
    uint8_t bits[3] = {0xff, 0xff, 0xff};
    for (size_t n = 0; n <= 24; n++)
        assert_int_equal(facet_bits_count(bits, n), n);
    facet_bits_clear(bits, 9);
    assert_false(facet_bits_get(bits, 9));
    assert_int_equal(facet_bits_count(bits, 24), 23);
    facet_bits_set(bits, 9);
    const uint8_t other[3] = {0x0f, 0, 0x80};
    assert_int_equal(facet_bits_common(bits, other, 24), 5);
    assert_int_equal(facet_bits_common(bits, other, 23), 4);
}

static void streamed_hash_equals_whole(void **state)
{
    (void)state;
    char data[1000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 7);
    const facet_digest whole = facet_hash(data, sizeof data);
    facet_hasher *hasher = facet_hasher_new(NULL);
    assert_non_null(hasher);
    for (size_t i = 0; i < sizeof data; i += 100)
        facet_hasher_add(hasher, data + i, 100);
    const facet_digest streamed = facet_hasher_end(hasher);
    assert_string_equal(whole.hex, streamed.hex);
    assert_true(facet_digest_valid(whole.hex));
    // The published value of XXH3-128 of nothing, seed 0.
    assert_string_equal(facet_hash("", 0).hex, "99aa06d3014798d86001c324468d497f");
}

static void random_is_the_same_everywhere(void **state)
{
    (void)state;
    facet_random random = facet_random_seed(0);
    assert_true(facet_random_u64(&random) == 0xe220a8397b1dcdafu);
    double sum = 0, squares = 0;
    for (int i = 0; i < 10000; i++) {
        const double x = facet_random_normal(&random);
        sum += x;
        squares += x * x;
    }
    assert_true(sum / 10000 > -0.05 && sum / 10000 < 0.05);
    assert_true(squares / 10000 > 0.95 && squares / 10000 < 1.05);
    for (int i = 0; i < 1000; i++)
        assert_true(facet_random_below(&random, 7) < 7);
}

static void json_says_what_is_wrong(void **state)
{
    (void)state;
    cJSON *document = NULL;
    facet_err err;
    const char *text = "{\"n\": 3, \"s\": \"x\", \"f\": 1.5, \"neg\": -1}";
    assert_int_equal(facet_json_parse(text, strlen(text), "a.json", &document, &err), FACET_OK);
    uint64_t n = 0;
    assert_int_equal(facet_json_u64(document, "n", "a.json", 10, &n, &err), FACET_OK);
    assert_int_equal(n, 3);
    assert_int_equal(facet_json_u64(document, "n", "a.json", 2, &n, &err), FACET_BAD_FILE);
    assert_int_equal(facet_json_u64(document, "f", "a.json", 10, &n, &err), FACET_BAD_FILE);
    assert_int_equal(facet_json_u64(document, "neg", "a.json", 10, &n, &err), FACET_BAD_FILE);
    const char *s;
    assert_int_equal(facet_json_string(document, "gone", "a.json", &s, &err), FACET_BAD_FILE);
    assert_non_null(strstr(err.message, "gone"));
    cJSON_Delete(document);
    static const char *const bad[] = {"", "{", "{}x", "[1,]", "{\"a\":1"};
    for (size_t i = 0; i < FACET_COUNT_OF(bad); i++)
        assert_int_equal(facet_json_parse(bad[i], strlen(bad[i]), "a.json", &document, &err),
                         FACET_BAD_FILE);
    assert_int_equal(facet_json_parse("{}\0{}", 5, "a.json", &document, &err), FACET_BAD_FILE);
}

static void sizes_do_not_overflow(void **state)
{
    (void)state;
    size_t out = 7;
    assert_false(facet_mul_size(SIZE_MAX, 2, &out));
    assert_int_equal(out, 7);
    assert_true(facet_mul_size(0, SIZE_MAX, &out));
    assert_false(facet_add_size(SIZE_MAX, 1, &out));
    assert_null(facet_mem_new(NULL, SIZE_MAX / 2, 3));
    facet_arena arena;
    facet_arena_init(&arena, NULL);
    for (size_t i = 1; i < 200; i++) {
        unsigned char *p = facet_arena_new(&arena, i, 1000);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
        assert_int_equal(p[i * 1000 - 1], 0);
        memset(p, 0xff, i * 1000);
    }
    assert_null(facet_arena_new(&arena, SIZE_MAX, 1));
    facet_arena_fini(&arena);
    void *aligned = facet_mem_new_aligned(NULL, 3, 5);
    assert_int_equal((uintptr_t)aligned % 64, 0);
    facet_mem_free_aligned(NULL, aligned);
}

static void errors_may_quote_themselves(void **state)
{
    (void)state;
    facet_err err;
    assert_int_equal(facet_fail(&err, FACET_BAD_TENSOR, "inner"), FACET_BAD_TENSOR);
    facet_fail_at(&err, FACET_CHECK, "f", 3, "outer: %s", err.message);
    assert_string_equal(err.message, "outer: inner");
    assert_int_equal(facet_status_exit(FACET_CHECK), 4);
    assert_string_equal(facet_status_slug(FACET_BAD_TENSOR), "bad-tensor");
    assert_int_equal(facet_fail(NULL, FACET_IO, "nobody listens"), FACET_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_grows_and_is_taken),
        cmocka_unit_test(numbers_are_strict),
        cmocka_unit_test(bits_count_only_the_first_n),
        cmocka_unit_test(streamed_hash_equals_whole),
        cmocka_unit_test(random_is_the_same_everywhere),
        cmocka_unit_test(json_says_what_is_wrong),
        cmocka_unit_test(sizes_do_not_overflow),
        cmocka_unit_test(errors_may_quote_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
