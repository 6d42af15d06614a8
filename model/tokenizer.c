// SPDX-License-Identifier: Apache-2.0
// The public face of tokenizers: encode, decode and questions.
#include "model/tokenizer.h"

#include <string.h>

#include "base/bits.h"
#include "model/bpe.h"
#include "model/source.h"

facet_status facet_tokenizer_new(const struct facet_model *model, facet_tokenizer **tokenizer,
                                 facet_err *err)
{
    facet_tokenizer *t = facet_tokenizer_make(model->alloc);
    if (!t) return facet_fail_memory(err, sizeof *t);
    const facet_gguf *gguf = facet_model_gguf(model);
    const uint32_t limit = model->hp.n_vocab;
    const facet_status status =
        gguf ? facet_tokenizer_from_gguf(gguf, model->path, limit, t, err)
             : facet_tokenizer_from_directory(facet_model_directory(model), limit, t, err);
    if (status != FACET_OK) {
        facet_tokenizer_free(t);
        return status;
    }
    *tokenizer = t;
    return FACET_OK;
}

// ---- encode -----------------------------------------------------------------------------------

facet_status facet_ids_put(facet_ids *ids, uint32_t id, facet_err *err)
{
    if (ids->count == ids->capacity) {
        const size_t capacity = ids->capacity ? ids->capacity * 2 : 64;
        uint32_t *grown = facet_mem_resize(ids->alloc, ids->ids, capacity, sizeof *grown);
        if (!grown) return facet_fail_memory(err, capacity * sizeof *grown);
        ids->ids = grown;
        ids->capacity = capacity;
    }
    ids->ids[ids->count++] = id;
    return FACET_OK;
}

static facet_status encode_fragment(const facet_tokenizer *t, const char *text,
                                    const facet_fragment *fragment, bool *after_special,
                                    facet_ids *ids, facet_err *err)
{
    const bool first = *after_special;
    *after_special = fragment->id != FACET_NO_TOKEN;
    if (fragment->id != FACET_NO_TOKEN) return facet_ids_put(ids, fragment->id, err);
    const char *at = text + fragment->at;
    if (t->engine == FACET_ENGINE_BYTES)
        return facet_bytes_encode(t, at, fragment->bytes, ids, err);
    return facet_spm_encode(t, at, fragment->bytes, first && t->space_prefix, ids, err);
}

facet_status facet_encode_append(const facet_tokenizer *t, const char *text, size_t bytes,
                                 bool special, bool *after_special, facet_ids *ids, facet_err *err)
{
    facet_fragment *fragments = NULL;
    size_t count = 0;
    if (bytes > FACET_TEXT_MAX)
        return facet_fail(err, FACET_UNSUPPORTED,
                          "text of %zu bytes: more than a gigabyte at once; cut it", bytes);
    if (bytes == 0) return FACET_OK;
    FACET_TRY(facet_fragments_find(t, text, bytes, special, ids->alloc, &fragments, &count, err));
    facet_status status = FACET_OK;
    for (size_t i = 0; i < count && status == FACET_OK; i++)
        status = encode_fragment(t, text, &fragments[i], after_special, ids, err);
    facet_mem_free(ids->alloc, fragments);
    return status;
}

facet_status facet_tokenizer_encode(const facet_tokenizer *t, const char *text, size_t bytes,
                                    bool add_bos, bool parse_special, const facet_alloc *alloc,
                                    facet_tokens *tokens, facet_err *err)
{
    facet_ids ids = {.alloc = alloc};
    bool after_special = true;
    facet_status status = FACET_OK;
    if (add_bos && t->add_bos) status = facet_ids_put(&ids, (uint32_t)t->bos, err);
    if (status == FACET_OK)
        status = facet_encode_append(t, text, bytes, parse_special, &after_special, &ids, err);
    if (status != FACET_OK) {
        facet_mem_free(alloc, ids.ids);
        return status;
    }
    *tokens = (facet_tokens){ids.ids, ids.count};
    return FACET_OK;
}

