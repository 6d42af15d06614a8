// SPDX-License-Identifier: Apache-2.0
// The plan of one artifact: everything generated code depends on, as plain data, and nothing else
// (no weights, no paths). Same plan, same bytes of source. compiler/emit.c turns it into text.
#ifndef FACET_COMPILER_PLAN_H
#define FACET_COMPILER_PLAN_H

#include "base/hash.h"
#include "base/text.h"
#include "kernels/abi.h"

typedef struct facet_plan_layer {
    facet_pack q, k, v, o, gate, up, down;
    uint32_t down_cols; // stored columns of down
    bool q_bias, k_bias, v_bias, o_bias, q_norm, k_norm, attn_post, ffn_post, down_bias;
    uint32_t window;       // facet_layer.window
    uint32_t rope;         // facet_layer.rope
    const uint32_t *tiles; // (n_tiles) kept tiles, ascending; borrowed
    uint32_t n_tiles;
    const uint32_t *perm; // dense: as facet_layer.perm, borrowed; NULL for a family
} facet_plan_layer;

typedef struct facet_plan {
    facet_shape shape;
    const char *target; // a name of compiler/target.h
    bool dense;
    facet_pack head;
    facet_plan_layer *layers; // (shape.n_layers), borrowed
} facet_plan;

// Canonical text of a plan, one fact a line (also its digest's input).
void facet_plan_print(const facet_plan *plan, facet_text *out);
facet_digest facet_plan_digest(const facet_plan *plan, facet_err *err);

// Is the plan one that abi.h can express? FACET_UNSUPPORTED or FACET_BAD_INPUT names the layer and
// fact.
facet_status facet_plan_check(const facet_plan *plan, facet_err *err);

// Tiles of all channels.
static inline uint32_t facet_plan_all_tiles(const facet_plan *plan)
{
    return (plan->shape.d_ff + FACET_TILE - 1) / FACET_TILE;
}

// Emits the C source of an artifact: abi.h and the templates inlined, constants and tables baked
// in.
facet_status facet_emit(const facet_plan *plan, facet_text *source, facet_err *err);

#endif
