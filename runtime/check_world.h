// SPDX-License-Identifier: Apache-2.0
// The random world in which an artifact is compared with the reference, private to
// runtime/check*.c. In: what the artifact claims (shape, packings, tiles). Out: steps, lanes and
// weights that both sides read, and two sets of outputs. Nothing here judges.
#ifndef FACET_RUNTIME_CHECK_WORLD_H
#define FACET_RUNTIME_CHECK_WORLD_H

#include "base/random.h"
#include "runtime/check.h"

#define FACET_CHECK_TOKENS    70u // most tokens of a step: past the 64 that kernels take at once
#define FACET_CHECK_SEQUENCES 2u

// One contiguous reservation. Its pages come into being when they are written, so whole matrices
// have their addresses while only the sampled units cost memory.
typedef struct facet_check_space {
    uint8_t *data;
    size_t bytes, used;
} facet_check_space;

// What one side writes.
typedef struct facet_check_side {
    facet_step step;
    facet_lane lane;
    facet_kv caches[FACET_CHECK_SEQUENCES];
    facet_kv kv[FACET_CHECK_TOKENS];
} facet_check_side;

typedef struct facet_check_world {
    const facet_check_spec *spec;
    const facet_alloc *alloc;
    facet_random random;
    facet_check_space space;
    facet_layer *layers; // (n_layers) spec's, with pointers into the space
    uint8_t *weights[3]; // room for the largest matrices of one stage
    float *vector[3];    // (max_cols) random gains near one
    float *rope;         // (FACET_CHECK_TOKENS, rope_dims)
    uint32_t pos[FACET_CHECK_TOKENS];
    uint32_t n_ctx, max_cols, cache_values; // values of K (or V) of one sequence
    facet_check_side want, got;
} facet_check_world;

// FACET_NO_MEMORY; the world is empty then. The spec and the world stay where they are.
facet_status facet_check_world_init(facet_check_world *world, const facet_check_spec *spec,
                                    const facet_alloc *alloc, facet_err *err);
void facet_check_world_fini(facet_check_world *world);

// New random inputs of a stage for n tokens, equal on both sides. `stage` is a facet_stage_id,
// FACET_STAGE_COUNT for the head.
void facet_check_inputs(facet_check_world *world, uint32_t layer, uint32_t stage,
                        uint32_t n_tokens);
// Zeros in what the stage writes, on both sides (but the caches, which inputs fill).
void facet_check_clear(facet_check_world *world, uint32_t stage, uint32_t n_tokens);
// Random weights for group g of a packed matrix, such that a row times unit activations is about
// one.
void facet_check_fill_group(facet_check_world *world, const facet_mat *mat, uint8_t *data,
                            uint64_t g);
// All tiles of gate_up of a layer, at weights[0].
void facet_check_fill_tiles(facet_check_world *world, const facet_layer *layer);
void facet_check_fill_floats(facet_check_world *world, float *dst, size_t n);

#endif
