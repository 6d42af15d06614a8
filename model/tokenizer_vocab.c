// SPDX-License-Identifier: Apache-2.0
// Building a vocabulary: tokens, the table of their texts, merges, and what is derived from them.
#include <math.h>
#include <string.h>

#include "base/bits.h"
#include "model/tokenizer_parts.h"

facet_tokenizer *facet_tokenizer_make(const facet_alloc *alloc)
{
    facet_tokenizer *t = facet_mem_new(alloc, 1, sizeof *t);
    if (!t) return NULL;
    t->alloc = alloc;
    t->bos = t->eos = t->unknown = -1;
    return t;
}

void facet_tokenizer_free(facet_tokenizer *t)
{
    if (!t) return;
    const facet_alloc *alloc = t->alloc;
    facet_pretokenizer_free(t->pretokenizer);
    facet_chat_fini(&t->chat, alloc);
    facet_mem_free(alloc, t->specials);
    facet_mem_free(alloc, t->ranks);
    facet_mem_free(alloc, t->pairs);
    facet_mem_free(alloc, t->texts);
    facet_mem_free(alloc, t->ends);
    facet_mem_free(alloc, t->merges);
    facet_mem_free(alloc, t->text);
    facet_mem_free(alloc, t->tokens);
    facet_mem_free(alloc, t);
}

static facet_status grow_text(facet_tokenizer *t, size_t bytes, facet_err *err)
{
    const size_t needed = t->text_bytes + bytes + 1; // both are at most FACET_VOCAB_TEXT_MAX
    if (needed <= t->text_capacity) return FACET_OK;
    const size_t capacity = needed < 4096 ? 4096 : needed * 2;
    char *grown = facet_mem_resize(t->alloc, t->text, capacity, 1);
    if (!grown) return facet_fail_memory(err, capacity);
    t->text = grown;
    t->text_capacity = capacity;
    return FACET_OK;
}

facet_status facet_vocab_add(facet_tokenizer *t, const char *text, size_t bytes, float score,
                             facet_token_type type, const char *file, facet_err *err)
{
    if (t->n >= FACET_TOKENS_MAX || bytes > FACET_VOCAB_TEXT_MAX - t->text_bytes)
        return facet_fail_at(err, FACET_UNSUPPORTED, file, t->n,
                             "%s: vocabulary: more than %u tokens or a gigabyte of text; "
                             "facet has no use for such a model",
                             file, FACET_TOKENS_MAX);
    if (!isfinite(score))
        return facet_fail_at(err, FACET_BAD_FILE, file, t->n,
                             "%s: token %u: its score is not a number; make the file anew", file,
                             t->n);
    if (t->n == t->token_capacity) {
        const uint32_t capacity = t->token_capacity ? t->token_capacity * 2 : 256;
        facet_token *grown = facet_mem_resize(t->alloc, t->tokens, capacity, sizeof *grown);
        if (!grown) return facet_fail_memory(err, capacity * sizeof *grown);
        t->tokens = grown;
        t->token_capacity = capacity;
    }
    FACET_TRY(grow_text(t, bytes, err));
    if (bytes) memcpy(t->text + t->text_bytes, text, bytes);
    t->tokens[t->n++] =
        (facet_token){(uint32_t)t->text_bytes, (uint32_t)bytes, score, (uint8_t)type};
    t->text_bytes += bytes;
    return FACET_OK;
}

// ---- the table of texts -----------------------------------------------------------------------

static uint32_t text_hash(const char *text, size_t bytes)
{
    uint64_t h = 0xcbf29ce484222325u ^ bytes; // FNV-1a, then mixed: its low bits are weak
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ (uint8_t)text[i]) * 0x100000001b3u;
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32);
}

static bool has_text(const facet_tokenizer *t, uint32_t id, const char *text, size_t bytes)
{
    return t->tokens[id].bytes == bytes && memcmp(facet_token_text(t, id), text, bytes) == 0;
}

// The slot of a text, or the empty one where it belongs.
static facet_text_slot *text_slot(const facet_tokenizer *t, const char *text, size_t bytes)
{
    const uint32_t hash = text_hash(text, bytes);
    for (uint32_t i = hash & t->text_mask;; i = (i + 1) & t->text_mask) {
        facet_text_slot *slot = &t->texts[i];
        if (slot->id == FACET_NO_TOKEN ||
            (slot->hash == hash && has_text(t, slot->id, text, bytes))) {
            if (slot->id == FACET_NO_TOKEN) slot->hash = hash;
            return slot;
        }
    }
}

