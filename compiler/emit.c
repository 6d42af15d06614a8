// SPDX-License-Identifier: Apache-2.0
// A plan becomes one C source. The words are in templates/; this file decides their order and
// writes the tables, which are data.
//
//     banner | abi.h | shape | simd_*.h | linear.h | stages.h | runs, orders | stages of all layers
//     | head | stage table | artifact
#include <string.h>

#include "compiler/plan.h"
#include "compiler/target.h"
#include "compiler/template.h"
#include "compiler/variant.h"

typedef struct emitter {
    const facet_plan *plan;
    const facet_target *target;
    facet_digest digest; // of the plan
    facet_arena arena;
    facet_text *out;
    facet_variants variants[FACET_STAGE_COUNT];
    facet_err *err;
} emitter;

// ---- head of the file ---------------------------------------------------------------------------

static uint32_t count_runs(const facet_plan_layer *l)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n_tiles; i++)
        n += i == 0 || l->tiles[i] != l->tiles[i - 1] + 1;
    return n;
}

static facet_status emit_banner(emitter *e)
{
    const facet_shape *s = &e->plan->shape;
    uint64_t kept = 0, n_runs = 0;
    for (uint32_t i = 0; i < s->n_layers; i++) {
        kept += e->plan->layers[i].n_tiles;
        n_runs += count_runs(&e->plan->layers[i]);
    }
    facet_holes holes;
    facet_holes_init(&holes, &e->arena);
    facet_holes_put(&holes, "version", "%s", FACET_VERSION);
    facet_holes_put(&holes, "target", "%s", e->target->name);
    facet_holes_put(&holes, "plan", "%s", e->digest.hex);
    facet_holes_put(&holes, "kind", "%s", e->plan->dense ? ", dense" : ", one family");
    facet_holes_put(&holes, "n_layers", "%u", s->n_layers);
    facet_holes_put(&holes, "d_model", "%u", s->d_model);
    facet_holes_put(&holes, "d_ff", "%u", s->d_ff);
    facet_holes_put(&holes, "n_vocab", "%u", s->n_vocab);
    facet_holes_put(&holes, "n_heads", "%u", s->n_heads);
    facet_holes_put(&holes, "n_kv_heads", "%u", s->n_kv_heads);
    facet_holes_put(&holes, "head_dim", "%u", s->head_dim);
    facet_holes_put(&holes, "kept_tiles", "%llu", (unsigned long long)kept);
    facet_holes_put(&holes, "all_tiles", "%llu",
                    (unsigned long long)facet_plan_all_tiles(e->plan) * s->n_layers);
    facet_holes_put(&holes, "n_runs", "%llu", (unsigned long long)n_runs);
    return facet_template_fill("banner.in", &holes, e->out, e->err);
}

// A float as a C constant: nine digits bring back every bit.
static void put_float(facet_holes *holes, const char *name, float value)
{
    facet_text text;
    facet_text_init(&text, holes->arena->alloc);
    facet_text_add_number(&text, (double)value);
    const char *digits = facet_text_str(&text);
    facet_holes_put(holes, name, "%s%sf", digits, strpbrk(digits, ".e") ? "" : ".0");
    facet_text_fini(&text);
}

static facet_status emit_shape(emitter *e)
{
    static const char *const ropes[] = {"FACET_ROPE_NONE", "FACET_ROPE_NORMAL", "FACET_ROPE_NEOX"};
    static const char *const acts[] = {"FACET_ACT_SILU", "FACET_ACT_GELU_TANH"};
    const facet_shape *s = &e->plan->shape;
    if (s->rope_style >= FACET_COUNT_OF(ropes) || s->act >= FACET_COUNT_OF(acts))
        return facet_fail(e->err, FACET_UNSUPPORTED,
                          "plan: rope style %u or activation %u is unknown", s->rope_style, s->act);
    const bool small = s->d_ff < UINT16_MAX;
    facet_holes holes;
    facet_holes_init(&holes, &e->arena);
    facet_holes_put(&holes, "n_layers", "%u", s->n_layers);
    facet_holes_put(&holes, "d_model", "%u", s->d_model);
    facet_holes_put(&holes, "d_ff", "%u", s->d_ff);
    facet_holes_put(&holes, "n_heads", "%u", s->n_heads);
    facet_holes_put(&holes, "n_kv_heads", "%u", s->n_kv_heads);
    facet_holes_put(&holes, "head_dim", "%u", s->head_dim);
    facet_holes_put(&holes, "n_vocab", "%u", s->n_vocab);
    facet_holes_put(&holes, "rope_dims", "%u", s->rope_dims);
    facet_holes_put(&holes, "rope_style", "%s", ropes[s->rope_style]);
    facet_holes_put(&holes, "act", "%s", acts[s->act]);
    put_float(&holes, "rms_eps", s->rms_eps);
    put_float(&holes, "attn_scale", s->attn_scale);
    facet_holes_put(&holes, "channel_type", "%s", small ? "uint16_t" : "uint32_t");
    facet_holes_put(&holes, "no_channel", "%s", small ? "UINT16_MAX" : "UINT32_MAX");
    return facet_template_fill("shape.in", &holes, e->out, e->err);
}

