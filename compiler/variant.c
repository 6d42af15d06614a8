// SPDX-License-Identifier: Apache-2.0
#include "compiler/variant.h"

#include <string.h>

const char *facet_stage_name(facet_stage_id stage)
{
    static const char *const names[FACET_STAGE_COUNT] = {"qkv", "attn", "out", "ffn_in", "down"};
    return names[stage];
}

const char *facet_pack_constant(facet_pack pack)
{
    static const char *const names[FACET_PACK_COUNT] = {
        "FACET_PACK_F32",  "FACET_PACK_F16",  "FACET_PACK_BF16", "FACET_PACK_Q4_0",
        "FACET_PACK_Q4_1", "FACET_PACK_Q5_0", "FACET_PACK_Q5_1", "FACET_PACK_Q6_0",
        "FACET_PACK_Q8_0", "FACET_PACK_Q4_K", "FACET_PACK_Q5_K", "FACET_PACK_Q6_K",
    };
    return names[pack];
}

static bool quantised(facet_pack pack)
{
    return pack > FACET_PACK_BF16;
}

// ---- values of each stage's holes ---------------------------------------------------------------

static void put_pack(facet_holes *holes, const char *name, facet_pack pack)
{
    facet_holes_put(holes, name, "%s", facet_pack_constant(pack));
}

static void put_flag(facet_holes *holes, const char *name, bool flag)
{
    facet_holes_put(holes, name, "%d", flag);
}

// A vector that the layer may lack: its expression, or the null pointer as a literal.
static void put_vector(facet_holes *holes, const char *name, bool present)
{
    facet_holes_put(holes, name, "%s%s", present ? "l->" : "0", present ? name : "");
}

static void qkv_holes(const facet_plan *plan, uint32_t layer, facet_holes *holes)
{
    const facet_plan_layer *l = &plan->layers[layer];
    put_pack(holes, "q_pack", l->q);
    put_pack(holes, "k_pack", l->k);
    put_pack(holes, "v_pack", l->v);
    put_vector(holes, "q_bias", l->q_bias);
    put_vector(holes, "k_bias", l->k_bias);
    put_vector(holes, "v_bias", l->v_bias);
    put_vector(holes, "q_norm", l->q_norm);
    put_vector(holes, "k_norm", l->k_norm);
    facet_holes_put(holes, "rope", "%u", l->rope);
    put_flag(holes, "quantised", quantised(l->q) || quantised(l->k) || quantised(l->v));
    put_flag(holes, "has_post", layer > 0 && plan->layers[layer - 1].ffn_post);
}

static void attn_holes(const facet_plan *plan, uint32_t layer, facet_holes *holes)
{
    facet_holes_put(holes, "window", "%u", plan->layers[layer].window);
}

static void out_holes(const facet_plan *plan, uint32_t layer, facet_holes *holes)
{
    put_pack(holes, "o_pack", plan->layers[layer].o);
    put_vector(holes, "o_bias", plan->layers[layer].o_bias);
    put_flag(holes, "quantised", quantised(plan->layers[layer].o));
}

static void ffn_in_holes(const facet_plan *plan, uint32_t layer, facet_holes *holes)
{
    const facet_plan_layer *l = &plan->layers[layer];
    put_pack(holes, "gate_pack", l->gate);
    put_pack(holes, "up_pack", l->up);
    put_flag(holes, "quantised", quantised(l->gate) || quantised(l->up));
    put_flag(holes, "z_quantised", !l->perm && quantised(l->down));
    put_flag(holes, "has_post", l->attn_post);
    facet_holes_put(holes, "order", "%s", l->perm ? "orders[layer]" : "0");
}

static void down_holes(const facet_plan *plan, uint32_t layer, facet_holes *holes)
{
    const facet_plan_layer *l = &plan->layers[layer];
    put_pack(holes, "down_pack", l->down);
    facet_holes_put(holes, "down_cols", "%u", l->down_cols);
    put_vector(holes, "down_bias", l->down_bias);
    put_flag(holes, "quantised", quantised(l->down));
}

typedef void holes_fn(const facet_plan *plan, uint32_t layer, facet_holes *holes);

const char *facet_variant_holes(const facet_plan *plan, facet_stage_id stage, uint32_t layer,
                                facet_holes *holes)
{
    static holes_fn *const fill[FACET_STAGE_COUNT] = {qkv_holes, attn_holes, out_holes,
                                                      ffn_in_holes, down_holes};
    static const char *const templates[FACET_STAGE_COUNT] = {"qkv.in", "attn.in", "out.in",
                                                             "ffn_in.in", "down.in"};
    fill[stage](plan, layer, holes);
    if (stage == FACET_STAGE_DOWN && plan->layers[layer].perm) return "down_dense.in";
    return templates[stage];
}

bool facet_variant_enters(const facet_plan *plan, facet_stage_id stage, uint32_t layer)
{
    if (stage == FACET_STAGE_DOWN) return plan->layers[layer].perm != NULL;
    return stage != FACET_STAGE_ATTN;
}

// ---- which layers share -------------------------------------------------------------------------

// The variant whose text is `key`, else a new one.
static uint32_t variant_of(const char *key, const char **keys, facet_variants *variants,
                           uint32_t layer)
{
    for (uint32_t i = 0; i < variants->n; i++) {
        if (strcmp(keys[i], key) == 0) return i;
    }
    keys[variants->n] = key;
    variants->first_layer[variants->n] = layer;
    return variants->n++;
}

facet_status facet_variants_find(const facet_plan *plan, facet_stage_id stage, facet_arena *arena,
                                 facet_variants *variants, facet_err *err)
{
    const uint32_t n = plan->shape.n_layers;
    const char **keys = facet_arena_new(arena, n, sizeof *keys);
    facet_variants found = {facet_arena_new(arena, n, sizeof(uint32_t)),
                            facet_arena_new(arena, n, sizeof(uint32_t)), 0};
    if (!keys || !found.of_layer || !found.first_layer) return facet_fail_memory(err, n);
    facet_text key;
    facet_text_init(&key, arena->alloc);
    facet_status status = FACET_OK;
    for (uint32_t layer = 0; layer < n && status == FACET_OK; layer++) {
        facet_holes holes;
        facet_holes_init(&holes, arena);
        facet_text_clear(&key);
        facet_text_add(&key, "%s\n", facet_variant_holes(plan, stage, layer, &holes));
        facet_holes_print(&holes, &key);
        const char *copy = facet_arena_strdup(arena, facet_text_str(&key));
        if (!copy || holes.status != FACET_OK || key.status != FACET_OK)
            status = facet_fail_memory(err, key.length);
        else
            found.of_layer[layer] = variant_of(copy, keys, &found, layer);
    }
    facet_text_fini(&key);
    if (status == FACET_OK) *variants = found;
    return status;
}

void facet_variants_layers(const facet_variants *variants, uint32_t n_layers, uint32_t i,
                           facet_text *out)
{
    const char *comma = "";
    for (uint32_t layer = 0; layer < n_layers;) {
        uint32_t end = layer;
        while (end < n_layers && variants->of_layer[end] == i)
            end++;
        if (end > layer) {
            facet_text_add(out, end == layer + 1 ? "%s%u" : "%s%u-%u", comma, layer, end - 1);
            comma = ", ";
        }
        layer = end + (end == layer);
    }
}
