// SPDX-License-Identifier: Apache-2.0
// Tokenizers on tiny vocabularies: ids worked out by hand, an independent slow merge loop,
// decoding, special tokens, sizes, damage and exhausted memory.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/random.h"
#include "tests/model/tokenizer_maker.h"

static facet_tokenizer *open_json(const maker_json *j, const char *config)
{
    facet_tokenizer *t = NULL;
    facet_err err = {0};
    if (maker_open_json(j, config, NULL, &t, &err) != FACET_OK) fail_msg("%s", err.message);
    return t;
}

static facet_tokenizer *open_gguf(facet_text *text)
{
    facet_tokenizer *t = NULL;
    facet_err err = {0};
    if (maker_open_gguf(text, NULL, &t, &err) != FACET_OK) fail_msg("%s", err.message);
    return t;
}

static facet_tokenizer *open_spm(int prefix)
{
    facet_text text;
    facet_text_init(&text, NULL);
    put_spm_gguf(&text, prefix, NULL);
    return open_gguf(&text);
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

// `want` ends with -1.
static void expect(const facet_tokenizer *t, const char *text, int flags, const int *want)
{
    const facet_tokens tokens = encode(t, text, strlen(text), flags);
    size_t n = 0;
    while (want[n] >= 0)
        n++;
    for (size_t i = 0; i < n && i < tokens.count; i++)
        if (tokens.ids[i] != (uint32_t)want[i])
            fail_msg("\"%s\": token %zu is %u, not %d", text, i, tokens.ids[i], want[i]);
    if (tokens.count != n) fail_msg("\"%s\": %zu tokens, not %zu", text, tokens.count, n);
    free(tokens.ids);
}
#define EXPECT(t, text, flags, ...) expect(t, text, flags, (const int[]){__VA_ARGS__, -1})

static void expect_text(const facet_tokenizer *t, const facet_tokens *tokens, bool special,
                        const char *want, size_t bytes)
{
    facet_text out;
    facet_text_init(&out, NULL);
    facet_text_puts(&out, "x"); // decoding appends
    assert_int_equal(facet_tokenizer_decode(t, tokens->ids, tokens->count, special, &out, NULL),
                     FACET_OK);
    assert_int_equal(out.length, bytes + 1);
    assert_memory_equal(out.data + 1, want, bytes);
    facet_text_fini(&out);
}

// ---- byte-level BPE ---------------------------------------------------------------------------

static void test_bytes(void **state)
{
    (void)state;
    facet_tokenizer *t = open_json(&(maker_json){0}, NULL);
    assert_string_equal(facet_tokenizer_kind(t), "bpe/gpt-2");
    assert_int_equal(facet_tokenizer_vocab(t), 306);
    EXPECT(t, "hello", 0, 259);
    EXPECT(t, "hello world", 0, 259, 263, 262);
    EXPECT(t, "hell", 0, 258);
    EXPECT(t, "aaaaa", 0, 265, 'a');
    EXPECT(t, "aaab", 0, 264, 266); // aa from the left, then a b
    EXPECT(t, "baa", 0, 267);       // a a goes first, then b aa
    expect(t, "", BOS | SPECIAL, (const int[]){-1});
    facet_tokenizer_free(t);
}

static void test_pretokenizers(void **state)
{
    (void)state;
    const struct {
        const char *pre, *kind, *text;
        int ids[16];
    } cases[] = {
        {MAKER_GPT2, "bpe/gpt-2", "a12 b", {'a', '1', '2', ' ', 'b', -1}},
        {MAKER_SMOLLM, "bpe/smollm", "ab12aa", {266, '1', '2', 264, -1}},
        {MAKER_QWEN2, "bpe/qwen2", "\ta'LL  b", {'\t', 'a', '\'', 'L', 'L', ' ', ' ', 'b', -1}},
        {MAKER_LLAMA3, "bpe/llama-bpe", "ab 1234", {266, ' ', '1', '2', '3', '4', -1}},
    };
    for (size_t i = 0; i < FACET_COUNT_OF(cases); i++) {
        facet_tokenizer *t = open_json(&(maker_json){.pre = cases[i].pre}, NULL);
        assert_string_equal(facet_tokenizer_kind(t), cases[i].kind);
        expect(t, cases[i].text, 0, cases[i].ids);
        facet_tokenizer_free(t);
    }
}

// The words of a text, told apart by bars.
static void expect_words(facet_pretoken pretoken, const char *text, const char *want)
{
    facet_pretokenizer *p = NULL;
    uint32_t *ends = NULL;
    size_t count = 0;
    facet_text out;
    facet_text_init(&out, NULL);
    assert_int_equal(facet_pretokenizer_new(pretoken, NULL, &p, NULL), FACET_OK);
    assert_int_equal(facet_pretokenizer_run(p, text, strlen(text), NULL, &ends, &count, NULL),
                     FACET_OK);
    for (size_t i = 0; i < count; i++) {
        const uint32_t from = i ? ends[i - 1] : 0;
        if (i) facet_text_puts(&out, "|");
        facet_text_put(&out, text + from, ends[i] - from);
    }
    assert_string_equal(facet_text_str(&out), want);
    facet_text_fini(&out);
    free(ends);
    facet_pretokenizer_free(p);
}

static void test_words(void **state)
{
    (void)state;
    expect_words(FACET_PRETOKEN_GPT2, "I'm 123 's  x \n", "I|'m| 123| '|s| | x| \n");
    expect_words(FACET_PRETOKEN_GPT2, "WE'LL", "WE|'|LL");
    expect_words(FACET_PRETOKEN_QWEN2, "WE'LL 12\r\n\n x!\n", "WE|'LL| |1|2|\r\n\n| x|!\n");
    expect_words(FACET_PRETOKEN_LLAMA3, "12345\t\tab(cd", "123|45|\t|\tab|(cd");
    expect_words(FACET_PRETOKEN_SMOLLM, "x 12 y", "x| |1|2| y");
    expect_words(FACET_PRETOKEN_DEFAULT, "a+b: 12345", "a|+|b|:| |123|45");
    // U+180E is no space; U+2EBF0 (Unicode 15.1) is a letter; U+017F is no s of a contraction.
    expect_words(FACET_PRETOKEN_QWEN2,
                 "a\xe1\xa0\x8e"
                 "b",
                 "a|\xe1\xa0\x8e"
                 "b");
    expect_words(FACET_PRETOKEN_GPT2,
                 "a\xf0\xae\xaf\xb0"
                 "b",
                 "a\xf0\xae\xaf\xb0"
                 "b");
    expect_words(FACET_PRETOKEN_QWEN2, "a'\xc5\xbf", "a|'\xc5\xbf");
    expect_words(FACET_PRETOKEN_QWEN2, "", "");
}

static void test_special(void **state)
{
    (void)state;
    facet_tokenizer *t = open_json(&(maker_json){0}, "{\"bos_token\":{\"content\":\"<s>\"},"
                                                     "\"eos_token\":\"<|im_end|>\","
                                                     "\"add_bos_token\":true}");
    assert_int_equal(facet_tokenizer_bos(t), ID_S);
    assert_true(facet_tokenizer_adds_bos(t));
    EXPECT(t, "hello", BOS, ID_S, 259);
    EXPECT(t, "<s>", 0, '<', 's', '>');
    EXPECT(t, "<s>", SPECIAL, ID_S);
    EXPECT(t, "<s>aa<|im_start|>", SPECIAL | BOS, ID_S, ID_S, 264, ID_START);
    // User tokens are found always, the longest first.
    EXPECT(t, "a<tool>xa<tool>", 0, 'a', ID_TOOL_X, 'a', ID_TOOL);
    EXPECT(t, "<tool<tool>", 0, '<', 't', 'o', 'o', 'l', ID_TOOL);
    const int ends[] = {ID_END, ID_TEXT_END};
    for (int id = 0; id < 320; id++)
        assert_int_equal(facet_tokenizer_is_end(t, (uint32_t)id), id == ends[0] || id == ends[1]);
    const facet_tokens tokens = encode(t, "<s>aa<tool>", 11, SPECIAL);
    expect_text(t, &tokens, true, "<s>aa<tool>", 11);
    expect_text(t, &tokens, false, "aa<tool>", 8);
    free(tokens.ids);
    facet_tokenizer_free(t);
}

static void test_bad_utf8(void **state)
{
    (void)state;
    facet_tokenizer *t = open_json(&(maker_json){0}, NULL);
    EXPECT(t, "a\xff", 0, 'a', 0xef, 0xbf, 0xbd);
    EXPECT(t, "\xe2\x28", 0, 0xef, 0xbf, 0xbd, '(');
    EXPECT(t, "\xc1\x81", 0, 'A');                  // overlong: the character that it spells
    EXPECT(t, "\xed\xa0\x80", 0, 0xed, 0xa0, 0x80); // a surrogate stays
    EXPECT(t, "\xf4\x90\x80\x80", 0, 0xef, 0xbf, 0xbd, 0xef, 0xbf, 0xbd, 0xef, 0xbf, 0xbd, 0xef,
           0xbf, 0xbd);
    const facet_tokens tokens = encode(t, "a\0b", 3, 0);
    assert_int_equal(tokens.count, 3);
    expect_text(t, &tokens, false, "a\0b", 3);
    free(tokens.ids);
    facet_tokenizer_free(t);
}

static void test_ignore_merges(void **state)
{
    (void)state;
    // "hold" is a token that no merge makes.
    const maker_json plain = {.pre = MAKER_LLAMA3, .vocab = ",\"hold\":270"};
    const maker_json whole = {
        .pre = MAKER_LLAMA3, .vocab = ",\"hold\":270", .model = "\"ignore_merges\":true,"};
    facet_tokenizer *t = open_json(&plain, NULL);
    EXPECT(t, "hold", 0, 'h', 'o', 262);
    facet_tokenizer_free(t);
    t = open_json(&whole, NULL);
    EXPECT(t, "hold", 0, 270);
    facet_tokenizer_free(t);
}

static void test_gguf_bytes(void **state)
{
    (void)state;
    facet_text text;
    facet_text_init(&text, NULL);
    put_bpe_gguf(&text, "llama-bpe");
    facet_tokenizer *t = open_gguf(&text);
    assert_string_equal(facet_tokenizer_kind(t), "bpe/llama-bpe");
    assert_true(facet_tokenizer_adds_bos(t));
    EXPECT(t, "hello world", BOS, 268, 259, 263, 262);
    facet_tokenizer_free(t);
    put_bpe_gguf(&text, NULL);
    t = open_gguf(&text);
    assert_string_equal(facet_tokenizer_kind(t), "bpe/default");
    assert_false(facet_tokenizer_adds_bos(t));
    facet_tokenizer_free(t);
    put_bpe_gguf(&text, "poro-chat");
    facet_err err = {0};
    assert_int_equal(maker_open_gguf(&text, NULL, &t, &err), FACET_UNSUPPORTED);
    assert_non_null(strstr(err.message, "poro-chat"));
}

// ---- SentencePiece ----------------------------------------------------------------------------

static int piece(const char *text)
{
    for (int i = 0; i < MAKER_PIECES; i++)
        if (strcmp(maker_pieces[i].text, text) == 0) return MAKER_SPM + i;
    fail_msg("no piece %s", text);
    return -1;
}

static void test_spm(void **state)
{
    (void)state;
    facet_tokenizer *t = open_spm(0);
    assert_string_equal(facet_tokenizer_kind(t), "spm/gemma");
    EXPECT(t, "hello", 0, piece("hello"));
    EXPECT(t, " hello", BOS, 1, piece(MARK "hello"));
    EXPECT(t, "\xc3\xa9\xc3\xa8", 0, piece("\xc3\xa9"), 3 + 0xc3, 3 + 0xa8);
    EXPECT(t, "\xff\xe2", 0, 3 + 0xff, 3 + 0xe2);
    EXPECT(t, "a\n\n\nb", 0, piece("a"), piece("\n\n"), 3 + '\n', piece("b"));
    EXPECT(t, "   ", 0, piece("  "), piece(MARK));
    EXPECT(t, "aab", 0, piece("aab")); // aa and ab score the same: the left one goes first
    EXPECT(t, "<s>", 0, 3 + '<', 3 + 's', 3 + '>');
    assert_true(facet_tokenizer_is_end(t, 2));
    facet_tokens tokens = encode(t, " hello \xc3\xa8\n\n", 11, BOS);
    expect_text(t, &tokens, false, " hello \xc3\xa8\n\n", 11);
    expect_text(t, &tokens, true, "<s> hello \xc3\xa8\n\n", 14);
    free(tokens.ids);
    facet_tokenizer_free(t);

    t = open_spm(-1);
    assert_string_equal(facet_tokenizer_kind(t), "spm/llama");
    EXPECT(t, "hello", BOS, 1, piece(MARK "hello"));
    EXPECT(t, "<s>hello", SPECIAL, 1, piece(MARK "hello"));
    tokens = encode(t, "hello hello", 11, 0);
    expect_text(t, &tokens, false, "hello hello", 11);
    facet_text out;
    facet_text_init(&out, NULL);
    facet_tokenizer_piece(t, tokens.ids[0], false, &out, NULL);
    assert_string_equal(facet_text_str(&out), " hello");
    facet_text_fini(&out);
    free(tokens.ids);
    facet_tokenizer_free(t);
}

static void test_chars(void **state)
{
    (void)state;
    static const char json[] =
        "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"
        "\"\xe2\x96\x81\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":"
        "\"\xe2\x96\x81\"}]},\"pre_tokenizer\":null,\"added_tokens\":[{\"id\":0,\"content\":\"<s>"
        "\","
        "\"special\":true},{\"id\":9,\"content\":\"\xe2\x96\x81\xe2\x96\x81\"}],\"model\":{"
        "\"type\":"
        "\"BPE\",\"byte_fallback\":true,\"unk_token\":\"<unk>\",\"vocab\":{\"<s>\":0,\"<unk>\":1,"
        "\"<0xC3>\":2,\"<0xA8>\":3,\"\xe2\x96\x81\":4,\"a\":5,\"b\":6,\"ab\":7,\"\xe2\x96\x81"
        "ab\":"
        "8},\"merges\":[[\"a\",\"b\"],\"\xe2\x96\x81 ab\"]}}";
    const facet_tokenizer_texts texts = {.file = "tokenizer.json",
                                         .tokenizer = json,
                                         .tokenizer_bytes = sizeof json - 1,
                                         .config = "{\"bos_token\":\"<s>\"}",
                                         .config_bytes = 19,
                                         .limit = 16};
    facet_tokenizer *t = facet_tokenizer_make(NULL);
    facet_err err = {0};
    if (facet_tokenizer_from_json(&texts, t, &err) != FACET_OK) fail_msg("%s", err.message);
    assert_string_equal(facet_tokenizer_kind(t), "bpe-chars/llama");
    EXPECT(t, "ab ab", BOS, 0, 8, 8);
    EXPECT(t, "a\xc3\xa8z", 0, 4, 5, 2, 3, 1);
    EXPECT(t, "a  b", 0, 4, 5, 9, 4, 6);
    facet_tokenizer_free(t);
}

// ---- against a slow merge loop ----------------------------------------------------------------

typedef struct slow {
    uint32_t at[64], bytes[64], id[64];
    size_t n;
} slow;

// The best pair of neighbours: smaller is better; false when nothing merges.
static bool slow_pair(const facet_tokenizer *t, const slow *s, const char *text, size_t i,
                      double *rank, uint32_t *id)
{
    if (t->engine == FACET_ENGINE_SPM) {
        *id = facet_vocab_find(t, text + s->at[i], s->bytes[i] + s->bytes[i + 1]);
        if (*id == FACET_NO_TOKEN) return false;
        *rank = -(double)t->tokens[*id].score;
        return true;
    }
    for (uint32_t m = 0; m < t->n_merges; m++) {
        if (t->merges[m].left != s->id[i] || t->merges[m].right != s->id[i + 1]) continue;
        *rank = m;
        *id = t->merges[m].result;
        return true;
    }
    return false;
}

static void slow_merge(const facet_tokenizer *t, slow *s, const char *text)
{
    for (;;) {
        size_t best = SIZE_MAX;
        double best_rank = 0, rank = 0;
        uint32_t best_id = 0, id = 0;
        for (size_t i = 0; i + 1 < s->n; i++) {
            if (!slow_pair(t, s, text, i, &rank, &id)) continue;
            if (best != SIZE_MAX && rank >= best_rank) continue;
            best = i;
            best_rank = rank;
            best_id = id;
        }
        if (best == SIZE_MAX) return;
        s->bytes[best] += s->bytes[best + 1];
        s->id[best] = best_id;
        s->n--;
        for (size_t i = best + 1; i < s->n; i++) {
            s->at[i] = s->at[i + 1];
            s->bytes[i] = s->bytes[i + 1];
            s->id[i] = s->id[i + 1];
        }
    }
}

static void compare_slow(const facet_tokenizer *t, const char *letters, uint64_t seed)
{
    facet_random random = facet_random_seed(seed);
    for (int round = 0; round < 2000; round++) {
        char text[65] = {0};
        slow s = {.n = 1 + facet_random_below(&random, 63)};
        for (uint32_t i = 0; i < s.n; i++) {
            text[i] = letters[facet_random_below(&random, strlen(letters))];
            s.at[i] = i;
            s.bytes[i] = 1;
            s.id[i] = facet_vocab_find(t, text + i, 1);
        }
        const facet_tokens tokens = encode(t, text, s.n, 0);
        slow_merge(t, &s, text);
        assert_int_equal(tokens.count, s.n);
        for (size_t i = 0; i < s.n; i++)
            assert_int_equal(tokens.ids[i], s.id[i]);
        free(tokens.ids);
    }
}

static void test_slow_merge(void **state)
{
    (void)state;
    facet_tokenizer *t = open_json(&(maker_json){0}, NULL);
    compare_slow(t, "ab", 1);
    compare_slow(t, "helowrd", 2);
    facet_tokenizer_free(t);
    t = open_spm(0);
    compare_slow(t, "ab", 3);
    compare_slow(t, "helo", 4);
    facet_tokenizer_free(t);
}

// A megabyte of one letter, a quarter of others: no hang, and the same text comes back.
static void long_text(const facet_tokenizer *t, const char *unit)
{
    const size_t n = (size_t)1 << (*unit == 'a' ? 20 : 18), bytes = strlen(unit);
    char *text = malloc(n + bytes);
    assert_non_null(text);
    size_t length = 0;
    for (; length < n; length += bytes)
        memcpy(text + length, unit, bytes);
    const uint64_t start = facet_clock_ns();
    const facet_tokens tokens = encode(t, text, length, SPECIAL);
    assert_true(facet_clock_seconds(start) < 20); // sanitizers and loaded machines included
    expect_text(t, &tokens, true, text, length);
    free(tokens.ids);
    free(text);
}

static void test_long(void **state)
{
    (void)state;
    const char *const pre[] = {MAKER_GPT2, MAKER_SMOLLM, MAKER_QWEN2, MAKER_LLAMA3};
    static const char *const units[] = {"a",  "1",        " ",        "\n",         ".",
                                        " a", "\xc3\xa9", "\xc2\xa0", "<|im_end|>", "<tool>"};
    for (size_t i = 0; i < FACET_COUNT_OF(pre); i++) {
        facet_tokenizer *t = open_json(&(maker_json){.pre = pre[i]}, NULL);
        for (size_t j = 0; j < FACET_COUNT_OF(units); j++)
            long_text(t, units[j]);
        facet_tokenizer_free(t);
    }
    facet_tokenizer *t = open_spm(0);
    for (size_t j = 0; j < FACET_COUNT_OF(units); j++)
        long_text(t, units[j]);
    facet_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),      cmocka_unit_test(test_pretokenizers),
        cmocka_unit_test(test_words),      cmocka_unit_test(test_special),
        cmocka_unit_test(test_bad_utf8),   cmocka_unit_test(test_ignore_merges),
        cmocka_unit_test(test_gguf_bytes), cmocka_unit_test(test_spm),
        cmocka_unit_test(test_chars),      cmocka_unit_test(test_slow_merge),
        cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
