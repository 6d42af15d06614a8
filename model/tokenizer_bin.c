// SPDX-License-Identifier: Apache-2.0
// tokenizer.bin, the tokenizer of a bundle. Little-endian, no padding, nothing after the end. The
// same tokenizer gives the same bytes.
//
//  1. 8 bytes "FACETTOK"; u32 version, 1.
//  2. u8 engine; u8 pre-tokenizer (the enums of tokenizer_parts.h and pretoken.h, in their order);
//     u8 flags: 1 add BOS, 2 space prefix, 4 ignore merges; u8 chat kind; u8 chat flags: 1 BOS,
//     2 trim, 4 system message last; u8[3] zero.
//  3. i32 BOS, EOS, unknown; -1: none.
//  4. u32 number of tokens n, 1 to 2^24; u32 number of merges; u64 bytes of all texts.
//  5. n times u32: bytes of the text of a token. n times u8: type. n times f32: score (SPM only).
//  6. The texts, one after another.
//  7. ceil(n / 8) bytes: bit set of the tokens that end a text or a turn.
//  8. Merges: u32 left, right, result; in the order of their rank.
//  9. Six chat texts (the enum of chat.h): u32 bytes and the bytes, no zero among them.
//
// Loading checks all of it, and that a merge's result reads as its two sides. The checksum is in
// the manifest of the bundle.
#include <string.h>

#include "base/bits.h"
#include "model/tokenizer_parts.h"

#define MAGIC       "FACETTOK"
#define MAGIC_BYTES 8
#define VERSION     1u
#define HEAD_BYTES  (MAGIC_BYTES + 4 + 8 + 12 + 16)

enum { FLAG_BOS = 1, FLAG_SPACE = 2, FLAG_IGNORE_MERGES = 4, FLAGS = 7 };
enum { CHAT_BOS = 1, CHAT_TRIM = 2, CHAT_LAST = 4, CHAT_FLAGS = 7 };

// ---- save -------------------------------------------------------------------------------------

static void put_number(facet_text *out, uint64_t value, size_t bytes)
{
    uint8_t le[8];
    for (size_t i = 0; i < bytes; i++)
        le[i] = (uint8_t)(value >> (8 * i));
    facet_text_put(out, le, bytes);
}

static void put_u8(facet_text *out, unsigned value)
{
    put_number(out, value, 1);
}
static void put_u32(facet_text *out, uint32_t value)
{
    put_number(out, value, 4);
}

static uint32_t score_bits(float score)
{
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    return bits;
}

static void put_head(const facet_tokenizer *t, facet_text *out)
{
    const facet_chat *chat = &t->chat;
    facet_text_put(out, MAGIC, MAGIC_BYTES);
    put_u32(out, VERSION);
    put_u8(out, t->engine);
    put_u8(out, t->pretoken);
    put_u8(out, (t->add_bos ? FLAG_BOS : 0u) | (t->space_prefix ? FLAG_SPACE : 0u) |
                    (t->ignore_merges ? FLAG_IGNORE_MERGES : 0u));
    put_u8(out, chat->kind);
    put_u8(out, (chat->bos ? CHAT_BOS : 0u) | (chat->trim ? CHAT_TRIM : 0u) |
                    (chat->system_last ? CHAT_LAST : 0u));
    put_number(out, 0, 3);
    put_u32(out, (uint32_t)t->bos);
    put_u32(out, (uint32_t)t->eos);
    put_u32(out, (uint32_t)t->unknown);
    put_u32(out, t->n);
    put_u32(out, t->n_merges);
    put_number(out, t->text_bytes, 8);
}

facet_status facet_tokenizer_save(const facet_tokenizer *t, facet_text *out, facet_err *err)
{
    put_head(t, out);
    for (uint32_t id = 0; id < t->n; id++)
        put_u32(out, t->tokens[id].bytes);
    for (uint32_t id = 0; id < t->n; id++)
        put_u8(out, t->tokens[id].type);
    for (uint32_t id = 0; t->engine == FACET_ENGINE_SPM && id < t->n; id++)
        put_u32(out, score_bits(t->tokens[id].score));
    for (uint32_t id = 0; id < t->n; id++)
        facet_text_put(out, facet_token_text(t, id), t->tokens[id].bytes);
    facet_text_put(out, t->ends, facet_bits_bytes(t->n));
    for (uint32_t i = 0; i < t->n_merges; i++) {
        put_u32(out, t->merges[i].left);
        put_u32(out, t->merges[i].right);
        put_u32(out, t->merges[i].result);
    }
    for (int i = 0; i < FACET_CHAT_TEXTS; i++) {
        const char *text = t->chat.texts[i] ? t->chat.texts[i] : "";
        put_u32(out, (uint32_t)strlen(text));
        facet_text_puts(out, text);
    }
    return facet_text_status(out, err);
}

