// SPDX-License-Identifier: Apache-2.0
// Pre-tokenizers: how byte-level BPE cuts text into words before it merges. In: valid UTF-8. Out:
// where the words end. The patterns are those that the models publish, run by PCRE2.
#ifndef FACET_MODEL_PRETOKEN_H
#define FACET_MODEL_PRETOKEN_H

#include "base/status.h"

typedef enum facet_pretoken {
    FACET_PRETOKEN_NONE,
    FACET_PRETOKEN_DEFAULT,
    FACET_PRETOKEN_GPT2,
    FACET_PRETOKEN_LLAMA3,
    FACET_PRETOKEN_QWEN2,
    FACET_PRETOKEN_SMOLLM,
    FACET_PRETOKEN_COUNT
} facet_pretoken;

const char *facet_pretoken_name(facet_pretoken pretoken); // "qwen2" ...
// By the name that GGUF files use; false when unknown.
bool facet_pretoken_find(const char *name, size_t bytes, facet_pretoken *out);
// By the regular expression of a tokenizer.json; false when unknown.
bool facet_pretoken_find_regex(const char *regex, facet_pretoken *out);

typedef struct facet_pretokenizer facet_pretokenizer;

facet_status facet_pretokenizer_new(facet_pretoken pretoken, const facet_alloc *alloc,
                                    facet_pretokenizer **out, facet_err *err);
void facet_pretokenizer_free(facet_pretokenizer *pretokenizer); // NULL is fine

// The ends of the words of `text` (valid UTF-8, below 2^32 bytes) in rising order; the last is
// `bytes`. Free *ends with facet_mem_free(alloc, ..). Thread-safe.
facet_status facet_pretokenizer_run(const facet_pretokenizer *pretokenizer, const char *text,
                                    size_t bytes, const facet_alloc *alloc, uint32_t **ends,
                                    size_t *count, facet_err *err);

#endif
