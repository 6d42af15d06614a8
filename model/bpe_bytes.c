// SPDX-License-Identifier: Apache-2.0
// Byte-level BPE: text -> valid characters -> words (pretoken.c) -> bytes -> merges -> ids.
#include <string.h>

#include "model/bpe.h"
#include "model/utf8.h"

// Is the text what writing its characters anew would give, and fit for PCRE2?
static bool is_clean(const char *text, size_t bytes)
{
    char again[4];
    size_t taken;
    for (size_t i = 0; i < bytes; i += taken) {
        const uint32_t c = facet_utf8_get(text + i, bytes - i, &taken);
        if (c < 0x80 && taken == 1) continue;
        if (facet_utf8_surrogate(c) || facet_utf8_put(c, again) != taken ||
            memcmp(again, text + i, taken) != 0)
            return false;
    }
    return true;
}

// `out` gets every character written anew (so bad bytes become U+FFFD). `shape` is the same for the
// pre-tokenizer, which does not take surrogates: a private-use character of the same length and
// kind stands for each.
static void clean(const char *text, size_t bytes, facet_text *out, facet_text *shape)
{
    char again[4];
    size_t taken;
    for (size_t i = 0; i < bytes; i += taken) {
        const uint32_t c = facet_utf8_get(text + i, bytes - i, &taken);
        const size_t n = facet_utf8_put(c, again);
        facet_text_put(out, again, n);
        facet_text_put(shape, facet_utf8_surrogate(c) ? "\xee\x80\x80" : again, n);
    }
}

static facet_status encode_word(facet_merger *m, uint32_t from, uint32_t to, facet_ids *ids,
                                facet_err *err)
{
    const facet_tokenizer *t = m->tokenizer;
    if (t->ignore_merges) {
        const uint32_t id = facet_vocab_find(t, m->text + from, to - from);
        if (id != FACET_NO_TOKEN) return facet_ids_put(ids, id, err);
    }
    m->n = 0;
    for (uint32_t i = from; i < to; i++)
        FACET_TRY(facet_merger_add(m, i, 1, t->byte_tokens[(uint8_t)m->text[i]], err));
    FACET_TRY(facet_merger_run(m, err));
    for (uint32_t i = 0; i != FACET_NO_TOKEN; i = m->symbols[i].next) {
        // A byte without a token is left out: some vocabularies lack rare control characters.
        if (m->symbols[i].id != FACET_NO_TOKEN)
            FACET_TRY(facet_ids_put(ids, m->symbols[i].id, err));
    }
    return FACET_OK;
}

static facet_status encode_words(const facet_tokenizer *t, const char *text, const char *shape,
                                 size_t bytes, facet_ids *ids, facet_err *err)
{
    uint32_t *ends = NULL;
    size_t count = 0;
    FACET_TRY(
        facet_pretokenizer_run(t->pretokenizer, shape, bytes, ids->alloc, &ends, &count, err));
    facet_merger merger = {.tokenizer = t, .alloc = ids->alloc, .text = text};
    facet_status status = FACET_OK;
    uint32_t from = 0;
    for (size_t i = 0; i < count && status == FACET_OK; i++) {
        status = encode_word(&merger, from, ends[i], ids, err);
        from = ends[i];
    }
    facet_merger_fini(&merger);
    facet_mem_free(ids->alloc, ends);
    return status;
}

facet_status facet_bytes_encode(const facet_tokenizer *t, const char *text, size_t bytes,
                                facet_ids *ids, facet_err *err)
{
    if (is_clean(text, bytes)) return encode_words(t, text, text, bytes, ids, err);
    facet_text cleaned, shape;
    facet_text_init(&cleaned, ids->alloc);
    facet_text_init(&shape, ids->alloc);
    clean(text, bytes, &cleaned, &shape);
    facet_status status = facet_text_status(&cleaned, err);
    if (status == FACET_OK) status = facet_text_status(&shape, err);
    if (status == FACET_OK)
        status = encode_words(t, cleaned.data, shape.data, cleaned.length, ids, err);
    facet_text_fini(&cleaned);
    facet_text_fini(&shape);
    return status;
}
