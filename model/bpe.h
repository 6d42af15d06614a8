// SPDX-License-Identifier: Apache-2.0
// The merge loop of all engines: the pair of neighbours with the smallest rank becomes one symbol,
// leftmost first among equals, until no pair is left. In: symbols. Out: fewer symbols. A priority
// queue makes it O(n log n), so a megabyte of one letter is no trouble.
#ifndef FACET_MODEL_BPE_H
#define FACET_MODEL_BPE_H

#include "model/tokenizer_parts.h"

typedef struct facet_symbol {
    uint32_t at, bytes;  // in facet_merger.text; bytes is 0 once merged into its left neighbour
    uint32_t id;         // or FACET_NO_TOKEN
    uint32_t prev, next; // FACET_NO_TOKEN at the ends
} facet_symbol;

typedef struct facet_candidate {
    uint32_t rank, left, right;
    uint32_t right_bytes; // of the right symbol when noted; another length means it has grown since
    uint32_t result;
} facet_candidate;

// Reusable: clear n and add again.
typedef struct facet_merger {
    const facet_tokenizer *tokenizer;
    const facet_alloc *alloc;
    const char *text;
    facet_symbol *symbols;
    uint32_t n, capacity;
    facet_candidate *heap;
    size_t heap_count, heap_capacity;
} facet_merger;

void facet_merger_fini(facet_merger *merger);
facet_status facet_merger_add(facet_merger *merger, uint32_t at, uint32_t bytes, uint32_t id,
                              facet_err *err);
// Merges the symbols added. What is left is reached from symbol 0 by `next`.
facet_status facet_merger_run(facet_merger *merger, facet_err *err);

// Appends the ids of one stretch of text for each engine. `alloc` of ids serves the scratch too.
facet_status facet_bytes_encode(const facet_tokenizer *t, const char *text, size_t bytes,
                                facet_ids *ids, facet_err *err);
facet_status facet_spm_encode(const facet_tokenizer *t, const char *text, size_t bytes,
                              bool space_first, facet_ids *ids, facet_err *err);

#endif
