// SPDX-License-Identifier: Apache-2.0
// Tiny vocabularies for the tests of tokenizers: byte-level BPE as a tokenizer.json, and GGUF
// metadata of both kinds. Ids: a byte b is b in the first, 3 + b in SentencePiece's.
#ifndef FACET_TESTS_TOKENIZER_MAKER_H
#define FACET_TESTS_TOKENIZER_MAKER_H

#include "base/text.h"
#include "model/tokenizer_parts.h"
#include "model/utf8.h"
#include "tests/model/gguf_maker.h"

#define MAKER_LIMIT 4096u // as if the model had so many embeddings

// "Ġ" is the alphabet's letter for a space. Token 256 + i is what merge i makes.
static const char *const maker_merges[][2] = {
    {"h", "e"}, {"l", "l"},          {"he", "ll"}, {"hell", "o"}, {"\xc4\xa0", "w"}, {"o", "r"},
    {"l", "d"}, {"\xc4\xa0w", "or"}, {"a", "a"},   {"aa", "aa"},  {"a", "b"},        {"b", "aa"},
};
enum { MAKER_MERGES = (int)(sizeof maker_merges / sizeof maker_merges[0]) };
enum { ID_START = 300, ID_END, ID_TOOL, ID_TOOL_X, ID_TEXT_END, ID_S };

#define MAKER_ADDED                                                                                \
    "{\"id\":300,\"content\":\"<|im_start|>\",\"special\":true},"                                  \
    "{\"id\":301,\"content\":\"<|im_end|>\",\"special\":true},"                                    \
    "{\"id\":302,\"content\":\"<tool>\",\"special\":false},"                                       \
    "{\"id\":303,\"content\":\"<tool>x\",\"special\":false},"                                      \
    "{\"id\":304,\"content\":\"<|endoftext|>\",\"special\":true},"                                 \
    "{\"id\":305,\"content\":\"<s>\",\"special\":true}"
#define MAKER_GPT2 "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
#define MAKER_SMOLLM                                                                               \
    "{\"type\":\"Sequence\",\"pretokenizers\":["                                                   \
    "{\"type\":\"Digits\",\"individual_digits\":true}," MAKER_GPT2 "]}"
#define MAKER_SPLIT(regex)                                                                         \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"        \
    "\"" regex "\"},\"behavior\":\"Isolated\",\"invert\":false},"                                  \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}"
#define MAKER_CL100K(digits)                                                                       \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" digits                 \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define MAKER_QWEN2  MAKER_SPLIT(MAKER_CL100K("\\\\p{N}"))
#define MAKER_LLAMA3 MAKER_SPLIT(MAKER_CL100K("\\\\p{N}{1,3}"))

typedef struct maker_json {
    const char *pre;    // the pre-tokenizer, MAKER_GPT2 when NULL
    const char *model;  // further fields of the model, each with a comma behind
    const char *merge;  // a further merge, with a comma before
    const char *vocab;  // a further entry of the vocabulary, with a comma before
    const char *added;  // a further added token, with a comma before
    const char *fields; // further fields of the document, each with a comma behind
} maker_json;

static inline const char *or_empty(const char *s)
{
    return s ? s : "";
}

// The letter of a byte in the alphabet.
static inline size_t maker_letter(unsigned byte, char out[4])
{
    const bool plain = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    if (plain) return facet_utf8_put(byte, out);
    if (byte <= 0x20) return facet_utf8_put(0x100 + byte, out);
    return facet_utf8_put(byte == 0xad ? 0x143 : 0x121 + byte - 0x7f, out);
}

