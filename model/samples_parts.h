// SPDX-License-Identifier: Apache-2.0
// What mask sets and families read and write alike: metadata, shapes, token samples, masks. The
// reader keeps a safetensors file open and names it in every error.
#ifndef FACET_MODEL_SAMPLES_PARTS_H
#define FACET_MODEL_SAMPLES_PARTS_H

#include "base/file.h"
#include "base/text.h"
#include "model/safetensors.h"
#include "model/samples.h"

typedef struct samples_reader {
    const char *file;
    const facet_alloc *alloc;
    facet_safetensors *st;
    uint32_t n_layers, d_ff, n_vocab; // from facet.shape
    facet_err *err;
} samples_reader;

// As the functions of samples.h, over bytes that are already in memory.
facet_status facet_mask_set_parse(const uint8_t *data, size_t bytes, const char *file,
                                  const facet_alloc *alloc, facet_mask_set *set, facet_err *err);
facet_status facet_family_set_parse(const uint8_t *data, size_t bytes, const char *file,
                                    const facet_alloc *alloc, facet_family_set *set,
                                    facet_err *err);
facet_status facet_samples_kind_parse(const uint8_t *data, size_t bytes, const char *file,
                                      char kind[16], facet_err *err);

// Parses the file, checks facet.kind and facet.version, reads facet.shape. Free reader->st.
facet_status facet_samples_begin(samples_reader *reader, const uint8_t *data, size_t bytes,
                                 const char *kind);

facet_status facet_samples_bad(const samples_reader *reader, const char *format, ...)
    FACET_PRINTF(2, 3);
facet_status facet_samples_bad_tensor(const samples_reader *reader, const facet_st_tensor *tensor,
                                      const char *why);

// The metadata strings of both: shape and fingerprint (copied) and keep (0 when missing).
facet_status facet_samples_facts(const samples_reader *reader, char **shape, char **model,
                                 double *keep);
// A number of the metadata; *out is left alone when the key is missing.
facet_status facet_samples_number(const samples_reader *reader, const char *key, double min,
                                  double max, double *out);
// A JSON array of n printable strings; *out stays NULL when the key is missing.
facet_status facet_samples_strings(const samples_reader *reader, const char *key, uint32_t n,
                                   char ***out);
// Tensor `name` with this type and dims (0: any size, given back); FACET_BAD_TENSOR else. A missing
// one gives NULL, unless it is required.
typedef struct samples_shape {
    const char *name;
    facet_st_type type;
    uint32_t n_dims;
    uint64_t dims[3];
    bool required;
} samples_shape;
facet_status facet_samples_tensor(const samples_reader *reader, samples_shape *shape,
                                  const facet_st_tensor **out);
// Tensor `scores` F32 or F16 [*n, layers, f] as floats: finite and not negative. *n 0: any number.
facet_status facet_samples_scores(const samples_reader *reader, bool required, uint64_t *n,
                                  float **out);
// Tensor `mask` U8 [*n, layers, ceil(f/8)]; bits past f are cleared.
facet_status facet_samples_mask(const samples_reader *reader, bool required, uint64_t *n,
                                uint8_t **out);
// Tensors `tokens` and `lengths` of n samples, `documents` and `answers`; each NULL when it is
// missing.
facet_status facet_samples_read(const samples_reader *reader, uint32_t n, facet_samples *out);
void facet_samples_fini(facet_samples *samples, const facet_alloc *alloc);
void facet_strings_free(char **strings, uint32_t n, const facet_alloc *alloc);

// Writing: tensors and metadata of one file are collected, then saved.
enum { SAMPLES_TENSORS_MAX = 8, SAMPLES_META_MAX = 10 };
typedef struct samples_writer {
    facet_st_tensor tensors[SAMPLES_TENSORS_MAX];
    facet_st_meta meta[SAMPLES_META_MAX];
    uint32_t n_tensors, n_meta;
    facet_text strings, keep, number; // texts that meta points at
} samples_writer;

void facet_samples_writer_init(samples_writer *writer, const facet_alloc *alloc);
void facet_samples_writer_fini(samples_writer *writer);
void facet_samples_put_meta(samples_writer *writer, const char *key, const char *value);
// kind, version, shape, fingerprint (if any) and keep (if above 0).
void facet_samples_put_facts(samples_writer *writer, const char *kind, const char *shape,
                             const char *model, double keep);
// A JSON array of strings; once a file.
void facet_samples_put_strings(samples_writer *writer, const char *key, char *const *strings,
                               uint32_t n);
// A tensor of n x rows x cols, the sizes that are 0 left out.
void facet_samples_put_tensor(samples_writer *writer, const char *name, facet_st_type type,
                              const void *data, const uint64_t dims[3]);
void facet_samples_put_samples(samples_writer *writer, const facet_samples *samples);
facet_status facet_samples_save(samples_writer *writer, const char *path, bool force,
                                facet_err *err);

#endif
