// SPDX-License-Identifier: Apache-2.0
// The inside of a tokenizer, for the tokenizer's own files alone. A front end (tokenizer_gguf.c,
// tokenizer_json.c, tokenizer_bin.c) fills the vocabulary; facet_tokenizer_finish derives the
// indexes from it; from then on nothing changes, so that threads may share it.
#ifndef FACET_MODEL_TOKENIZER_PARTS_H
#define FACET_MODEL_TOKENIZER_PARTS_H

#include "base/memory.h"
#include "model/chat.h"
#include "model/pretoken.h"
#include "model/tokenizer.h"

#define FACET_TOKENS_MAX       (1u << 24) // ids are below this
#define FACET_MERGES_MAX       (1u << 24)
#define FACET_NO_TOKEN         UINT32_MAX
#define FACET_BYTE_TOKEN_BYTES 6u    // "<0xXX>"
#define FACET_MERGE_BYTES      2048u // of a merged token at most; runs of spaces reach 256
#define FACET_TEXT_MAX         ((size_t)1 << 30) // of one text to encode: indices have 32 bits
#define FACET_VOCAB_TEXT_MAX   ((size_t)1 << 30)

// Numbers 0 to 6 are GGUF's; 7 is ours.
typedef enum facet_token_type {
    FACET_TOKEN_UNDEFINED,
    FACET_TOKEN_NORMAL,
    FACET_TOKEN_UNKNOWN,
    FACET_TOKEN_CONTROL, // found in text only when special tokens are recognised
    FACET_TOKEN_USER,    // found in text before anything else, always
    FACET_TOKEN_UNUSED,  // never made, decodes to nothing
    FACET_TOKEN_BYTE,
    FACET_TOKEN_LITERAL, // decodes to its text, never made (a normal token outside the byte
                         // alphabet)
    FACET_TOKEN_TYPES
} facet_token_type;

typedef enum facet_engine {
    FACET_ENGINE_BYTES, // BPE over bytes after a pre-tokenizer; texts are stored as the bytes meant
    FACET_ENGINE_CHARS, // BPE over characters with byte fallback; U+2581 stands for a space
    FACET_ENGINE_SPM,   // SentencePiece: pairs by the score of the token they make; U+2581 too
    FACET_ENGINE_COUNT
} facet_engine;

typedef struct facet_token {
    uint32_t at, bytes; // in facet_tokenizer.text
    float score;
    uint8_t type;
} facet_token;

typedef struct facet_merge { // in the order of their rank
    uint32_t left, right, result;
} facet_merge;

typedef struct facet_text_slot {
    uint32_t id, hash;
} facet_text_slot;

typedef struct facet_pair_slot {
    uint32_t left, right, rank, result;
} facet_pair_slot;

struct facet_tokenizer {
    const facet_alloc *alloc;

    // The vocabulary, as tokenizer.bin holds it.
    facet_engine engine;
    facet_pretoken pretoken;
    bool add_bos, space_prefix, ignore_merges;
    int64_t bos, eos, unknown; // -1: none
    facet_token *tokens;       // (n)
    uint32_t n, token_capacity;
    char *text;
    size_t text_bytes, text_capacity;
    facet_merge *merges; // (n_merges)
    uint32_t n_merges, merge_capacity;
    uint8_t *ends; // bit set of n: tokens that end a text or a turn
    facet_chat chat;

    // Derived.
    facet_text_slot *texts; // open addressing, text_mask + 1 slots
    uint32_t text_mask;
    facet_pair_slot *pairs; // open addressing, pair_mask + 1 slots
    uint32_t pair_mask;
    uint32_t *ranks;           // SPM: (n) the smaller, the sooner a pair becomes this token
    uint32_t byte_tokens[256]; // token of a byte (bytes: of that one byte; else <0xXX>), or none
    uint32_t longest;          // bytes of the longest text in `texts`
    uint32_t *specials;        // control, user and unknown tokens in byte order of their texts
    uint32_t n_specials;
    uint32_t first_special[257];      // specials whose first byte is below c: [0, first_special[c])
    facet_pretokenizer *pretokenizer; // NULL but for ENGINE_BYTES
};

// ---- making one -------------------------------------------------------------------------------

// A zeroed tokenizer without tokens, or NULL. Free with facet_tokenizer_free at any stage.
facet_tokenizer *facet_tokenizer_make(const facet_alloc *alloc);
// Adds token n. `file` is only named in errors.
facet_status facet_vocab_add(facet_tokenizer *t, const char *text, size_t bytes, float score,
                             facet_token_type type, const char *file, facet_err *err);
