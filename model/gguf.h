// SPDX-License-Identifier: Apache-2.0
// GGUF reader, versions 2 and 3, little-endian. In: the bytes of a file. Out: metadata values and
// tensors, every length, count and offset of them checked against the file. Names are copied,
// values and tensor data are borrowed from the bytes. Does not know what a model is (model/arch.c
// does).
//
// The file:
//  1. "GGUF"; u32 version; u64 number of tensors; u64 number of metadata entries.
//  2. Each metadata entry: string key; u32 type; value. A string is u64 length and bytes; an array
//  is
//     u32 element type, u64 count and elements (an array of arrays is refused).
//  3. Each tensor: string name; u32 number of dimensions (1 to 4); u64 sizes, contiguous one first;
//     u32 type; u64 offset from the start of the data.
//  4. Zeros up to a multiple of `general.alignment` (32 when absent); there the data starts.
#ifndef FACET_MODEL_GGUF_H
#define FACET_MODEL_GGUF_H

#include "model/model.h"

typedef enum facet_gguf_type {
    FACET_GGUF_U8,
    FACET_GGUF_I8,
    FACET_GGUF_U16,
    FACET_GGUF_I16,
    FACET_GGUF_U32,
    FACET_GGUF_I32,
    FACET_GGUF_F32,
    FACET_GGUF_BOOL,
    FACET_GGUF_STRING,
    FACET_GGUF_ARRAY,
    FACET_GGUF_U64,
    FACET_GGUF_I64,
    FACET_GGUF_F64,
    FACET_GGUF_TYPE_COUNT
} facet_gguf_type;

// Bytes of the file, not terminated; may hold any byte, zero included.
typedef struct facet_span {
    const char *data;
    size_t bytes;
} facet_span;

// An array value. Elements are read by the three functions below, in any order for numbers, one
// after the other for strings.
typedef struct facet_gguf_array {
    facet_gguf_type type; // of the elements
    uint64_t count;
    const uint8_t *data; // of the element that facet_gguf_next_string reads next
    uint64_t next;       // its index
} facet_gguf_array;

typedef struct facet_gguf facet_gguf;

// Parses `bytes` at `data`, which must stay as long as the result. `file` is copied, named in
// errors and in the tensors. Free with facet_gguf_free.
facet_status facet_gguf_parse(const uint8_t *data, size_t bytes, const char *file,
                              const facet_alloc *alloc, facet_gguf **gguf, facet_err *err);
void facet_gguf_free(facet_gguf *gguf); // NULL is fine

uint32_t facet_gguf_version(const facet_gguf *gguf);
// Tensors in name order, each with its data inside the file; borrowed until facet_gguf_free.
const facet_tensor *facet_gguf_tensors(const facet_gguf *gguf, uint32_t *count);

// Metadata. All answer false, and leave *out alone, when the key is missing or its value has
// another type. u64 takes every integer type (not negative), i64 too, f64 takes F32, F64 and
// integers.
bool facet_gguf_has(const facet_gguf *gguf, const char *key);
bool facet_gguf_find_string(const facet_gguf *gguf, const char *key, facet_span *out);
bool facet_gguf_find_u64(const facet_gguf *gguf, const char *key, uint64_t *out);
bool facet_gguf_find_i64(const facet_gguf *gguf, const char *key, int64_t *out);
bool facet_gguf_find_f64(const facet_gguf *gguf, const char *key, double *out);
bool facet_gguf_find_bool(const facet_gguf *gguf, const char *key, bool *out);
bool facet_gguf_find_array(const facet_gguf *gguf, const char *key, facet_gguf_array *out);
// The same, and the elements have this type.
bool facet_gguf_find_array_of(const facet_gguf *gguf, const char *key, facet_gguf_type type,
                              facet_gguf_array *out);

// The next string of an array of strings; false at its end.
bool facet_gguf_next_string(facet_gguf_array *array, facet_span *out);
// Element i (below count) of an array of integers (BOOL too) or of F32, F64 or integers; 0 for
// elements of another type.
int64_t facet_gguf_array_i64(const facet_gguf_array *array, uint64_t i);
double facet_gguf_array_f64(const facet_gguf_array *array, uint64_t i);

#endif
