// SPDX-License-Identifier: Apache-2.0
// Texts of vocabularies in which U+2581 stands for a space: SentencePiece's (pairs by score) and
// BPE over characters (pairs by merges). The whole text is one word; a character without a token
// becomes its bytes. Bytes that are not UTF-8 pass through as they are.
#include <string.h>

#include "model/bpe.h"
#include "model/utf8.h"

#define MARK       "\xe2\x96\x81"
#define MARK_BYTES 3

static void escape(const char *text, size_t bytes, bool space_first, facet_text *out)
{
    if (space_first) facet_text_put(out, MARK, MARK_BYTES);
    for (size_t i = 0; i < bytes;) {
        const char *space = memchr(text + i, ' ', bytes - i);
        const size_t n = space ? (size_t)(space - text) - i : bytes - i;
        facet_text_put(out, text + i, n);
        if (space) facet_text_put(out, MARK, MARK_BYTES);
        i += n + (space ? 1 : 0);
    }
}

// Characters as the first byte announces them, as SentencePiece cuts. BPE knows no symbol without a
// token, so there the bytes are symbols of their own from the start.
static facet_status add_symbols(facet_merger *m, size_t bytes, facet_err *err)
{
    const facet_tokenizer *t = m->tokenizer;
    for (size_t i = 0; i < bytes;) {
        size_t n = facet_utf8_announced((uint8_t)m->text[i]);
        if (n > bytes - i) n = bytes - i;
        const uint32_t id = facet_vocab_find(t, m->text + i, n);
        if (id != FACET_NO_TOKEN || t->engine == FACET_ENGINE_SPM) {
            FACET_TRY(facet_merger_add(m, (uint32_t)i, (uint32_t)n, id, err));
        } else {
            for (size_t j = i; j < i + n; j++)
                FACET_TRY(
                    facet_merger_add(m, (uint32_t)j, 1, t->byte_tokens[(uint8_t)m->text[j]], err));
        }
        i += n;
    }
    return FACET_OK;
}

// The ids of a symbol: its token, else the tokens of its bytes, else the unknown token.
static facet_status put_symbol(const facet_merger *m, const facet_symbol *symbol, facet_ids *ids,
                               facet_err *err)
{
    const facet_tokenizer *t = m->tokenizer;
    if (symbol->id != FACET_NO_TOKEN) return facet_ids_put(ids, symbol->id, err);
    for (uint32_t i = 0; i < symbol->bytes; i++) {
        const uint32_t id = t->byte_tokens[(uint8_t)m->text[symbol->at + i]];
        if (id != FACET_NO_TOKEN) {
            FACET_TRY(facet_ids_put(ids, id, err));
        } else if (t->unknown >= 0) {
            FACET_TRY(facet_ids_put(ids, (uint32_t)t->unknown, err));
        }
    }
    return FACET_OK;
}

static facet_status encode_escaped(const facet_tokenizer *t, const char *text, size_t bytes,
                                   facet_ids *ids, facet_err *err)
{
    facet_merger m = {.tokenizer = t, .alloc = ids->alloc, .text = text};
    facet_status status = FACET_OK;
    FACET_TRY_GOTO(add_symbols(&m, bytes, err), done);
    FACET_TRY_GOTO(facet_merger_run(&m, err), done);
    for (uint32_t i = m.n ? 0 : FACET_NO_TOKEN; i != FACET_NO_TOKEN; i = m.symbols[i].next)
        FACET_TRY_GOTO(put_symbol(&m, &m.symbols[i], ids, err), done);
done:
    facet_merger_fini(&m);
    return status;
}

facet_status facet_spm_encode(const facet_tokenizer *t, const char *text, size_t bytes,
                              bool space_first, facet_ids *ids, facet_err *err)
{
    facet_text escaped;
    facet_text_init(&escaped, ids->alloc);
    escape(text, bytes, space_first, &escaped);
    facet_status status = facet_text_status(&escaped, err);
    if (status == FACET_OK && escaped.length > 0)
        status = encode_escaped(t, escaped.data, escaped.length, ids, err);
    facet_text_fini(&escaped);
    return status;
}
