// SPDX-License-Identifier: Apache-2.0
// The insides of a parsed GGUF file, shared by gguf.c (reads) and gguf_find.c (looks up).
#ifndef FACET_MODEL_GGUF_PARTS_H
#define FACET_MODEL_GGUF_PARTS_H

#include "base/memory.h"
#include "model/gguf.h"
#include "model/tensors.h"

typedef struct gguf_entry {
    const char *key;
    facet_gguf_type type;
    const uint8_t *value; // of a scalar, or the bytes of a string
    size_t bytes;         // of a string
    facet_gguf_array array;
} gguf_entry;

struct facet_gguf {
    const facet_alloc *alloc;
    facet_arena arena; // everything below
    const char *file;
    uint32_t version, n_tensors;
    uint64_t alignment;
    gguf_entry *entries; // in key order
    size_t n_entries;
    facet_tensor *tensors; // in name order
};

// Little-endian number of 1 to 8 bytes.
static inline uint64_t facet_gguf_load(const uint8_t *p, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)p[i] << (8 * i);
    return value;
}

// Bytes of a value; 0 for strings and arrays.
size_t facet_gguf_type_bytes(facet_gguf_type type);
// The type that a number in a file stands for; false when facet does not read it.
bool facet_gguf_dtype(uint32_t type, facet_dtype *out);
// ggml's name of a type number, or NULL.
const char *facet_gguf_ggml_name(uint32_t type);

#endif