uint32_t facet_vocab_find(const facet_tokenizer *t, const char *text, size_t bytes)
{
    if (bytes == 0 || bytes > t->longest) return FACET_NO_TOKEN;
    const uint32_t hash = text_hash(text, bytes);
    for (uint32_t i = hash & t->text_mask;; i = (i + 1) & t->text_mask) {
        const facet_text_slot *slot = &t->texts[i];
        if (slot->id == FACET_NO_TOKEN) return FACET_NO_TOKEN;
        if (slot->hash == hash && has_text(t, slot->id, text, bytes)) return slot->id;
    }
}

static bool is_normal(const facet_token *token)
{
    return token->type == FACET_TOKEN_NORMAL || token->type == FACET_TOKEN_BYTE;
}

// Normal tokens go first: a special token may have the text that a normal one has after decoding
// from the byte alphabet, and must not hide it.
static facet_status insert_texts(facet_tokenizer *t, bool normal, const char *file, facet_err *err)
{
    for (uint32_t id = 0; id < t->n; id++) {
        const facet_token *token = &t->tokens[id];
        if (token->bytes == 0 || token->type == FACET_TOKEN_LITERAL || is_normal(token) != normal)
            continue;
        facet_text_slot *slot = text_slot(t, facet_token_text(t, id), token->bytes);
        if (slot->id == FACET_NO_TOKEN) {
            slot->id = id;
            if (token->bytes > t->longest) t->longest = token->bytes;
        } else if (is_normal(&t->tokens[slot->id]) == normal) {
            return facet_fail_at(err, FACET_BAD_FILE, file, id,
                                 "%s: tokens %u and %u have the same text; make the file anew",
                                 file, slot->id, id);
        }
    }
    return FACET_OK;
}

facet_status facet_vocab_index(facet_tokenizer *t, const char *file, facet_err *err)
{
    if (t->n == 0)
        return facet_fail_at(err, FACET_BAD_FILE, file, -1,
                             "%s: the vocabulary is empty; make the file anew", file);
    uint32_t slots = 16;
    while (slots < t->n * 2)
        slots *= 2;
    t->texts = facet_mem_resize(t->alloc, NULL, slots, sizeof *t->texts);
    if (!t->texts) return facet_fail_memory(err, slots * sizeof *t->texts);
    t->text_mask = slots - 1;
    for (uint32_t i = 0; i < slots; i++)
        t->texts[i] = (facet_text_slot){FACET_NO_TOKEN, 0};
    FACET_TRY(insert_texts(t, true, file, err));
    return insert_texts(t, false, file, err);
}

// ---- merges -----------------------------------------------------------------------------------

facet_status facet_vocab_add_merge(facet_tokenizer *t, const char *left, size_t left_bytes,
                                   const char *right, size_t right_bytes, const char *file,
                                   facet_err *err)
{
    if (t->n_merges >= FACET_MERGES_MAX)
        return facet_fail_at(err, FACET_UNSUPPORTED, file, t->n_merges,
                             "%s: more than %u merges; facet has no use for such a model", file,
                             FACET_MERGES_MAX);
    facet_merge m = {facet_vocab_find(t, left, left_bytes), facet_vocab_find(t, right, right_bytes),
                     FACET_NO_TOKEN};
    char whole[FACET_MERGE_BYTES];
    if (left_bytes + right_bytes <= sizeof whole && left_bytes && right_bytes) {
        memcpy(whole, left, left_bytes);
        memcpy(whole + left_bytes, right, right_bytes);
        m.result = facet_vocab_find(t, whole, left_bytes + right_bytes);
    }
    if (m.left == FACET_NO_TOKEN || m.right == FACET_NO_TOKEN || m.result == FACET_NO_TOKEN)
        return facet_fail_at(err, FACET_BAD_FILE, file, t->n_merges,
                             "%s: merge %u: a side or the result is no token of the vocabulary; "
                             "make the file anew",
                             file, t->n_merges);
    if (t->n_merges == t->merge_capacity) {
        const uint32_t capacity = t->merge_capacity ? t->merge_capacity * 2 : 256;
        facet_merge *grown = facet_mem_resize(t->alloc, t->merges, capacity, sizeof *grown);
        if (!grown) return facet_fail_memory(err, capacity * sizeof *grown);
        t->merges = grown;
        t->merge_capacity = capacity;
    }
    t->merges[t->n_merges++] = m;
    return FACET_OK;
}

