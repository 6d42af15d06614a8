// SPDX-License-Identifier: Apache-2.0
// Small models with random F32 weights, in memory: facet_model structures for tests that need
// no file. Shapes are odd on purpose, and the vocabulary is larger than one block of the head.
#ifndef FACET_TESTS_MEMORY_MODEL_H
#define FACET_TESTS_MEMORY_MODEL_H

#include "model/model.h"

typedef enum facet_memory_kind {
    FACET_MEMORY_LLAMA, // grouped queries, rotary of neighbours
    FACET_MEMORY_QWEN2, // biases, rotary of halves
    FACET_MEMORY_QWEN3, // q and k norms
    FACET_MEMORY_GEMMA, // everything: windows, post norms, gain offset, two rotary bases, GELU,
                        // tied
    FACET_MEMORY_COUNT
} facet_memory_kind;

// Free with facet_memory_model_free, never with facet_model_close. NULL when out of memory.
facet_model *facet_memory_model_new(facet_memory_kind kind, uint64_t seed);
void facet_memory_model_free(facet_model *model);
// The weights of a role, to be changed at will.
float *facet_memory_model_data(facet_model *model, facet_role role, uint32_t layer);

#endif