static inline void put_json(facet_text *out, const maker_json *j)
{
    facet_text_add(out, "{%s\"added_tokens\":[" MAKER_ADDED "%s],\"pre_tokenizer\":%s,",
                   or_empty(j->fields), or_empty(j->added), j->pre ? j->pre : MAKER_GPT2);
    facet_text_add(out, "\"model\":{\"type\":\"BPE\",%s\"vocab\":{", or_empty(j->model));
    for (unsigned b = 0; b < 256; b++) {
        char letter[4];
        const size_t n = maker_letter(b, letter);
        facet_text_puts(out, b ? ",\"" : "\"");
        if (b == '"' || b == '\\') facet_text_puts(out, "\\");
        facet_text_put(out, letter, n);
        facet_text_add(out, "\":%u", b);
    }
    for (int i = 0; i < MAKER_MERGES; i++)
        facet_text_add(out, ",\"%s%s\":%d", maker_merges[i][0], maker_merges[i][1], 256 + i);
    facet_text_add(out, "%s},\"merges\":[", or_empty(j->vocab));
    // Both ways of writing a merge.
    for (int i = 0; i < MAKER_MERGES; i++)
        facet_text_add(out, i % 2 ? "%s[\"%s\",\"%s\"]" : "%s\"%s %s\"", i ? "," : "",
                       maker_merges[i][0], maker_merges[i][1]);
    facet_text_add(out, "%s]}}", or_empty(j->merge));
}

// ---- GGUF metadata ----------------------------------------------------------------------------

static inline void put_array_head(facet_text *out, const char *key, facet_gguf_type type,
                                  uint64_t n)
{
    put_str(out, key);
    put_u32(out, FACET_GGUF_ARRAY);
    put_u32(out, type);
    put_u64(out, n);
}

static inline void put_f32(facet_text *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_u32(out, bits);
}

typedef struct maker_piece {
    const char *text;
    float score;
    uint32_t type;
} maker_piece;

#define MARK "\xe2\x96\x81"
// After <unk>, <s>, </s> and the 256 bytes: token 259 + i.
static const maker_piece maker_pieces[] = {
    {MARK, -20, 1},        {"h", -21, 1},   {"e", -22, 1},           {"l", -23, 1},
    {"o", -24, 1},         {"a", -25, 1},   {"b", -25.5f, 1},        {"he", -3, 1},
    {"ll", -2, 1},         {"llo", -4, 1},  {MARK "he", -5, 1},      {"hello", -6, 1},
    {MARK "hello", -1, 1}, {"aa", -7, 1},   {"ab", -7, 1},           {"ba", -8, 1},
    {"aab", -6.5f, 1},     {"bb", -9, 1},   {"\n\n", -30, 4},        {"  ", -31, 4},
    {"\xc3\xa9", -12, 1},  {"<eot>", 0, 3}, {"<end_of_turn>", 0, 3}, {"<start_of_turn>", 0, 3},
};
enum { MAKER_PIECES = (int)(sizeof maker_pieces / sizeof maker_pieces[0]), MAKER_SPM = 259 };

static inline maker_piece maker_spm_piece(unsigned id, char byte[8])
{
    static const maker_piece first[] = {{"<unk>", 0, 2}, {"<s>", 0, 3}, {"</s>", 0, 3}};
    if (id < 3) return first[id];
    if (id >= MAKER_SPM) return maker_pieces[id - MAKER_SPM];
    snprintf(byte, 8, "<0x%02X>", id - 3);
    return (maker_piece){byte, 0, 6};
}

// `prefix`: 0 or 1 for tokenizer.ggml.add_space_prefix, -1 to leave it out. `chat` may be NULL.
static inline void put_spm_gguf(facet_text *out, int prefix, const char *chat)
{
    const unsigned n = MAKER_SPM + MAKER_PIECES;
    char byte[8];
    put_head(out, 3, 0, 4u + (prefix >= 0) + (chat != NULL));
    put_entry_str(out, "tokenizer.ggml.model", "llama");
    put_array_head(out, "tokenizer.ggml.tokens", FACET_GGUF_STRING, n);
    for (unsigned id = 0; id < n; id++)
        put_str(out, maker_spm_piece(id, byte).text);
    put_array_head(out, "tokenizer.ggml.scores", FACET_GGUF_F32, n);
    for (unsigned id = 0; id < n; id++)
        put_f32(out, maker_spm_piece(id, byte).score);
    put_array_head(out, "tokenizer.ggml.token_type", FACET_GGUF_I32, n);
    for (unsigned id = 0; id < n; id++)
        put_u32(out, maker_spm_piece(id, byte).type);
    if (prefix >= 0) {
        put_str(out, "tokenizer.ggml.add_space_prefix");
        put_u32(out, FACET_GGUF_BOOL);
        put_number(out, (uint64_t)prefix, 1);
    }
    if (chat) put_entry_str(out, "tokenizer.chat_template", chat);
    put_pad(out, 32);
}

