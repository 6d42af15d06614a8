// SPDX-License-Identifier: Apache-2.0
#include "tools/glue_check.h"

#include "base/memory.h"
#include "runtime/isa.h"

// The check looks at which optional vectors are there, never at what they hold.
static const float present[1];

static const float *when(bool there)
{
    return there ? present : NULL;
}

static facet_mat mat(facet_pack pack, uint32_t rows, uint32_t cols)
{
    uint32_t unit = facet_pack_cols(pack);
    return (facet_mat){.pack = pack, .n_rows = rows, .n_cols = (cols + unit - 1) / unit * unit};
}

static facet_layer layer_of(const facet_shape *shape, const facet_plan_layer *plan)
{
    uint32_t q_rows = shape->n_heads * shape->head_dim;
    uint32_t kv_rows = shape->n_kv_heads * shape->head_dim;
    return (facet_layer){
        .q = mat(plan->q, q_rows, shape->d_model),
        .k = mat(plan->k, kv_rows, shape->d_model),
        .v = mat(plan->v, kv_rows, shape->d_model),
        .o = mat(plan->o, shape->d_model, q_rows),
        .gate = mat(plan->gate, shape->d_ff, shape->d_model),
        .up = mat(plan->up, shape->d_ff, shape->d_model),
        .down = {.pack = plan->down, .n_rows = shape->d_model, .n_cols = plan->down_cols},
        .q_bias = when(plan->q_bias),
        .k_bias = when(plan->k_bias),
        .v_bias = when(plan->v_bias),
        .o_bias = when(plan->o_bias),
        .q_norm = when(plan->q_norm),
        .k_norm = when(plan->k_norm),
        .attn_norm = present,
        .ffn_norm = present,
        .attn_post = when(plan->attn_post),
        .ffn_post = when(plan->ffn_post),
        .down_bias = when(plan->down_bias),
        .tiles = plan->tiles,
        .n_tiles = plan->n_tiles,
        .perm = plan->perm,
        .window = plan->window,
        .rope = plan->rope,
    };
}

facet_status facet_glue_check(const facet_tool *tool, const char *path, const facet_plan *plan,
                              facet_check_result *result, facet_err *err)
{
    if (!facet_isa_runs(plan->target, tool->env.isa))
        return facet_fail(err, FACET_NO_DEVICE,
                          "%s: this CPU cannot run it; check it where it runs", plan->target);
    const facet_digest digest = facet_plan_digest(plan, err);
    facet_layer *layers = facet_mem_new(NULL, plan->shape.n_layers, sizeof *layers);
    if (layers == NULL) return facet_fail_memory(err, plan->shape.n_layers * sizeof *layers);
    for (uint32_t i = 0; i < plan->shape.n_layers; i++)
        layers[i] = layer_of(&plan->shape, &plan->layers[i]);
    const facet_check_spec spec = {
        .shape = plan->shape,
        .layers = layers,
        .head = mat(plan->head, plan->shape.n_vocab, plan->shape.d_model),
        .plan = digest.hex,
        .seed = 1,
    };
    facet_status status = facet_check_artifact(path, &spec, NULL, result, err);
    facet_mem_free(NULL, layers);
    return status;
}