// ---- tables -------------------------------------------------------------------------------------

static bool same_tiles(const facet_plan_layer *a, const facet_plan_layer *b)
{
    return a->n_tiles == b->n_tiles &&
           (a->n_tiles == 0 || memcmp(a->tiles, b->tiles, a->n_tiles * sizeof *a->tiles) == 0);
}

static bool same_order(const facet_plan *plan, const facet_plan_layer *a, const facet_plan_layer *b)
{
    const size_t n = (size_t)facet_plan_all_tiles(plan) * FACET_TILE;
    return (!a->perm && !b->perm) ||
           (a->perm && b->perm && memcmp(a->perm, b->perm, n * sizeof *a->perm) == 0);
}

// The lowest layer with the same table, which gives it its name.
static uint32_t owner_of_runs(const facet_plan *plan, uint32_t layer)
{
    uint32_t i = 0;
    while (!same_tiles(&plan->layers[i], &plan->layers[layer]))
        i++;
    return i;
}

static uint32_t owner_of_order(const facet_plan *plan, uint32_t layer)
{
    uint32_t i = 0;
    while (!same_order(plan, &plan->layers[i], &plan->layers[layer]))
        i++;
    return i;
}

static void emit_runs(const facet_plan *plan, facet_text *out)
{
    facet_text_puts(
        out, "\n// Runs of kept tiles: first, count, number of the first among the kept; one "
             "past the end.\n");
    for (uint32_t layer = 0; layer < plan->shape.n_layers; layer++) {
        if (owner_of_runs(plan, layer) != layer) continue;
        const facet_plan_layer *l = &plan->layers[layer];
        facet_text_add(out, "static const run runs_%u[] = {", layer);
        for (uint32_t i = 0; i < l->n_tiles;) {
            uint32_t end = i + 1;
            while (end < l->n_tiles && l->tiles[end] == l->tiles[end - 1] + 1)
                end++;
            facet_text_add(out, "{%u, %u, %u}, ", l->tiles[i], end - i, i);
            i = end;
        }
        facet_text_add(out, "{%u, 0, %u}};\n", facet_plan_all_tiles(plan), l->n_tiles);
    }
    facet_text_puts(out, "static const run *const runs[N_LAYERS] = {");
    for (uint32_t layer = 0; layer < plan->shape.n_layers; layer++)
        facet_text_add(out, "%sruns_%u", layer ? ", " : "", owner_of_runs(plan, layer));
    facet_text_puts(out, "};\n");
}

static void emit_order(const facet_plan *plan, uint32_t layer, facet_text *out)
{
    const uint32_t *perm = plan->layers[layer].perm;
    facet_text_add(out, "static const channel order_%u[] = {", layer);
    for (uint32_t i = 0; i < facet_plan_all_tiles(plan) * FACET_TILE; i++) {
        facet_text_puts(out, i % FACET_TILE == 0 ? "\n    " : " ");
        if (perm[i] == UINT32_MAX)
            facet_text_puts(out, "NO_CHANNEL,");
        else
            facet_text_add(out, "%u,", perm[i]);
    }
    facet_text_puts(out, "\n};\n");
}

static void emit_orders(const facet_plan *plan, facet_text *out)
{
    bool any = false;
    for (uint32_t layer = 0; layer < plan->shape.n_layers; layer++)
        any = any || plan->layers[layer].perm;
    if (!any) return;
    facet_text_puts(out, "\n// Channel of each layout position, a line a tile.\n");
    for (uint32_t layer = 0; layer < plan->shape.n_layers; layer++) {
        if (plan->layers[layer].perm && owner_of_order(plan, layer) == layer)
            emit_order(plan, layer, out);
    }
    facet_text_puts(out, "static const channel *const orders[N_LAYERS] = {");
    for (uint32_t layer = 0; layer < plan->shape.n_layers; layer++) {
        if (plan->layers[layer].perm)
            facet_text_add(out, "%sorder_%u", layer ? ", " : "", owner_of_order(plan, layer));
        else
            facet_text_add(out, "%s0", layer ? ", " : "");
    }
    facet_text_puts(out, "};\n");
}

static void emit_z_cols(const facet_plan *plan, facet_text *out)
{
    facet_text_puts(out, "\n// Columns of a row of z.\nstatic const uint32_t z_cols[N_LAYERS] = {");
    for (uint32_t layer = 0; layer < plan->shape.n_layers; layer++)
        facet_text_add(out, "%s%u", layer ? ", " : "",
                       (plan->layers[layer].down_cols + 31u) & ~31u);
    facet_text_puts(out, "};\n");
}

// ---- functions ----------------------------------------------------------------------------------

