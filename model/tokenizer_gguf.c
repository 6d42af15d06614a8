// SPDX-License-Identifier: Apache-2.0
// The vocabulary of a GGUF file: metadata keys tokenizer.ggml.* and tokenizer.chat_template.
#include <string.h>

#include "model/gguf.h"
#include "model/tokenizer_parts.h"

#define KEY "tokenizer.ggml."

typedef struct reader {
    const facet_gguf *gguf;
    const char *file;
    facet_tokenizer *t;
} reader;

static facet_status missing(const reader *r, const char *key, facet_err *err)
{
    return facet_fail_at(err, FACET_BAD_FILE, r->file, -1,
                         "%s: metadata %s is missing or has the wrong type or length; "
                         "convert the model anew",
                         r->file, key);
}

static facet_status read_kind(reader *r, facet_err *err)
{
    facet_tokenizer *t = r->t;
    facet_span model, pre = {"default", 7};
    if (!facet_gguf_find_string(r->gguf, KEY "model", &model)) return missing(r, KEY "model", err);
    if (model.bytes == 5 && memcmp(model.data, "llama", 5) == 0) {
        t->engine = FACET_ENGINE_SPM;
        t->add_bos = t->space_prefix = true;
    } else if (model.bytes == 4 && memcmp(model.data, "gpt2", 4) == 0) {
        t->engine = FACET_ENGINE_BYTES;
        facet_gguf_find_string(r->gguf, KEY "pre", &pre);
        if (!facet_pretoken_find(pre.data, pre.bytes, &t->pretoken))
            return facet_fail_at(err, FACET_UNSUPPORTED, r->file, -1,
                                 "%s: pre-tokenizer \"%.*s\" is not supported; "
                                 "known are default, gpt-2, llama-bpe, qwen2 and smollm",
                                 r->file, pre.bytes < 64 ? (int)pre.bytes : 64, pre.data);
        t->add_bos = t->ignore_merges = t->pretoken == FACET_PRETOKEN_LLAMA3;
    } else {
        return facet_fail_at(err, FACET_UNSUPPORTED, r->file, -1,
                             "%s: tokenizer model \"%.*s\" is not supported; "
                             "known are gpt2 and llama",
                             r->file, model.bytes < 64 ? (int)model.bytes : 64, model.data);
    }
    facet_gguf_find_bool(r->gguf, KEY "add_bos_token", &t->add_bos);
    bool space_prefix;
    if (t->engine == FACET_ENGINE_SPM &&
        facet_gguf_find_bool(r->gguf, KEY "add_space_prefix", &space_prefix))
        t->space_prefix = space_prefix;
    return FACET_OK;
}

// The id under a key, or `otherwise` when absent or past the vocabulary.
static int64_t read_id(const reader *r, const char *key, int64_t otherwise)
{
    uint64_t id;
    if (facet_gguf_find_u64(r->gguf, key, &id) && id < r->t->n) return (int64_t)id;
    return otherwise < (int64_t)r->t->n ? otherwise : -1;
}

static facet_status add_token(reader *r, const facet_span *text, float score, int64_t type,
                              facet_err *err)
{
    if (type < 0 || type >= FACET_TOKEN_LITERAL) type = FACET_TOKEN_UNDEFINED;
    if (r->t->engine != FACET_ENGINE_BYTES || type != FACET_TOKEN_NORMAL)
        return facet_vocab_add(r->t, text->data, text->bytes, score, (facet_token_type)type,
                               r->file, err);
    return facet_vocab_add_alphabet(r->t, text->data, text->bytes, r->file, err);
}

