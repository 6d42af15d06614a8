// SPDX-License-Identifier: Apache-2.0
// Which functions does an artifact need? Layers whose stage is filled with the same values share
// one function: a variant. In: a plan. Out: for every stage the variant of each layer.
#ifndef FACET_COMPILER_VARIANT_H
#define FACET_COMPILER_VARIANT_H

#include "compiler/plan.h"
#include "compiler/template.h"

typedef struct facet_variants {
    uint32_t *of_layer;    // (n_layers) number of the layer's variant
    uint32_t *first_layer; // (n) a layer that has it
    uint32_t n;
} facet_variants;

// Values of the holes of a stage's template, and the template's name.
const char *facet_variant_holes(const facet_plan *plan, facet_stage_id stage, uint32_t layer,
                                facet_holes *holes);
// Has the stage of that layer a prologue?
bool facet_variant_enters(const facet_plan *plan, facet_stage_id stage, uint32_t layer);
// Arrays live in the arena.
facet_status facet_variants_find(const facet_plan *plan, facet_stage_id stage, facet_arena *arena,
                                 facet_variants *variants, facet_err *err);
// "0-3, 7": the layers of variant i.
void facet_variants_layers(const facet_variants *variants, uint32_t n_layers, uint32_t i,
                           facet_text *out);

// "qkv" ...: names of templates and functions.
const char *facet_stage_name(facet_stage_id stage);
// "FACET_PACK_Q4_K" ... as generated code writes it.
const char *facet_pack_constant(facet_pack pack);

#endif