// The vocabulary of put_json, without its added tokens but <s> (id 268), as GGUF.
static inline void put_bpe_gguf(facet_text *out, const char *pre)
{
    put_head(out, 3, 0, 5u + (pre != NULL));
    put_entry_str(out, "tokenizer.ggml.model", "gpt2");
    if (pre) put_entry_str(out, "tokenizer.ggml.pre", pre);
    put_array_head(out, "tokenizer.ggml.tokens", FACET_GGUF_STRING, 256 + MAKER_MERGES + 1);
    for (unsigned b = 0; b < 256; b++) {
        char letter[5] = {0};
        letter[maker_letter(b, letter)] = '\0';
        put_str(out, letter);
    }
    for (int i = 0; i < MAKER_MERGES; i++) {
        char token[32];
        snprintf(token, sizeof token, "%s%s", maker_merges[i][0], maker_merges[i][1]);
        put_str(out, token);
    }
    put_str(out, "<s>");
    put_array_head(out, "tokenizer.ggml.token_type", FACET_GGUF_I32, 256 + MAKER_MERGES + 1);
    for (unsigned id = 0; id < 256 + MAKER_MERGES; id++)
        put_u32(out, FACET_TOKEN_NORMAL);
    put_u32(out, FACET_TOKEN_CONTROL);
    put_array_head(out, "tokenizer.ggml.merges", FACET_GGUF_STRING, MAKER_MERGES);
    for (int i = 0; i < MAKER_MERGES; i++) {
        char merge[32];
        snprintf(merge, sizeof merge, "%s %s", maker_merges[i][0], maker_merges[i][1]);
        put_str(out, merge);
    }
    put_entry_u32(out, "tokenizer.ggml.bos_token_id", 256 + MAKER_MERGES);
    put_pad(out, 32);
}

// ---- opening ----------------------------------------------------------------------------------

static inline facet_status maker_open_json(const maker_json *j, const char *config,
                                           const facet_alloc *alloc, facet_tokenizer **out,
                                           facet_err *err)
{
    facet_text text;
    facet_text_init(&text, NULL);
    put_json(&text, j);
    const facet_tokenizer_texts texts = {
        .file = "tokenizer.json",
        .tokenizer = text.data,
        .tokenizer_bytes = text.length,
        .config = config,
        .config_bytes = config ? strlen(config) : 0,
        .limit = MAKER_LIMIT,
    };
    facet_tokenizer *t = facet_tokenizer_make(alloc);
    facet_status status = t ? facet_tokenizer_from_json(&texts, t, err) : FACET_NO_MEMORY;
    if (status == FACET_OK)
        *out = t;
    else
        facet_tokenizer_free(t);
    facet_text_fini(&text);
    return status;
}

// Takes the bytes of `text` (and ends it).
static inline facet_status maker_open_gguf(facet_text *text, const facet_alloc *alloc,
                                           facet_tokenizer **out, facet_err *err)
{
    facet_gguf *gguf = NULL;
    facet_tokenizer *t = facet_tokenizer_make(alloc);
    facet_status status = t ? FACET_OK : FACET_NO_MEMORY;
    if (status == FACET_OK)
        status = facet_gguf_parse((const uint8_t *)text->data, text->length, "tiny.gguf", alloc,
                                  &gguf, err);
    if (status == FACET_OK)
        status = facet_tokenizer_from_gguf(gguf, "tiny.gguf", MAKER_LIMIT, t, err);
    if (status == FACET_OK)
        *out = t;
    else
        facet_tokenizer_free(t);
    facet_gguf_free(gguf);
    facet_text_fini(text);
    return status;
}

#endif
