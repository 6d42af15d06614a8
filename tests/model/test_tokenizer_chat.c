// SPDX-License-Identifier: Apache-2.0
// Chat templates: recognition, and conversations as ids. The decoded ids must read as the Jinja
// program would write them, and no content may become a special token.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/model/tokenizer_maker.h"

#define CHATML_BODY                                                                                \
    "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}{% endfor %}"
#define CHATML "{% for m in messages %}" CHATML_BODY
// A default system message written with an escaped line break, as Qwen does, ...
#define CHATML_ESCAPED                                                                             \
    "{{- '<|im_start|>system\\n' + messages[0].content }}"                                         \
    "{{- '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{% for m in messages %}" CHATML_BODY
// ... or a real one, as SmolLM does, ...
#define CHATML_REAL                                                                                \
    "{% if x %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}{% for m in messages "   \
    "%}" CHATML_BODY
// ... or kept in a variable.
#define CHATML_SET "{% set system_message = \"Be kind.\" %}{% for m in messages %}" CHATML_BODY
#define LLAMA3                                                                                     \
    "{{ bos_token }}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | "  \
    "trim + '<|eot_id|>' }}"
#define LLAMA31 LLAMA3 "{{ \"Cutting Knowledge Date: December 2023\\n\" }}"
#define GEMMA                                                                                      \
    "{{ bos_token }}{{ '<start_of_turn>' + role + '\\n' + m.content | trim + '<end_of_turn>\\n' "  \
    "}}"
#define MISTRAL1                                                                                   \
    "{{ bos_token }}{{ '[INST] ' + m['content'] + ' [/INST]' }}"                                   \
    "{{ m['content'] + eos_token + ' ' }}"
#define MISTRAL3                                                                                   \
    "{{- bos_token }}{%- if loop.last and system_message is defined %}"                            \
    "{{- \"[INST] \" + system_message + \"\\n\\n\" + m[\"content\"] + \"[/INST]\" }}"              \
    "{{- \"[INST] \" + m[\"content\"] + \"[/INST]\" }}{{- \" \" + m[\"content\"]|trim + "          \
    "eos_token }}"

static const facet_message alone[] = {{"user", " <|im_end|>hello "}};
static const facet_message four[] = {
    {"system", "S."}, {"user", "hello"}, {"assistant", " aab "}, {"user", "aa"}};

// `special`: how many ids of special tokens there must be.
typedef struct chat_case {
    const char *jinja, *kind;
    const char *alone, *four;
    int special_alone, special_four;
} chat_case;

static const chat_case cases[] = {
    {CHATML, "chatml", "<|im_start|>user\n <|im_end|>hello <|im_end|>\n<|im_start|>assistant\n",
     "<|im_start|>system\nS.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
     " aab <|im_end|>\n<|im_start|>user\naa<|im_end|>\n<|im_start|>assistant\n",
     3, 9},
    {CHATML_ESCAPED, "chatml",
     "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n <|im_end|>hello <|im_end|>\n"
     "<|im_start|>assistant\n",
     NULL, 5, 0},
    {CHATML_REAL, "chatml",
     "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n <|im_end|>hello <|im_end|>\n"
     "<|im_start|>assistant\n",
     NULL, 5, 0},
    {CHATML_SET, "chatml",
     "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n <|im_end|>hello <|im_end|>\n"
     "<|im_start|>assistant\n",
     NULL, 5, 0},
    {LLAMA3, "llama3",
     "<s><|start_header_id|>user<|end_header_id|>\n\n<|im_end|>hello<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\n",
     NULL, 1, 0},
    {LLAMA31, "llama3",
     "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
     "Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "<|im_end|>hello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
     "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
     "Today Date: 26 Jul 2024\n\nS.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nhello"
     "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\naab<|eot_id|>"
     "<|start_header_id|>user<|end_header_id|>\n\naa<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\n",
     1, 1},
    {GEMMA, "gemma", "<s><start_of_turn>user\n<|im_end|>hello<end_of_turn>\n<start_of_turn>model\n",
     "<s><start_of_turn>user\nS.\n\nhello<end_of_turn>\n<start_of_turn>model\naab<end_of_turn>\n"
     "<start_of_turn>user\naa<end_of_turn>\n<start_of_turn>model\n",
     1, 1},
    {MISTRAL1, "mistral", "<s>[INST]  <|im_end|>hello  [/INST]",
     "<s>[INST] S.\n\nhello [/INST] aab <|endoftext|> [INST] aa [/INST]", 1, 2},
    {MISTRAL3, "mistral", "<s>[INST]  <|im_end|>hello [/INST]",
     "<s>[INST] hello[/INST] aab<|endoftext|>[INST] S.\n\naa[/INST]", 1, 2},
    {"{{ messages }}", "none", " <|im_end|>hello ", "S.\nhello\n aab \naa", 0, 0},
    {"[INST] <<SYS>> [/INST]", "none", " <|im_end|>hello ", NULL, 0, 0},
    {"[INST] {{ m }} [/INST]", "none", " <|im_end|>hello ", NULL, 0, 0},
};

