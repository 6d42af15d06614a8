// SPDX-License-Identifier: Apache-2.0
// Cutting a text at special tokens. The rule is llama.cpp's: the longest token takes its places in
// the whole text from left to right, then the next longest takes what is left, and so on.
//
//     text --(one pass: where does which special token start?)--> hits
//     hits --(longest length first)--> taken stretches --(by place)--> fragments
//
// Going by length rather than by token makes it linear in the text for any number of tokens.
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "model/tokenizer_parts.h"

typedef struct hit {
    size_t at;
    uint32_t longest; // bytes of the longest special token that starts here
} hit;

typedef struct search {
    const facet_tokenizer *t;
    const facet_alloc *alloc;
    const char *text;
    size_t bytes;
    bool special;
    hit *hits;
    size_t n_hits, hit_capacity;
    uint8_t *lengths; // bit set: lengths of the tokens that start somewhere
    uint8_t *taken;   // bit set of bytes
    facet_fragment *found;
    size_t n_found, found_capacity;
} search;

static bool wanted(const search *s, uint32_t id)
{
    return s->special || s->t->tokens[id].type == FACET_TOKEN_USER;
}

// In the sorted specials [low, high), which agree in their first `depth` bytes and are longer:
// those whose next byte is c. Lower bound for c and for c + 1.
static uint32_t bound(const facet_tokenizer *t, uint32_t low, uint32_t high, uint32_t depth,
                      unsigned c)
{
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if ((uint8_t)facet_token_text(t, t->specials[middle])[depth] < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// Calls of `see` for the wanted specials that start at `at`, shorter ones first, are folded into
// one answer: with `length` 0 the longest (noting all lengths), else the one of exactly this
// length.
static uint32_t look(search *s, size_t at, uint32_t length)
{
    const facet_tokenizer *t = s->t;
    const unsigned first = (uint8_t)s->text[at];
    uint32_t low = t->first_special[first], high = t->first_special[first + 1];
    uint32_t best = FACET_NO_TOKEN;
    for (uint32_t depth = 1; low < high; depth++) {
        // Texts of `depth` bytes sort before longer ones.
        while (low < high && t->tokens[t->specials[low]].bytes == depth) {
            const uint32_t id = t->specials[low++];
            if (!wanted(s, id)) continue;
            if (length == depth) return id;
            if (length != 0) continue;
            if (best == FACET_NO_TOKEN || t->tokens[best].bytes < depth) best = id;
            facet_bits_set(s->lengths, depth);
        }
        if (depth == length || at + depth >= s->bytes) break;
        const unsigned c = (uint8_t)s->text[at + depth];
        const uint32_t from = bound(t, low, high, depth, c);
        high = bound(t, from, high, depth, c + 1);
        low = from;
    }
    return best;
}

static facet_status find_hits(search *s, facet_err *err)
{
    const facet_tokenizer *t = s->t;
    for (size_t at = 0; at < s->bytes; at++) {
        const unsigned c = (uint8_t)s->text[at];
        if (t->first_special[c] == t->first_special[c + 1]) continue;
        const uint32_t id = look(s, at, 0);
        if (id == FACET_NO_TOKEN) continue;
        if (s->n_hits == s->hit_capacity) {
            const size_t capacity = s->hit_capacity ? s->hit_capacity * 2 : 64;
            hit *grown = facet_mem_resize(s->alloc, s->hits, capacity, sizeof *grown);
            if (!grown) return facet_fail_memory(err, capacity * sizeof *grown);
            s->hits = grown;
            s->hit_capacity = capacity;
        }
        s->hits[s->n_hits++] = (hit){at, t->tokens[id].bytes};
    }
    return FACET_OK;
}

static facet_status put_fragment(search *s, size_t at, size_t bytes, uint32_t id, facet_err *err)
{
    if (s->n_found == s->found_capacity) {
        const size_t capacity = s->found_capacity ? s->found_capacity * 2 : 16;
        facet_fragment *grown = facet_mem_resize(s->alloc, s->found, capacity, sizeof *grown);
        if (!grown) return facet_fail_memory(err, capacity * sizeof *grown);
        s->found = grown;
        s->found_capacity = capacity;
    }
    s->found[s->n_found++] = (facet_fragment){at, bytes, id};
    return FACET_OK;
}

// Tokens of one length, from left to right. What is taken already is at least as long, so a stretch
// is free if its first and last byte are.
static facet_status take(search *s, uint32_t length, facet_err *err)
{
    for (size_t i = 0; i < s->n_hits; i++) {
        const hit *h = &s->hits[i];
        if (h->longest < length || facet_bits_get(s->taken, h->at) ||
            facet_bits_get(s->taken, h->at + length - 1))
            continue;
        const uint32_t id = look(s, h->at, length);
        if (id == FACET_NO_TOKEN) continue;
        for (size_t j = h->at; j < h->at + length; j++)
            facet_bits_set(s->taken, j);
        FACET_TRY(put_fragment(s, h->at, length, id, err));
    }
    return FACET_OK;
}

static int by_place(const void *a, const void *b)
{
    const facet_fragment *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

// Puts the text between the tokens in its places.
static facet_status fill_gaps(search *s, facet_err *err)
{
    const size_t n_tokens = s->n_found;
    size_t done = 0;
    for (size_t i = 0; i < n_tokens; i++) {
        const facet_fragment token = s->found[i];
        if (token.at > done) FACET_TRY(put_fragment(s, done, token.at - done, FACET_NO_TOKEN, err));
        done = token.at + token.bytes;
    }
    if (s->bytes > done) FACET_TRY(put_fragment(s, done, s->bytes - done, FACET_NO_TOKEN, err));
    if (s->n_found > 1) qsort(s->found, s->n_found, sizeof *s->found, by_place);
    return FACET_OK;
}

static facet_status take_all(search *s, facet_err *err)
{
    uint32_t longest = 0;
    for (uint32_t i = 0; i < s->t->n_specials; i++) {
        const uint32_t bytes = s->t->tokens[s->t->specials[i]].bytes;
        if (bytes > longest) longest = bytes;
    }
    s->lengths = facet_mem_new(s->alloc, facet_bits_bytes((size_t)longest + 1), 1);
    if (!s->lengths) return facet_fail_memory(err, longest);
    FACET_TRY(find_hits(s, err));
    if (s->n_hits == 0) return FACET_OK;
    s->taken = facet_mem_new(s->alloc, facet_bits_bytes(s->bytes), 1);
    if (!s->taken) return facet_fail_memory(err, facet_bits_bytes(s->bytes));
    for (uint32_t length = longest; length > 0; length--) {
        if (facet_bits_get(s->lengths, length)) FACET_TRY(take(s, length, err));
    }
    qsort(s->found, s->n_found, sizeof *s->found, by_place);
    return FACET_OK;
}

facet_status facet_fragments_find(const facet_tokenizer *t, const char *text, size_t bytes,
                                  bool special, const facet_alloc *alloc,
                                  facet_fragment **fragments, size_t *count, facet_err *err)
{
    search s = {.t = t, .alloc = alloc, .text = text, .bytes = bytes, .special = special};
    facet_status status = t->n_specials ? take_all(&s, err) : FACET_OK;
    if (status == FACET_OK) status = fill_gaps(&s, err);
    facet_mem_free(alloc, s.taken);
    facet_mem_free(alloc, s.lengths);
    facet_mem_free(alloc, s.hits);
    if (status != FACET_OK) {
        facet_mem_free(alloc, s.found);
        return status;
    }
    *fragments = s.found;
    *count = s.n_found;
    return FACET_OK;
}
