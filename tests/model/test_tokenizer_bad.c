// SPDX-License-Identifier: Apache-2.0
// Tokenizer files that are damaged or not ours to read, and tokenizer.bin: what is saved loads as
// the same tokenizer, everything else is refused or harmless.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "tests/model/tokenizer_maker.h"

static facet_tokenizer *open_json(const maker_json *j, const char *config)
{
    facet_tokenizer *t = NULL;
    facet_err err = {0};
    if (maker_open_json(j, config, NULL, &t, &err) != FACET_OK) fail_msg("%s", err.message);
    return t;
}

static facet_tokenizer *open_spm(int prefix)
{
    facet_text text;
    facet_text_init(&text, NULL);
    put_spm_gguf(&text, prefix, NULL);
    facet_tokenizer *t = NULL;
    facet_err err = {0};
    if (maker_open_gguf(&text, NULL, &t, &err) != FACET_OK) fail_msg("%s", err.message);
    return t;
}

enum { BOS = 1, SPECIAL = 2 };

static facet_tokens encode(const facet_tokenizer *t, const char *text, size_t bytes, int flags)
{
    facet_tokens tokens = {0};
    assert_int_equal(
        facet_tokenizer_encode(t, text, bytes, flags & BOS, flags & SPECIAL, NULL, &tokens, NULL),
        FACET_OK);
    return tokens;
}

// ---- refusals ---------------------------------------------------------------------------------

static const struct {
    maker_json json;
    facet_status status;
    const char *says;
} refusals[] = {
    {{.pre = "{\"type\":\"Whitespace\"}"}, FACET_UNSUPPORTED, "Whitespace"},
    {{.pre = MAKER_SPLIT("[a-z]+")}, FACET_UNSUPPORTED, "[a-z]+"},
    {{.pre = "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}"},
     FACET_UNSUPPORTED,
     "add_prefix_space"},
    {{.pre = "null"}, FACET_UNSUPPORTED, "none"},
    {{.fields = "\"normalizer\":{\"type\":\"Lowercase\"},"}, FACET_UNSUPPORTED, "Lowercase"},
    {{.vocab = ",\"zz\":5000"}, FACET_MISMATCH, "5000"},
    {{.vocab = ",\"zz\":5"}, FACET_BAD_FILE, "same id"},
    {{.vocab = ",\"zz\":-1"}, FACET_BAD_FILE, "2^24"},
    {{.vocab = ",\"zz\":1.5"}, FACET_BAD_FILE, "2^24"},
    {{.vocab = ",\"zz\":\"a\""}, FACET_BAD_FILE, "2^24"},
    {{.vocab = ",\"hello\":290"}, FACET_BAD_FILE, "same text"},
    {{.merge = ",\"x y\""}, FACET_BAD_FILE, "merge 12"},
    {{.merge = ",\"xy\""}, FACET_BAD_FILE, "space"},
    {{.merge = ",7"}, FACET_BAD_FILE, "pair"},
    {{.merge = ",[\"a\"]"}, FACET_BAD_FILE, "pair"},
    {{.added = ",{\"id\":9}"}, FACET_BAD_FILE, "content"},
    {{.added = ",{\"content\":\"x\"}"}, FACET_BAD_FILE, "2^24"},
    {{.added = ",{\"id\":65,\"content\":\"x\"}"}, FACET_BAD_FILE, "another token"},
    {{.added = ",{\"id\":310,\"content\":\"<s>\",\"special\":true}"}, FACET_BAD_FILE, "same text"},
    {{.merge = "]"}, FACET_BAD_FILE, "JSON"},
};

static void test_bad_json(void **state)
{
    (void)state;
    for (size_t i = 0; i < FACET_COUNT_OF(refusals); i++) {
        facet_tokenizer *t = NULL;
        facet_err err = {0};
        const facet_status status = maker_open_json(&refusals[i].json, NULL, NULL, &t, &err);
        if (status != refusals[i].status || !strstr(err.message, refusals[i].says))
            fail_msg("case %zu: status %d, \"%s\"", i, status, err.message);
        assert_null(t);
        assert_non_null(strstr(err.message, "tokenizer.json"));
    }
    // An added token past the embeddings is left out.
    facet_tokenizer *t =
        open_json(&(maker_json){.added = ",{\"id\":4096,\"content\":\"<image>\"}"}, NULL);
    assert_int_equal(facet_tokenizer_vocab(t), 306);
    facet_tokenizer_free(t);
}