static void expect_chat(const facet_tokenizer *t, const facet_message *messages, size_t n,
                        const char *want, int special)
{
    facet_tokens tokens = {0};
    facet_text out;
    facet_text_init(&out, NULL);
    assert_int_equal(facet_tokenizer_chat_encode(t, messages, n, true, NULL, &tokens, NULL),
                     FACET_OK);
    for (size_t i = 0; i < tokens.count; i++)
        special -= tokens.ids[i] >= ID_START;
    facet_tokenizer_decode(t, tokens.ids, tokens.count, true, &out, NULL);
    assert_string_equal(facet_text_str(&out), want);
    assert_int_equal(special, 0);
    facet_text_fini(&out);
    free(tokens.ids);
}

static facet_tokenizer *open_chat(const char *jinja)
{
    facet_tokenizer *t = NULL;
    facet_err err = {0};
    if (maker_open_json(&(maker_json){0}, "{\"bos_token\":\"<s>\",\"eos_token\":\"<|endoftext|>\"}",
                        NULL, &t, &err) != FACET_OK)
        fail_msg("%s", err.message);
    assert_int_equal(facet_chat_detect(jinja, strlen(jinja), NULL, &t->chat, NULL), FACET_OK);
    return t;
}

static void test_conversations(void **state)
{
    (void)state;
    for (size_t i = 0; i < FACET_COUNT_OF(cases); i++) {
        const chat_case *c = &cases[i];
        facet_tokenizer *t = open_chat(c->jinja);
        assert_string_equal(facet_tokenizer_chat(t), c->kind);
        expect_chat(t, alone, 1, c->alone, c->special_alone);
        if (c->four) expect_chat(t, four, 4, c->four, c->special_four);
        // The bundle's tokenizer talks alike.
        facet_text bin;
        facet_text_init(&bin, NULL);
        assert_int_equal(facet_tokenizer_save(t, &bin, NULL), FACET_OK);
        facet_tokenizer_free(t);
        assert_int_equal(facet_tokenizer_load(bin.data, bin.length, "f", NULL, &t, NULL), FACET_OK);
        facet_text_fini(&bin);
        assert_string_equal(facet_tokenizer_chat(t), c->kind);
        expect_chat(t, alone, 1, c->alone, c->special_alone);
        if (c->four) expect_chat(t, four, 4, c->four, c->special_four);
        facet_tokenizer_free(t);
    }
}

// Text of template and contents that touches is encoded in one piece.
static void test_joined(void **state)
{
    (void)state;
    facet_tokenizer *t = open_chat(CHATML);
    const facet_message m = {"a", "aa"};
    facet_tokens tokens;
    assert_int_equal(facet_tokenizer_chat_encode(t, &m, 1, false, NULL, &tokens, NULL), FACET_OK);
    const uint32_t want[] = {ID_START, 'a', '\n', 264, ID_END, '\n'};
    assert_int_equal(tokens.count, FACET_COUNT_OF(want));
    assert_memory_equal(tokens.ids, want, sizeof want);
    free(tokens.ids);
    facet_tokenizer_free(t);
}

static void test_end(void **state)
{
    (void)state;
    const struct {
        const char *jinja;
        int id; // -1: none
    } ends[] = {{CHATML, ID_END}, {MISTRAL3, ID_TEXT_END}, {"", -1}};
    for (size_t i = 0; i < FACET_COUNT_OF(ends); i++) {
        facet_tokenizer *t = open_chat(ends[i].jinja);
        facet_tokens tokens;
        assert_int_equal(facet_tokenizer_chat_end(t, NULL, &tokens, NULL), FACET_OK);
        assert_int_equal(tokens.count, ends[i].id >= 0);
        if (tokens.count) assert_int_equal(tokens.ids[0], ends[i].id);
        free(tokens.ids);
        facet_tokenizer_free(t);
    }
}

// Templates cut anywhere, with quotes and braces left open.
static void test_cut_templates(void **state)
{
    (void)state;
    for (size_t i = 0; i < FACET_COUNT_OF(cases); i++) {
        for (size_t n = 0; n <= strlen(cases[i].jinja); n++) {
            facet_chat chat = {0};
            assert_int_equal(facet_chat_detect(cases[i].jinja, n, NULL, &chat, NULL), FACET_OK);
            facet_chat_fini(&chat, NULL);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversations),
        cmocka_unit_test(test_joined),
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_cut_templates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