static facet_status emit_variant(emitter *e, facet_stage_id stage, uint32_t i)
{
    const facet_variants *variants = &e->variants[stage];
    facet_holes holes;
    facet_holes_init(&holes, &e->arena);
    const char *name = facet_variant_holes(e->plan, stage, variants->first_layer[i], &holes);
    facet_text layers;
    facet_text_init(&layers, e->arena.alloc);
    facet_variants_layers(variants, e->plan->shape.n_layers, i, &layers);
    facet_holes_put(&holes, "id", "%u", i);
    facet_holes_put(&holes, "layers", "%s", facet_text_str(&layers));
    facet_text_fini(&layers);
    return facet_template_fill(name, &holes, e->out, e->err);
}

static facet_status emit_stages(emitter *e)
{
    for (uint32_t stage = 0; stage < FACET_STAGE_COUNT; stage++) {
        FACET_TRY(facet_variants_find(e->plan, (facet_stage_id)stage, &e->arena,
                                      &e->variants[stage], e->err));
        for (uint32_t i = 0; i < e->variants[stage].n; i++)
            FACET_TRY(emit_variant(e, (facet_stage_id)stage, i));
    }
    return FACET_OK;
}

static facet_status emit_head(emitter *e)
{
    const facet_plan *plan = e->plan;
    facet_holes holes;
    facet_holes_init(&holes, &e->arena);
    facet_holes_put(&holes, "head_pack", "%s", facet_pack_constant(plan->head));
    facet_holes_put(&holes, "quantised", "%d", plan->head > FACET_PACK_BF16);
    facet_holes_put(&holes, "has_post", "%d", plan->layers[plan->shape.n_layers - 1].ffn_post);
    return facet_template_fill("head.in", &holes, e->out, e->err);
}

static uint32_t stage_units(const facet_plan *plan, facet_stage_id stage, uint32_t layer)
{
    const facet_shape *s = &plan->shape;
    switch (stage) {
    case FACET_STAGE_QKV:
        return s->n_heads + 2 * s->n_kv_heads;
    case FACET_STAGE_ATTN:
        return s->n_heads;
    case FACET_STAGE_FFN_IN:
        return plan->layers[layer].n_tiles;
    default:
        return (s->d_model + FACET_GROUP - 1) / FACET_GROUP;
    }
}

static void emit_stage_table(const emitter *e)
{
    facet_text *out = e->out;
    facet_text_puts(out, "\nstatic const facet_stage stages[N_LAYERS][FACET_STAGE_COUNT] = {\n");
    for (uint32_t layer = 0; layer < e->plan->shape.n_layers; layer++) {
        facet_text_puts(out, "    {");
        for (uint32_t i = 0; i < FACET_STAGE_COUNT; i++) {
            const facet_stage_id stage = (facet_stage_id)i;
            const char *name = facet_stage_name(stage);
            const uint32_t id = e->variants[i].of_layer[layer];
            facet_text_puts(out, i ? ", {" : "{");
            if (facet_variant_enters(e->plan, stage, layer))
                facet_text_add(out, "%s_%u_enter, ", name, id);
            else
                facet_text_puts(out, "0, ");
            facet_text_add(out, "%s_%u, %u}", name, id, stage_units(e->plan, stage, layer));
        }
        facet_text_puts(out, "},\n");
    }
    facet_text_puts(out, "};\n");
}

// ---- the whole ----------------------------------------------------------------------------------

static facet_status emit_all(emitter *e)
{
    FACET_TRY(emit_banner(e));
    FACET_TRY(facet_template_fill("abi.h", NULL, e->out, e->err));
    FACET_TRY(emit_shape(e));
    FACET_TRY(facet_template_fill(e->target->simd, NULL, e->out, e->err));
    FACET_TRY(facet_template_fill("linear.h", NULL, e->out, e->err));
    FACET_TRY(facet_template_fill("stages.h", NULL, e->out, e->err));
    facet_text_puts(e->out,
                    "\n// ---- tables ---------------------------------------------------\n");
    emit_runs(e->plan, e->out);
    emit_orders(e->plan, e->out);
    emit_z_cols(e->plan, e->out);
    facet_text_puts(e->out,
                    "\n// ---- stages ---------------------------------------------------\n");
    FACET_TRY(emit_stages(e));
    FACET_TRY(emit_head(e));
    emit_stage_table(e);
    facet_holes holes;
    facet_holes_init(&holes, &e->arena);
    facet_holes_put(&holes, "target", "%s", e->target->name);
    facet_holes_put(&holes, "plan", "%s", e->digest.hex);
    return facet_template_fill("artifact.in", &holes, e->out, e->err);
}

facet_status facet_emit(const facet_plan *plan, facet_text *source, facet_err *err)
{
    FACET_TRY(facet_plan_check(plan, err));
    emitter e = {
        .plan = plan, .target = facet_target_find(plan->target), .out = source, .err = err};
    e.digest = facet_plan_digest(plan, err);
    if (!e.digest.hex[0]) return FACET_NO_MEMORY;
    facet_arena_init(&e.arena, source->alloc);
    facet_status status = emit_all(&e);
    facet_arena_fini(&e.arena);
    if (status == FACET_OK) status = facet_text_status(source, err);
    return status;
}