// ---- decode -----------------------------------------------------------------------------------

static void put_unescaped(const char *text, size_t bytes, facet_text *out)
{
    for (size_t i = 0; i < bytes;) {
        if (bytes - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0) {
            facet_text_put(out, " ", 1);
            i += 3;
        } else {
            facet_text_put(out, text + i++, 1);
        }
    }
}

void facet_token_piece(const facet_tokenizer *t, uint32_t id, bool special, facet_text *out)
{
    const facet_token *token = &t->tokens[id];
    const char *text = facet_token_text(t, id);
    uint8_t byte;
    switch ((facet_token_type)token->type) {
    case FACET_TOKEN_CONTROL:
    case FACET_TOKEN_UNKNOWN:
        if (special) facet_text_put(out, text, token->bytes);
        break;
    case FACET_TOKEN_USER:
    case FACET_TOKEN_LITERAL:
        facet_text_put(out, text, token->bytes);
        break;
    case FACET_TOKEN_NORMAL:
        if (t->engine == FACET_ENGINE_BYTES)
            facet_text_put(out, text, token->bytes);
        else
            put_unescaped(text, token->bytes, out);
        break;
    case FACET_TOKEN_BYTE:
        if (facet_token_byte(t, id, &byte)) facet_text_put(out, &byte, 1);
        break;
    case FACET_TOKEN_UNDEFINED:
    case FACET_TOKEN_UNUSED:
    case FACET_TOKEN_TYPES:
        break;
    }
}

facet_status facet_tokenizer_piece(const facet_tokenizer *t, uint32_t id, bool special,
                                   facet_text *out, facet_err *err)
{
    // Models pad their vocabulary: an id past the tokenizer's last token has no text.
    if (id < t->n) facet_token_piece(t, id, special, out);
    return facet_text_status(out, err);
}

facet_status facet_tokenizer_decode(const facet_tokenizer *t, const uint32_t *ids, size_t count,
                                    bool special, facet_text *out, facet_err *err)
{
    const size_t start = out->length;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] >= t->n) continue;
        facet_token_piece(t, ids[i], special, out);
        // The space that encoding put before the text goes away again.
        if (i == 0 && t->space_prefix && out->length > start && out->data[start] == ' ') {
            memmove(out->data + start, out->data + start + 1, out->length - start);
            out->length--;
        }
    }
    return facet_text_status(out, err);
}

// ---- questions --------------------------------------------------------------------------------

const char *facet_tokenizer_kind(const facet_tokenizer *t)
{
    static const char *const byte_kinds[FACET_PRETOKEN_COUNT] = {
        [FACET_PRETOKEN_NONE] = "bpe/none",   [FACET_PRETOKEN_DEFAULT] = "bpe/default",
        [FACET_PRETOKEN_GPT2] = "bpe/gpt-2",  [FACET_PRETOKEN_LLAMA3] = "bpe/llama-bpe",
        [FACET_PRETOKEN_QWEN2] = "bpe/qwen2", [FACET_PRETOKEN_SMOLLM] = "bpe/smollm",
    };
    if (t->engine == FACET_ENGINE_BYTES) return byte_kinds[t->pretoken];
    if (t->engine == FACET_ENGINE_SPM) return t->space_prefix ? "spm/llama" : "spm/gemma";
    return t->space_prefix ? "bpe-chars/llama" : "bpe-chars/gemma";
}

uint32_t facet_tokenizer_vocab(const facet_tokenizer *t)
{
    return t->n;
}

bool facet_tokenizer_adds_bos(const facet_tokenizer *t)
{
    return t->add_bos;
}

int64_t facet_tokenizer_bos(const facet_tokenizer *t)
{
    return t->bos;
}

bool facet_tokenizer_is_end(const facet_tokenizer *t, uint32_t id)
{
    return id < t->n && facet_bits_get(t->ends, id);
}

const char *facet_tokenizer_chat(const facet_tokenizer *t)
{
    return facet_chat_name(t->chat.kind);
}
