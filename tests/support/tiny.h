// SPDX-License-Identifier: Apache-2.0
// A tiny random model for tests of the runtime: weights of chosen types, a bundle written without
// the compiler, and a forward pass of its own that shares no code with kernels/ or runtime/.
#ifndef FACET_TESTS_TINY_H
#define FACET_TESTS_TINY_H

#include "cache/manifest.h"
#include "compiler/pack.h"
#include "kernels/abi.h"
#include "model/model.h"

#define TINY_FAMILIES 4u

typedef struct tiny_opts {
    uint64_t seed;
    uint32_t n_layers, d_model, d_ff, n_heads, n_kv_heads, head_dim, n_ctx;
    uint32_t rope_style, rope_dims, act, window, window_period;
    double rope_scale, embed_scale;
    facet_dtype attn, gate, up, down, embed; // types of the matrices
    bool separate_head, biases, head_norms, post_norms, rope_factors, permuted;
    facet_pack family_down; // F32 (dense's own values), Q6_0 or Q8_0 (random values)
} tiny_opts;

// Odd shapes, everything F32.
extern const tiny_opts tiny_plain;
// Quantised types of every kind, with norms, biases, windows.
extern const tiny_opts tiny_quantised;

typedef struct tiny_mat {
    facet_dtype dtype;
    uint32_t rows, cols;
    uint8_t *data; // source blocks, row after row
    float *values; // (rows, cols)
} tiny_mat;

// A family's down projection: its packed groups (also its values, in kept order).
typedef struct tiny_down {
    facet_pack pack;
    uint32_t cols;
    uint8_t *packed;
    uint64_t packed_bytes;
    float *values; // (d_model, cols)
    float *bias;   // (d_model)
} tiny_down;

// The vectors of a layer that a family may have of its own.
typedef enum tiny_vector {
    TINY_ATTN_NORM,
    TINY_FFN_NORM,
    TINY_Q_BIAS,
    TINY_K_BIAS,
    TINY_V_BIAS,
    TINY_ATTN_POST,
    TINY_FFN_POST,
    TINY_VECTORS
} tiny_vector;

typedef struct tiny_layer {
    tiny_mat q, k, v, o, gate, up, down;
    float *vectors[TINY_FAMILIES][TINY_VECTORS]; // [0]: shared; NULL: none, the shared one
    float *o_bias, *q_norm, *k_norm;
    uint32_t *perm;               // (round32(d_ff)) NULL: identity
    tiny_down own[TINY_FAMILIES]; // [0] unused: dense
} tiny_layer;

// Families: dense, "all" (every tile), "some" (every other tile), "one" (the last tile). Scores in
// the bundle are 1 for a family's kept channels and 0 for the others. "some" has vectors of its own
// wherever the model has any, "one" has no layer's but the last norm.
typedef struct tiny {
    tiny_opts opts;
    uint32_t n_vocab, n_tiles;
    tiny_mat embed, head;
    float *out_norm[TINY_FAMILIES]; // as vectors
    float *rope_factors;
    tiny_layer *layers;
    uint8_t kept[TINY_FAMILIES][256]; // by tile
} tiny;

extern const char *const tiny_family_names[TINY_FAMILIES];

// The model that it is, borrowed from it, for matrices that are F32 all. Release with free.
facet_model *tiny_wrap(const tiny *t);

// A vector's role, the name of its entry, and its length.
facet_role tiny_vector_role(tiny_vector vector);
const char *tiny_vector_name(tiny_vector vector);
uint32_t tiny_vector_size(const tiny_opts *opts, tiny_vector vector);
// What a family reads: its own vector, or the shared one, or NULL.
const float *tiny_vector_of(const tiny_layer *layer, uint32_t family, tiny_vector vector);

tiny *tiny_new(const tiny_opts *opts);
void tiny_free(tiny *t);

// Logits (n, n_vocab) after each of n tokens, with family `family`. `prefill` tokens at the front
// go through `prefill_family` instead. Activations in front of quantised matrices are rounded as
// kernels/abi.h says, everything else is double.
void tiny_forward(const tiny *t, uint32_t family, uint32_t prefill_family, uint32_t prefill,
                  const uint32_t *tokens, uint32_t n, float *logits);

// The largest difference of a and b (n), as a share of the largest number of b.
double tiny_distance(const float *a, const float *b, size_t n);

// Writes the bundle at `path`, which must not exist. `kernel` (NULL: none): a file that becomes the
// kernel of every family for `target`.
void tiny_write(const tiny *t, const char *path, const char *kernel, const char *target);

// A fresh private directory for a test's files, in TMPDIR or /tmp. tiny_remove deletes it.
void tiny_dir(char *path, size_t capacity);
void tiny_remove(const char *path);

#endif