// Builds the table of texts; a text that two tokens of one kind have is an error. After it no token
// may be added.
facet_status facet_vocab_index(facet_tokenizer *t, const char *file, facet_err *err);
// The token whose text this is, or FACET_NO_TOKEN.
uint32_t facet_vocab_find(const facet_tokenizer *t, const char *text, size_t bytes);
// Adds the merge of the next rank. The tokens are to be found by the texts of the two sides.
facet_status facet_vocab_add_merge(facet_tokenizer *t, const char *left, size_t left_bytes,
                                   const char *right, size_t right_bytes, const char *file,
                                   facet_err *err);
// The rule of names: tokens that look like control tokens become such, and those that end a text
// or a turn are noted. `ids` are what the metadata names.
typedef struct facet_vocab_ids {
    int64_t eot, eom, fim_pre, fim_suf, fim_mid, fim_pad, fim_rep, fim_sep; // -1: not named
} facet_vocab_ids;
#define FACET_VOCAB_IDS_NONE                                                                       \
    {                                                                                              \
        -1, -1, -1, -1, -1, -1, -1, -1                                                             \
    }
facet_status facet_vocab_name(facet_tokenizer *t, const facet_vocab_ids *ids, facet_err *err);
// Checks the whole vocabulary and builds what is derived.
facet_status facet_tokenizer_finish(facet_tokenizer *t, const char *file, facet_err *err);
// Its two steps that live elsewhere: the table of merges and the sorted list of special tokens.
facet_status facet_pairs_build(facet_tokenizer *t, facet_err *err);
facet_status facet_specials_build(facet_tokenizer *t, facet_err *err);
// The byte that a token <0xXX> stands for; false for another text.
bool facet_token_byte(const facet_tokenizer *t, uint32_t id, uint8_t *byte);

struct facet_gguf;
// Tokens of id `limit` and above are a mismatch: the model has no embedding for them.
facet_status facet_tokenizer_from_gguf(const struct facet_gguf *gguf, const char *file,
                                       uint32_t limit, facet_tokenizer *t, facet_err *err);
// The texts of tokenizer.json and tokenizer_config.json (NULL: none) and chat_template.jinja (NULL:
// none). Tokens from id `limit` on are left out.
typedef struct facet_tokenizer_texts {
    const char *file; // named in errors
    const char *tokenizer, *config, *chat;
    size_t tokenizer_bytes, config_bytes, chat_bytes;
    uint32_t limit;
} facet_tokenizer_texts;
facet_status facet_tokenizer_from_json(const facet_tokenizer_texts *texts, facet_tokenizer *t,
                                       facet_err *err);
// Reads these texts from a model's directory.
facet_status facet_tokenizer_from_directory(const char *directory, uint32_t limit,
                                            facet_tokenizer *t, facet_err *err);

// GPT-2's alphabet, in which byte-level vocabularies are written: every byte is a printable
// character. Writes at most `bytes` bytes to `out`; false when a character is not of the alphabet.
bool facet_alphabet_decode(const char *text, size_t bytes, char *out, size_t *out_bytes);
// Adds the normal token that is written so; outside the alphabet it becomes FACET_TOKEN_LITERAL.
facet_status facet_vocab_add_alphabet(facet_tokenizer *t, const char *text, size_t bytes,
                                      const char *file, facet_err *err);
// facet_vocab_add_merge for sides written so.
facet_status facet_vocab_add_merge_alphabet(facet_tokenizer *t, const char *left, size_t left_bytes,
                                            const char *right, size_t right_bytes, const char *file,
                                            facet_err *err);

// ---- using one --------------------------------------------------------------------------------

typedef struct facet_ids {
    const facet_alloc *alloc;
    uint32_t *ids;
    size_t count, capacity;
} facet_ids;

facet_status facet_ids_put(facet_ids *ids, uint32_t id, facet_err *err);

// A stretch of text between special tokens, or a special token.
typedef struct facet_fragment {
    size_t at, bytes;
    uint32_t id; // FACET_NO_TOKEN: text
} facet_fragment;
// Cuts text at special tokens: longer ones first, then from left to right. Without `special` only
// user tokens count. Free *fragments with facet_mem_free.
facet_status facet_fragments_find(const facet_tokenizer *t, const char *text, size_t bytes,
                                  bool special, const facet_alloc *alloc,
                                  facet_fragment **fragments, size_t *count, facet_err *err);
// Appends the ids of a text. *after_special: does it follow a special token or the start (where
// SentencePiece may put a space)? Updated for what comes next.
facet_status facet_encode_append(const facet_tokenizer *t, const char *text, size_t bytes,
                                 bool special, bool *after_special, facet_ids *ids, facet_err *err);
// Appends the bytes of one token.
void facet_token_piece(const facet_tokenizer *t, uint32_t id, bool special, facet_text *out);

static inline const char *facet_token_text(const facet_tokenizer *t, uint32_t id)
{
    return t->text + t->tokens[id].at;
}

#endif
