// SPDX-License-Identifier: Apache-2.0
// Tokenizers: byte-level BPE (gpt-2, llama-bpe, qwen2, smollm pre-tokenizers, by PCRE2) and
// SentencePiece-style (gemma, llama), with special tokens and byte fallback; chat templates.
// In: the vocabulary of a model, or a tokenizer.bin of a bundle. Out: ids equal to llama.cpp's.
#ifndef FACET_MODEL_TOKENIZER_H
#define FACET_MODEL_TOKENIZER_H

#include "base/text.h"

struct facet_model;
typedef struct facet_tokenizer facet_tokenizer;

// From an open model (GGUF metadata or tokenizer.json + tokenizer_config.json). The tokenizer keeps
// nothing of the model. Free with facet_tokenizer_free.
facet_status facet_tokenizer_new(const struct facet_model *model, facet_tokenizer **tokenizer,
                                 facet_err *err);
void facet_tokenizer_free(facet_tokenizer *tokenizer);
// tokenizer.bin: the format is at the top of model/tokenizer_bin.c. `save` appends to `out`; `load`
// checks everything and copies what it keeps; `file` is only named in errors.
facet_status facet_tokenizer_save(const facet_tokenizer *tokenizer, facet_text *out,
                                  facet_err *err);
facet_status facet_tokenizer_load(const void *data, size_t bytes, const char *file,
                                  const facet_alloc *alloc, facet_tokenizer **tokenizer,
                                  facet_err *err);

typedef struct facet_tokens {
    uint32_t *ids; // free with facet_mem_free(alloc, ids)
    size_t count;
} facet_tokens;

// parse_special: special tokens in the text become their ids; add_bos: put BOS first if the model
// asks for it (as llama.cpp decides). Thread-safe.
facet_status facet_tokenizer_encode(const facet_tokenizer *tokenizer, const char *text,
                                    size_t bytes, bool add_bos, bool parse_special,
                                    const facet_alloc *alloc, facet_tokens *tokens, facet_err *err);
// The bytes of ids, special tokens included as their text when `special`.
facet_status facet_tokenizer_decode(const facet_tokenizer *tokenizer, const uint32_t *ids,
                                    size_t count, bool special, facet_text *out, facet_err *err);

// The bytes of one id, for text that appears token by token. Unlike decode it knows no first token:
// decode takes away the space that a SentencePiece model puts before a text.
facet_status facet_tokenizer_piece(const facet_tokenizer *tokenizer, uint32_t id, bool special,
                                   facet_text *out, facet_err *err);

const char *facet_tokenizer_kind(const facet_tokenizer *tokenizer); // "bpe/qwen2", "spm/gemma" ...
uint32_t facet_tokenizer_vocab(const facet_tokenizer *tokenizer);
bool facet_tokenizer_adds_bos(const facet_tokenizer *tokenizer);
int64_t facet_tokenizer_bos(const facet_tokenizer *tokenizer);              // -1: none
bool facet_tokenizer_is_end(const facet_tokenizer *tokenizer, uint32_t id); // EOS, EOT, EOM

// ---- chat templates -------------------------------------------------------------------------

typedef struct facet_message {
    const char *role; // "system", "user", "assistant"
    const char *content;
} facet_message;

// "chatml", "llama3", "gemma", "mistral", or "none" (unknown or absent: prompts stay raw).
const char *facet_tokenizer_chat(const facet_tokenizer *tokenizer);
// Ids of a conversation through the template; special tokens of the template only, never of the
// contents. generation: end with the opening of the assistant's turn. With chat "none" the
// contents are joined by newlines, as a raw prompt with BOS if asked for.
facet_status facet_tokenizer_chat_encode(const facet_tokenizer *tokenizer,
                                         const facet_message *messages, size_t n_messages,
                                         bool generation, const facet_alloc *alloc,
                                         facet_tokens *tokens, facet_err *err);
// Ids that end an assistant's turn after its text (for completions), appended by the caller.
facet_status facet_tokenizer_chat_end(const facet_tokenizer *tokenizer, const facet_alloc *alloc,
                                      facet_tokens *tokens, facet_err *err);

#endif
