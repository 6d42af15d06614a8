// SPDX-License-Identifier: Apache-2.0
// safetensors reader and writer. In: the bytes of a file. Out: named tensors and string metadata,
// every length, shape and offset checked against the file. Names are copied, data is borrowed.
//
// The file:
//  1. u64 length of the header; the header, a JSON object, padded with spaces.
//  2. "__metadata__" (may be missing): an object of strings.
//  3. Every other field is a tensor: "dtype", "shape" (outermost size first), "data_offsets" (begin
//     and end, counted from the end of the header). Together they cover the rest of the file, each
//     byte once.
#ifndef FACET_MODEL_SAFETENSORS_H
#define FACET_MODEL_SAFETENSORS_H

#include "base/memory.h"

typedef enum facet_st_type {
    FACET_ST_F64,
    FACET_ST_F32,
    FACET_ST_F16,
    FACET_ST_BF16,
    FACET_ST_I64,
    FACET_ST_U64,
    FACET_ST_I32,
    FACET_ST_U32,
    FACET_ST_I16,
    FACET_ST_U16,
    FACET_ST_I8,
    FACET_ST_U8,
    FACET_ST_BOOL,
    FACET_ST_F8_E4M3,
    FACET_ST_F8_E5M2,
    FACET_ST_TYPE_COUNT
} facet_st_type;

enum { FACET_ST_DIMS_MAX = 8 };

typedef struct facet_st_tensor {
    const char *name;
    facet_st_type type;
    uint32_t n_dims;                  // 0: a single number
    uint64_t dims[FACET_ST_DIMS_MAX]; // outermost first, as in the file
    const void *data;                 // may be unaligned
    uint64_t bytes;
    uint64_t offset; // in the file
} facet_st_tensor;

typedef struct facet_st_meta {
    const char *key, *value;
} facet_st_meta;

typedef struct facet_safetensors facet_safetensors;

const char *facet_st_type_name(facet_st_type type);
uint32_t facet_st_type_bytes(facet_st_type type);

// Parses `bytes` at `data`, which must stay as long as the result. Free with
// facet_safetensors_free.
facet_status facet_safetensors_parse(const uint8_t *data, size_t bytes, const char *file,
                                     const facet_alloc *alloc, facet_safetensors **out,
                                     facet_err *err);
void facet_safetensors_free(facet_safetensors *st); // NULL is fine

// Tensors in name order; borrowed.
const facet_st_tensor *facet_safetensors_tensors(const facet_safetensors *st, uint32_t *count);
const facet_st_tensor *facet_safetensors_find(const facet_safetensors *st, const char *name);
// A metadata value, or NULL.
const char *facet_safetensors_meta(const facet_safetensors *st, const char *key);

// Writes a file whole or not at all: metadata and tensors in the order given, so that equal inputs
// give equal bytes. `offset` of the tensors is ignored, `bytes` must be what the shape says.
typedef struct facet_st_file {
    const facet_st_meta *meta; // (n_meta)
    uint32_t n_meta;
    const facet_st_tensor *tensors; // (n_tensors)
    uint32_t n_tensors;
    const facet_alloc *alloc;
} facet_st_file;
facet_status facet_safetensors_save(const facet_st_file *content, const char *path, bool force,
                                    facet_err *err);

#endif