static facet_status read_tokens(reader *r, uint32_t limit, facet_err *err)
{
    facet_gguf_array texts, scores, types;
    facet_span text;
    if (!facet_gguf_find_array_of(r->gguf, KEY "tokens", FACET_GGUF_STRING, &texts))
        return missing(r, KEY "tokens", err);
    if (texts.count > limit)
        return facet_fail_at(err, FACET_MISMATCH, r->file, -1,
                             "%s: %llu tokens but embeddings for %u; convert the model anew",
                             r->file, (unsigned long long)texts.count, limit);
    const bool scored = facet_gguf_find_array(r->gguf, KEY "scores", &scores);
    if (scored ? scores.count < texts.count : r->t->engine == FACET_ENGINE_SPM)
        return missing(r, KEY "scores", err);
    const bool typed = facet_gguf_find_array(r->gguf, KEY "token_type", &types);
    if (typed && types.count < texts.count) return missing(r, KEY "token_type", err);
    for (uint64_t i = 0; facet_gguf_next_string(&texts, &text); i++) {
        const float score = scored ? (float)facet_gguf_array_f64(&scores, i) : 0;
        const int64_t type = typed ? facet_gguf_array_i64(&types, i) : FACET_TOKEN_NORMAL;
        FACET_TRY(add_token(r, &text, score, type, err));
    }
    return facet_vocab_index(r->t, r->file, err);
}

static facet_status read_merges(reader *r, facet_err *err)
{
    facet_gguf_array merges;
    facet_span merge;
    if (r->t->engine != FACET_ENGINE_BYTES) return FACET_OK;
    if (!facet_gguf_find_array_of(r->gguf, KEY "merges", FACET_GGUF_STRING, &merges))
        return missing(r, KEY "merges", err);
    while (facet_gguf_next_string(&merges, &merge)) {
        // The space between the sides is never the first character.
        const char *space = merge.bytes > 1 ? memchr(merge.data + 1, ' ', merge.bytes - 1) : NULL;
        if (!space) return missing(r, KEY "merges", err);
        const size_t left = (size_t)(space - merge.data);
        FACET_TRY(facet_vocab_add_merge_alphabet(r->t, merge.data, left, space + 1,
                                                 merge.bytes - left - 1, r->file, err));
    }
    return FACET_OK;
}

static facet_status read_names(reader *r, facet_err *err)
{
    facet_tokenizer *t = r->t;
    const bool spm = t->engine == FACET_ENGINE_SPM;
    t->bos = read_id(r, KEY "bos_token_id", spm ? 1 : -1);
    t->eos = read_id(r, KEY "eos_token_id", spm ? 2 : -1);
    t->unknown = read_id(r, KEY "unknown_token_id", spm ? 0 : -1);
    if (t->bos < 0) t->add_bos = false;
    const facet_vocab_ids ids = {
        .eot = read_id(r, KEY "eot_token_id", -1),
        .eom = read_id(r, KEY "eom_token_id", -1),
        .fim_pre = read_id(r, KEY "fim_pre_token_id", read_id(r, KEY "prefix_token_id", -1)),
        .fim_suf = read_id(r, KEY "fim_suf_token_id", read_id(r, KEY "suffix_token_id", -1)),
        .fim_mid = read_id(r, KEY "fim_mid_token_id", read_id(r, KEY "middle_token_id", -1)),
        .fim_pad = read_id(r, KEY "fim_pad_token_id", -1),
        .fim_rep = read_id(r, KEY "fim_rep_token_id", -1),
        .fim_sep = read_id(r, KEY "fim_sep_token_id", -1),
    };
    FACET_TRY(facet_vocab_name(t, &ids, err));
    facet_span chat;
    if (!facet_gguf_find_string(r->gguf, "tokenizer.chat_template", &chat)) return FACET_OK;
    return facet_chat_detect(chat.data, chat.bytes, t->alloc, &t->chat, err);
}

facet_status facet_tokenizer_from_gguf(const struct facet_gguf *gguf, const char *file,
                                       uint32_t limit, facet_tokenizer *t, facet_err *err)
{
    reader r = {.gguf = gguf, .file = file, .t = t};
    FACET_TRY(read_kind(&r, err));
    FACET_TRY(read_tokens(&r, limit, err));
    FACET_TRY(read_merges(&r, err));
    FACET_TRY(read_names(&r, err));
    return facet_tokenizer_finish(t, file, err);
}
