// SPDX-License-Identifier: Apache-2.0
// tokenizer.bin; the tokenizer, if it loads, encodes the end of the same bytes.
#include "tests/fuzz/tokenizer_use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    facet_tokenizer *t = NULL;
    facet_err err = {0};
    if (size > 1 << 16 ||
        facet_tokenizer_load(data, size, "tokenizer.bin", NULL, &t, &err) != FACET_OK)
        return 0;
    const size_t tail = size < 300 ? size : 300;
    facet_fuzz_use(t, data + size - tail, tail);
    facet_tokenizer_free(t);
    return 0;
}
