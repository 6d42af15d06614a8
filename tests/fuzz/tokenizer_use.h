// SPDX-License-Identifier: Apache-2.0
// What the fuzz harnesses do with a tokenizer that loads.
#ifndef FACET_FUZZ_TOKENIZER_USE_H
#define FACET_FUZZ_TOKENIZER_USE_H

#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_parts.h"

static inline void facet_fuzz_encode(const facet_tokenizer *t, const char *text, size_t bytes,
                                     int flags)
{
    facet_tokens tokens = {0};
    facet_text out;
    facet_text_init(&out, NULL);
    if (facet_tokenizer_encode(t, text, bytes, flags & 1, flags & 2, NULL, &tokens, NULL) !=
        FACET_OK)
        abort();
    for (size_t i = 0; i < tokens.count; i++)
        if (tokens.ids[i] >= facet_tokenizer_vocab(t)) abort();
    if (facet_tokenizer_decode(t, tokens.ids, tokens.count, flags & 2, &out, NULL) != FACET_OK)
        abort();
    facet_text_fini(&out);
    free(tokens.ids);
}

static inline void facet_fuzz_chat(const facet_tokenizer *t, const uint8_t *data, size_t size)
{
    facet_tokens tokens = {0};
    char *content = facet_mem_strndup(NULL, (const char *)data, size);
    if (!content) abort();
    const facet_message messages[] = {{"system", content}, {"user", content}};
    if (facet_tokenizer_chat_encode(t, messages, 2, true, NULL, &tokens, NULL) != FACET_OK) abort();
    free(tokens.ids);
    free(content);
}

static inline void facet_fuzz_use(const facet_tokenizer *t, const uint8_t *data, size_t size)
{
    facet_tokenizer *again = NULL;
    facet_text first, second;
    facet_text_init(&first, NULL);
    facet_text_init(&second, NULL);
    for (int flags = 0; flags < 4; flags++)
        facet_fuzz_encode(t, (const char *)data, size, flags);
    facet_fuzz_chat(t, data, size);
    // What one tokenizer saves, another loads, and saves again the same.
    if (facet_tokenizer_save(t, &first, NULL) != FACET_OK ||
        facet_tokenizer_load(first.data, first.length, "f", NULL, &again, NULL) != FACET_OK ||
        facet_tokenizer_save(again, &second, NULL) != FACET_OK || first.length != second.length ||
        memcmp(first.data, second.data, first.length) != 0)
        abort();
    facet_tokenizer_free(again);
    facet_text_fini(&first);
    facet_text_fini(&second);
}

#endif
