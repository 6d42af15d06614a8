// SPDX-License-Identifier: Apache-2.0
// The files of a bundle that hold weights: weights.bin, and one file a family for its own down
// projection. In: an open model, a layout, quantised downs. Out: files packed as kernels/abi.h
// says, and the entries that a manifest lists. Written as a stream: memory is one group of rows.
#ifndef FACET_COMPILER_WEIGHTS_H
#define FACET_COMPILER_WEIGHTS_H

#include "base/file.h"
#include "cache/manifest.h"
#include "compiler/layout.h"
#include "compiler/quantize.h"
#include "model/vectors.h"

// Entries in the making. The array lives in the arena.
typedef struct facet_entries {
    facet_arena *arena;
    facet_entry *list;
    uint32_t n, capacity;
} facet_entries;

// Writes weights.bin at `path`: matrices equal to the source's value by value, gate and up by tiles
// of the layout, vectors as F32 (norm gains complete), the layout's permutation. Fills *entries.
facet_status facet_weights_write(const facet_model *model, const facet_layout *layout,
                                 const char *path, const facet_report *report,
                                 facet_entries *entries, facet_err *err);

// Appends a family's layer to its file: "down", and "down_bias" when bias (d_model) is not NULL.
facet_status facet_weights_put_down(facet_out *out, uint32_t layer, const facet_quantized *down,
                                    const float *bias, facet_entries *entries, facet_err *err);
// Appends the vectors that a family has of its own in a layer, or, with n_layers for it, those that
// are no layer's. Their entries are named as those of weights.bin that they take the place of.
facet_status facet_weights_put_own(facet_out *out, uint32_t layer, const facet_vectors *own,
                                   facet_entries *entries, facet_err *err);
// Appends "scores": those of the family's layer (n), finite, scaled to length 1 (or all zero).
facet_status facet_weights_put_scores(facet_out *out, uint32_t layer, const float *scores,
                                      uint32_t n, facet_entries *entries, facet_err *err);

// Bytes of the source's tensors that a dense decode step needs (all of every layer, the last norm,
// the head, one row of the embedding), and the gate, up and down matrices among them.
uint64_t facet_weights_token_bytes(const facet_model *model);
uint64_t facet_weights_ffn_bytes(const facet_model *model);
// Bytes of the source's tensor that a vector of weights.bin is made of; 0: it has none.
uint64_t facet_weights_vector_bytes(const facet_model *model, const char *name, uint32_t layer);
// The packing of a matrix that the model has.
facet_pack facet_weights_pack(const facet_model *model, facet_role role, uint32_t layer);

#endif