// A tokenizer's GGUF bytes with one 32-bit number changed.
static void test_bad_gguf(void **state)
{
    (void)state;
    facet_text sound;
    facet_text_init(&sound, NULL);
    put_spm_gguf(&sound, 0, NULL);
    facet_random random = facet_random_seed(5);
    for (int round = 0; round < 3000; round++) {
        facet_text text;
        facet_tokenizer *t = NULL;
        facet_text_init(&text, NULL);
        facet_text_put(&text, sound.data, sound.length);
        const size_t at = facet_random_below(&random, text.length);
        text.data[at] = (char)(text.data[at] ^ (1 << facet_random_below(&random, 8)));
        if (maker_open_gguf(&text, NULL, &t, NULL) == FACET_OK)
            free(encode(t, "hello <s> aab\n\n", 15, BOS | SPECIAL).ids);
        facet_tokenizer_free(t);
    }
    facet_text_fini(&sound);
}

// ---- tokenizer.bin ----------------------------------------------------------------------------

static facet_text save(const facet_tokenizer *t)
{
    facet_text out;
    facet_text_init(&out, NULL);
    assert_int_equal(facet_tokenizer_save(t, &out, NULL), FACET_OK);
    return out;
}

static void round_trip(facet_tokenizer *t)
{
    static const char text[] = "<s> hello  world aab\n\n\xc3\xa9\xff <tool>x 123<|im_end|>";
    const facet_text first = save(t);
    facet_tokenizer *again = NULL;
    facet_err err = {0};
    if (facet_tokenizer_load(first.data, first.length, "tokenizer.bin", NULL, &again, &err))
        fail_msg("%s", err.message);
    const facet_text second = save(again);
    assert_int_equal(first.length, second.length);
    assert_memory_equal(first.data, second.data, first.length);
    assert_string_equal(facet_tokenizer_kind(t), facet_tokenizer_kind(again));
    for (int flags = 0; flags < 4; flags++) {
        const facet_tokens a = encode(t, text, sizeof text - 1, flags);
        const facet_tokens b = encode(again, text, sizeof text - 1, flags);
        assert_int_equal(a.count, b.count);
        assert_memory_equal(a.ids, b.ids, a.count * sizeof *a.ids);
        free(a.ids);
        free(b.ids);
    }
    for (uint32_t id = 0; id < facet_tokenizer_vocab(t); id++)
        assert_int_equal(facet_tokenizer_is_end(t, id), facet_tokenizer_is_end(again, id));
    // Every shorter file is refused, and one that is longer.
    for (size_t n = 0; n < first.length; n += n < 600 ? 1 : 37)
        assert_int_equal(facet_tokenizer_load(first.data, n, "f", NULL, &again, NULL),
                         FACET_BAD_FILE);
    assert_int_equal(facet_tokenizer_load(first.data, first.length + 1, "f", NULL, &again, NULL),
                     FACET_BAD_FILE);
    facet_mem_free(NULL, first.data);
    facet_mem_free(NULL, second.data);
    facet_tokenizer_free(again);
}

static void test_bin(void **state)
{
    (void)state;
    facet_tokenizer *t = open_json(&(maker_json){.pre = MAKER_QWEN2}, "{\"eos_token\":\"<s>\"}");
    round_trip(t);
    facet_tokenizer_free(t);
    t = open_spm(1);
    round_trip(t);
    facet_tokenizer_free(t);
}

static void test_bin_flips(void **state)
{
    (void)state;
    facet_tokenizer *t = open_json(&(maker_json){0}, NULL);
    const facet_text sound = save(t);
    facet_random random = facet_random_seed(6);
    for (int round = 0; round < 3000; round++) {
        const size_t at = facet_random_below(&random, sound.length);
        const char bit = (char)(1 << facet_random_below(&random, 8));
        facet_tokenizer *again = NULL;
        sound.data[at] = (char)(sound.data[at] ^ bit);
        if (facet_tokenizer_load(sound.data, sound.length, "f", NULL, &again, NULL) == FACET_OK)
            free(encode(again, "hello <s> aab", 13, BOS | SPECIAL).ids);
        facet_tokenizer_free(again);
        sound.data[at] = (char)(sound.data[at] ^ bit);
    }
    facet_mem_free(NULL, sound.data);
    facet_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_json),
        cmocka_unit_test(test_bad_gguf),
        cmocka_unit_test(test_bin),
        cmocka_unit_test(test_bin_flips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
