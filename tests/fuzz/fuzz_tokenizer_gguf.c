// SPDX-License-Identifier: Apache-2.0
// The tokenizer metadata of a GGUF file; the tokenizer, if it loads, encodes the end of the same
// bytes.
#include "model/gguf.h"
#include "tests/fuzz/tokenizer_use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    facet_gguf *gguf = NULL;
    facet_err err = {0};
    if (size > 1 << 16 || facet_gguf_parse(data, size, "f.gguf", NULL, &gguf, &err) != FACET_OK)
        return 0;
    facet_tokenizer *t = facet_tokenizer_make(NULL);
    if (!t) abort();
    if (facet_tokenizer_from_gguf(gguf, "f.gguf", 4096, t, &err) == FACET_OK) {
        const size_t tail = size < 300 ? size : 300;
        facet_fuzz_use(t, data + size - tail, tail);
    }
    facet_tokenizer_free(t);
    facet_gguf_free(gguf);
    return 0;
}