// ---- derived ----------------------------------------------------------------------------------

// Scores as unsigned numbers that fall where the score rises. +0 and -0 are one score.
static facet_status build_ranks(facet_tokenizer *t, facet_err *err)
{
    t->ranks = facet_mem_resize(t->alloc, NULL, t->n, sizeof *t->ranks);
    if (!t->ranks) return facet_fail_memory(err, t->n * sizeof *t->ranks);
    for (uint32_t id = 0; id < t->n; id++) {
        union {
            float f;
            uint32_t u;
        } v = {.f = t->tokens[id].score + 0.0f};
        const uint32_t rising = v.u & 0x80000000u ? ~v.u : v.u | 0x80000000u;
        t->ranks[id] = ~rising;
    }
    return FACET_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

bool facet_token_byte(const facet_tokenizer *t, uint32_t id, uint8_t *byte)
{
    const char *s = facet_token_text(t, id);
    if (t->tokens[id].bytes != FACET_BYTE_TOKEN_BYTES || memcmp(s, "<0x", 3) != 0 || s[5] != '>')
        return false;
    const int high = hex_digit(s[3]), low = hex_digit(s[4]);
    if (high < 0 || low < 0) return false;
    *byte = (uint8_t)(high * 16 + low);
    return true;
}

// A byte's token: <0xXX>, else (and always for byte-level BPE) the token of that one byte.
static void build_byte_tokens(facet_tokenizer *t)
{
    static const char digits[] = "0123456789ABCDEF";
    for (unsigned b = 0; b < 256; b++) {
        const char name[FACET_BYTE_TOKEN_BYTES] = {'<', '0', 'x', digits[b >> 4], digits[b & 15],
                                                   '>'};
        const char raw = (char)(uint8_t)b;
        uint32_t id = FACET_NO_TOKEN;
        if (t->engine != FACET_ENGINE_BYTES) id = facet_vocab_find(t, name, sizeof name);
        if (id == FACET_NO_TOKEN) id = facet_vocab_find(t, &raw, 1);
        t->byte_tokens[b] = id;
    }
}

static facet_status check_tokens(const facet_tokenizer *t, const char *file, facet_err *err)
{
    uint8_t byte;
    for (uint32_t id = 0; id < t->n; id++) {
        if (t->tokens[id].type == FACET_TOKEN_BYTE && !facet_token_byte(t, id, &byte))
            return facet_fail_at(err, FACET_BAD_FILE, file, id,
                                 "%s: token %u is marked as a byte but does not read <0xXX>; "
                                 "make the file anew",
                                 file, id);
    }
    const int64_t named[] = {t->bos, t->eos, t->unknown};
    for (size_t i = 0; i < FACET_COUNT_OF(named); i++) {
        if (named[i] < -1 || named[i] >= (int64_t)t->n)
            return facet_fail_at(err, FACET_BAD_FILE, file, -1,
                                 "%s: special token id %lld is not in the vocabulary of %u; "
                                 "make the file anew",
                                 file, (long long)named[i], t->n);
    }
    if (t->add_bos && t->bos < 0)
        return facet_fail_at(err, FACET_BAD_FILE, file, -1,
                             "%s: the model asks for a BOS token and has none; make the file anew",
                             file);
    return FACET_OK;
}

facet_status facet_tokenizer_finish(facet_tokenizer *t, const char *file, facet_err *err)
{
    FACET_TRY(check_tokens(t, file, err));
    if (!t->ends) {
        t->ends = facet_mem_new(t->alloc, facet_bits_bytes(t->n), 1);
        if (!t->ends) return facet_fail_memory(err, facet_bits_bytes(t->n));
    }
    build_byte_tokens(t);
    FACET_TRY(facet_specials_build(t, err));
    if (t->engine == FACET_ENGINE_SPM) return build_ranks(t, err);
    FACET_TRY(facet_pairs_build(t, err));
    if (t->engine == FACET_ENGINE_CHARS) return FACET_OK;
    return facet_pretokenizer_new(t->pretoken, t->alloc, &t->pretokenizer, err);
}
