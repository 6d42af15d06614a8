// SPDX-License-Identifier: Apache-2.0
// GPT-2's byte alphabet. Vocabularies of byte-level BPE are written in it; ours keep the bytes
// meant.
#include <string.h>

#include "model/tokenizer_parts.h"
#include "model/utf8.h"

bool facet_alphabet_decode(const char *text, size_t bytes, char *out, size_t *out_bytes)
{
    size_t n = 0, taken;
    for (size_t i = 0; i < bytes; i += taken) {
        uint32_t c = facet_utf8_get(text + i, bytes - i, &taken);
        // Printable Latin-1 stands for itself; U+0100 on for the other bytes in rising order: 0x00
        // to 0x20, 0x7f to 0xa0, 0xad.
        if (c >= 0x100 && c <= 0x120)
            c -= 0x100;
        else if (c >= 0x121 && c <= 0x142)
            c = c - 0x121 + 0x7f;
        else if (c == 0x143)
            c = 0xad;
        else if (c > 0xff || c <= 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0xad)
            return false;
        out[n++] = (char)(uint8_t)c;
    }
    *out_bytes = n;
    return true;
}

facet_status facet_vocab_add_alphabet(facet_tokenizer *t, const char *text, size_t bytes,
                                      const char *file, facet_err *err)
{
    char few[256], *decoded = few;
    size_t n = 0;
    if (bytes > sizeof few) {
        decoded = facet_mem_resize(t->alloc, NULL, bytes, 1);
        if (!decoded) return facet_fail_memory(err, bytes);
    }
    facet_status status;
    if (facet_alphabet_decode(text, bytes, decoded, &n))
        status = facet_vocab_add(t, decoded, n, 0, FACET_TOKEN_NORMAL, file, err);
    else
        status = facet_vocab_add(t, text, bytes, 0, FACET_TOKEN_LITERAL, file, err);
    if (decoded != few) facet_mem_free(t->alloc, decoded);
    return status;
}

facet_status facet_vocab_add_merge_alphabet(facet_tokenizer *t, const char *left, size_t left_bytes,
                                            const char *right, size_t right_bytes, const char *file,
                                            facet_err *err)
{
    // A side that is too long for a token, or not of the alphabet, is refused as "no token".
    char l[FACET_MERGE_BYTES], r[FACET_MERGE_BYTES];
    size_t l_bytes = 0, r_bytes = 0;
    if (left_bytes > sizeof l || !facet_alphabet_decode(left, left_bytes, l, &l_bytes)) l_bytes = 0;
    if (right_bytes > sizeof r || !facet_alphabet_decode(right, right_bytes, r, &r_bytes))
        r_bytes = 0;
    return facet_vocab_add_merge(t, l, l_bytes, r, r_bytes, file, err);
}