// ---- load -------------------------------------------------------------------------------------

typedef struct reader {
    const uint8_t *data;
    size_t bytes, at;
    const char *file;
    facet_err *err;
} reader;

static facet_status damaged(const reader *r, const char *what)
{
    return facet_fail_at(r->err, FACET_BAD_FILE, r->file, (int64_t)r->at,
                         "%s: byte %zu: %s; build the bundle anew", r->file, r->at, what);
}

// The next n * size bytes, or NULL when the file ends before them.
static const uint8_t *take(reader *r, size_t n, size_t size)
{
    size_t bytes;
    if (!facet_mul_size(n, size, &bytes) || bytes > r->bytes - r->at) return NULL;
    const uint8_t *at = r->data + r->at;
    r->at += bytes;
    return at;
}

static uint64_t number(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static uint32_t u32_at(const uint8_t *at)
{
    return (uint32_t)number(at, 4);
}

static facet_status read_head(reader *r, facet_tokenizer *t, uint32_t *n, uint32_t *n_merges,
                              uint64_t *text_bytes)
{
    const uint8_t *h = take(r, HEAD_BYTES, 1);
    if (!h || memcmp(h, MAGIC, MAGIC_BYTES) != 0)
        return damaged(r, "this is no tokenizer of facet");
    if (u32_at(h + 8) != VERSION) return damaged(r, "the tokenizer has another version");
    const uint8_t *f = h + 12;
    if (f[0] >= FACET_ENGINE_COUNT || f[1] >= FACET_PRETOKEN_COUNT || f[2] > FLAGS ||
        f[3] >= FACET_CHAT_KINDS || f[4] > CHAT_FLAGS || f[5] || f[6] || f[7])
        return damaged(r, "a kind or flag is unknown");
    t->engine = (facet_engine)f[0];
    t->pretoken = (facet_pretoken)f[1];
    t->add_bos = f[2] & FLAG_BOS;
    t->space_prefix = f[2] & FLAG_SPACE;
    t->ignore_merges = f[2] & FLAG_IGNORE_MERGES;
    t->chat.kind = (facet_chat_kind)f[3];
    t->chat.bos = f[4] & CHAT_BOS;
    t->chat.trim = f[4] & CHAT_TRIM;
    t->chat.system_last = f[4] & CHAT_LAST;
    t->bos = (int32_t)u32_at(h + 20);
    t->eos = (int32_t)u32_at(h + 24);
    t->unknown = (int32_t)u32_at(h + 28);
    *n = u32_at(h + 32);
    *n_merges = u32_at(h + 36);
    *text_bytes = number(h + 40, 8);
    if (*n == 0 || *n > FACET_TOKENS_MAX || *n_merges > FACET_MERGES_MAX)
        return damaged(r, "the number of tokens or merges is out of range");
    if ((t->engine == FACET_ENGINE_BYTES) != (t->pretoken != FACET_PRETOKEN_NONE))
        return damaged(r, "engine and pre-tokenizer do not belong together");
    return FACET_OK;
}

static facet_status read_tokens(reader *r, facet_tokenizer *t, uint32_t n, uint64_t text_bytes)
{
    const uint8_t *lengths = take(r, n, 4), *types = take(r, n, 1), *scores = NULL;
    if (t->engine == FACET_ENGINE_SPM) scores = take(r, n, 4);
    const uint8_t *texts = text_bytes <= SIZE_MAX ? take(r, (size_t)text_bytes, 1) : NULL;
    if (!lengths || !types || !texts || (t->engine == FACET_ENGINE_SPM && !scores))
        return damaged(r, "the file ends inside the tokens");
    for (uint32_t id = 0; id < n; id++) {
        const uint32_t bytes = u32_at(lengths + (size_t)id * 4);
        if (bytes > text_bytes || types[id] >= FACET_TOKEN_TYPES)
            return damaged(r, "a token is longer than all texts or of no known type");
        float score = 0;
        if (scores) {
            const uint32_t bits = u32_at(scores + (size_t)id * 4);
            memcpy(&score, &bits, sizeof score);
        }
        FACET_TRY(facet_vocab_add(t, (const char *)texts, bytes, score, (facet_token_type)types[id],
                                  r->file, r->err));
        texts += bytes;
        text_bytes -= bytes;
    }
    if (text_bytes != 0) return damaged(r, "the tokens are shorter than their texts");
    const uint8_t *ends = take(r, facet_bits_bytes(n), 1);
    if (!ends) return damaged(r, "the file ends inside the end tokens");
    t->ends = facet_mem_new(t->alloc, facet_bits_bytes(n), 1);
    if (!t->ends) return facet_fail_memory(r->err, facet_bits_bytes(n));
    memcpy(t->ends, ends, facet_bits_bytes(n));
    if (facet_bits_count(ends, facet_bits_bytes(n) * 8) != facet_bits_count(ends, n))
        return damaged(r, "an end token is not in the vocabulary");
    return facet_vocab_index(t, r->file, r->err);
}

// Does the result read as the two sides?
static bool merge_fits(const facet_tokenizer *t, const facet_merge *m)
{
    if (m->left >= t->n || m->right >= t->n || m->result >= t->n) return false;
    const size_t left = t->tokens[m->left].bytes, right = t->tokens[m->right].bytes;
    const char *whole = facet_token_text(t, m->result);
    return left > 0 && right > 0 && t->tokens[m->result].bytes == left + right &&
           memcmp(whole, facet_token_text(t, m->left), left) == 0 &&
           memcmp(whole + left, facet_token_text(t, m->right), right) == 0;
}

static facet_status read_merges(reader *r, facet_tokenizer *t, uint32_t n_merges)
{
    const uint8_t *at = take(r, n_merges, 12);
    if (!at) return damaged(r, "the file ends inside the merges");
    t->merges = facet_mem_new(t->alloc, n_merges, sizeof *t->merges);
    if (!t->merges) return facet_fail_memory(r->err, n_merges * sizeof *t->merges);
    for (; t->n_merges < n_merges; t->n_merges++, at += 12) {
        const facet_merge m = {u32_at(at), u32_at(at + 4), u32_at(at + 8)};
        if (!merge_fits(t, &m)) return damaged(r, "a merge does not give its result");
        t->merges[t->n_merges] = m;
    }
    t->merge_capacity = n_merges;
    return FACET_OK;
}

static facet_status read_chat(reader *r, facet_tokenizer *t)
{
    for (int i = 0; i < FACET_CHAT_TEXTS; i++) {
        const uint8_t *length = take(r, 1, 4);
        const uint32_t bytes = length ? u32_at(length) : 0;
        const uint8_t *text = length ? take(r, bytes, 1) : NULL;
        if (!text || memchr(text, 0, bytes))
            return damaged(r, "a text of the chat template is bad");
        if (bytes == 0) continue;
        t->chat.texts[i] = facet_mem_strndup(t->alloc, (const char *)text, bytes);
        if (!t->chat.texts[i]) return facet_fail_memory(r->err, bytes);
    }
    return FACET_OK;
}

static facet_status read_all(reader *r, facet_tokenizer *t)
{
    uint32_t n, n_merges;
    uint64_t text_bytes;
    FACET_TRY(read_head(r, t, &n, &n_merges, &text_bytes));
    FACET_TRY(read_tokens(r, t, n, text_bytes));
    FACET_TRY(read_merges(r, t, n_merges));
    FACET_TRY(read_chat(r, t));
    if (r->at != r->bytes) return damaged(r, "the file goes on after its end");
    return facet_tokenizer_finish(t, r->file, r->err);
}

facet_status facet_tokenizer_load(const void *data, size_t bytes, const char *file,
                                  const facet_alloc *alloc, facet_tokenizer **tokenizer,
                                  facet_err *err)
{
    reader r = {.data = data, .bytes = bytes, .file = file, .err = err};
    facet_tokenizer *t = facet_tokenizer_make(alloc);
    if (!t) return facet_fail_memory(err, sizeof *t);
    const facet_status status = read_all(&r, t);
    if (status != FACET_OK) {
        facet_tokenizer_free(t);
        return status;
    }
    *tokenizer = t;
    return FACET_OK;
}
