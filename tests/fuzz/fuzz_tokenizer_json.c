// SPDX-License-Identifier: Apache-2.0
// tokenizer.json, tokenizer_config.json and a text, with zero bytes between them; the tokenizer, if
// it loads, encodes the text, and what it saves must load again.
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/tokenizer_use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The part up to the next zero byte.
static const char *part(const uint8_t **data, size_t *size, size_t *bytes)
{
    const char *start = (const char *)*data;
    const uint8_t *zero = *size ? memchr(*data, 0, *size) : NULL;
    *bytes = zero ? (size_t)(zero - *data) : *size;
    const size_t step = zero ? *bytes + 1 : *bytes;
    *data += step;
    *size -= step;
    return start;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    facet_tokenizer_texts texts = {.file = "tokenizer.json", .limit = 4096};
    if (size > 1 << 16) return 0;
    texts.tokenizer = part(&data, &size, &texts.tokenizer_bytes);
    texts.config = part(&data, &size, &texts.config_bytes);
    if (texts.config_bytes == 0) texts.config = NULL;
    facet_tokenizer *t = facet_tokenizer_make(NULL);
    if (!t) abort();
    facet_err err = {0};
    if (facet_tokenizer_from_json(&texts, t, &err) == FACET_OK) facet_fuzz_use(t, data, size);
    facet_tokenizer_free(t);
    return 0;
}
