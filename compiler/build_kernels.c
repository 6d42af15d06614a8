// SPDX-License-Identifier: Apache-2.0
// Kernels of every family and target: plan -> source -> recipe -> cache (compile and check on a
// miss)
// -> kernels/KEY.so of the bundle.
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "compiler/build_parts.h"
#include "compiler/weights.h"

typedef struct making {
    facet_building *b;
    const facet_target *target;
    const facet_plan *plan;
    const char *source;
} making;

static bool has(const facet_building *b, facet_role role, uint32_t layer)
{
    return facet_model_tensor(b->model, role, layer) != NULL;
}

// get_shape of runtime/layers.c says the same again: of the rooms that both may include, cache/
// knows the manifest and kernels/ the shape, and neither may include the other.
static void plan_shape(const facet_manifest_model *m, facet_shape *shape)
{
    *shape = (facet_shape){.n_layers = m->n_layers,
                           .d_model = m->d_model,
                           .d_ff = m->d_ff,
                           .n_heads = m->n_heads,
                           .n_kv_heads = m->n_kv_heads,
                           .head_dim = m->head_dim,
                           .n_vocab = m->n_vocab,
                           .rope_dims = m->rope_dims,
                           .rope_style = m->rope_style,
                           .act = m->act,
                           .rms_eps = (float)m->rms_eps,
                           .attn_scale = (float)m->attn_scale};
}

// family 0 is dense. `all` lists every tile.
static void plan_layer(const facet_building *b, uint32_t family, uint32_t layer,
                       const uint32_t *all, facet_plan_layer *out)
{
    const facet_model *m = b->model;
    const facet_hparams *hp = &m->hp;
    const bool windowed = facet_model_windowed(hp, layer);
    *out = (facet_plan_layer){
        .q = facet_weights_pack(m, FACET_ROLE_Q, layer),
        .k = facet_weights_pack(m, FACET_ROLE_K, layer),
        .v = facet_weights_pack(m, FACET_ROLE_V, layer),
        .o = facet_weights_pack(m, FACET_ROLE_O, layer),
        .gate = facet_weights_pack(m, FACET_ROLE_GATE, layer),
        .up = facet_weights_pack(m, FACET_ROLE_UP, layer),
        .down = facet_weights_pack(m, FACET_ROLE_DOWN, layer),
        .down_cols = hp->d_ff,
        .q_bias = has(b, FACET_ROLE_Q_BIAS, layer),
        .k_bias = has(b, FACET_ROLE_K_BIAS, layer),
        .v_bias = has(b, FACET_ROLE_V_BIAS, layer),
        .o_bias = has(b, FACET_ROLE_O_BIAS, layer),
        .q_norm = has(b, FACET_ROLE_Q_NORM, layer),
        .k_norm = has(b, FACET_ROLE_K_NORM, layer),
        .attn_post = has(b, FACET_ROLE_ATTN_POST, layer),
        .ffn_post = has(b, FACET_ROLE_FFN_POST, layer),
        .window = windowed ? hp->window : 0,
        .rope = windowed ? 1 : 0,
        .tiles = all,
        .n_tiles = b->layout.n_tiles,
        .perm = facet_layout_perm(&b->layout, layer),
    };
    if (family == 0) return;
    const facet_built_layer *built = &b->layers[(size_t)(family - 1) * hp->n_layers + layer];
    out->perm = NULL;
    out->tiles = facet_layout_tiles(&b->layout, family - 1, layer);
    out->n_tiles = facet_layout_kept(&b->layout, family - 1, layer);
    out->down = built->down;
    out->down_cols = out->n_tiles * FACET_TILE;
    out->down_bias = built->bias;
}

static facet_status plan_init(const facet_building *b, uint32_t family, facet_arena *arena,
                              facet_plan *plan, facet_err *err)
{
    const uint32_t n_tiles = b->layout.n_tiles, n_layers = b->model->hp.n_layers;
    *plan = (facet_plan){.dense = family == 0,
                         .head = facet_weights_pack(b->model, FACET_ROLE_HEAD, 0)};
    plan_shape(&b->manifest.model, &plan->shape);
    uint32_t *all = facet_arena_new(arena, n_tiles, sizeof *all);
    plan->layers = facet_arena_new(arena, n_layers, sizeof *plan->layers);
    if (!all || !plan->layers) return facet_fail_memory(err, n_layers * sizeof *plan->layers);
    for (uint32_t i = 0; i < n_tiles; i++)
        all[i] = i;
    for (uint32_t layer = 0; layer < n_layers; layer++)
        plan_layer(b, family, layer, all, &plan->layers[layer]);
    return FACET_OK;
}

// The cache calls this on a miss.
static facet_status make(void *ctx, const char *dir, const char *path, facet_err *err)
{
    const making *m = ctx;
    FACET_TRY(facet_cc_compile(m->b->opts->cc, m->target, m->source, dir, path, err));
    facet_err why = {0};
    const facet_status status = m->b->ops->check(m->b->ops->ctx, path, m->plan, &why);
    if (status == FACET_NO_DEVICE) {
        facet_report_log(m->b->opts->report, FACET_LOG_WARN,
                         "kernel for %s: not checked, this machine cannot run it; run facet verify "
                         "where it can",
                         m->target->name);
        return FACET_OK;
    }
    if (status != FACET_OK && err) *err = why;
    return status;
}

static facet_status copy_file(const char *from, const char *to, facet_err *err)
{
    facet_map map;
    FACET_TRY(facet_map_open(from, &map, err));
    const facet_status status = facet_file_write(to, map.data, map.bytes, true, err);
    facet_map_close(&map);
    return status;
}

static facet_status write_source(const facet_building *b, const char *family, const char *target,
                                 const facet_text *source, facet_err *err)
{
    char name[160], path[4096];
    snprintf(name, sizeof name, "%s-%s.c", family, target);
    FACET_TRY(facet_dir_make_all(b->opts->source_dir, 0777, err));
    FACET_TRY(facet_path_join(path, sizeof path, b->opts->source_dir, name, err));
    return facet_file_write(path, source->data, source->length, b->opts->force, err);
}

static facet_status add_kernel(facet_building *b, const char *family, const char *target,
                               const facet_cache_hit *hit, facet_err *err)
{
    char path[4096];
    facet_manifest_kernel *kernel = &b->manifest.kernels[b->manifest.n_kernels];
    *kernel = (facet_manifest_kernel){.bytes = hit->bytes};
    snprintf(kernel->key, sizeof kernel->key, "%s", hit->key);
    snprintf(kernel->target, sizeof kernel->target, "%s", target);
    snprintf(kernel->family, sizeof kernel->family, "%s", family);
    snprintf(kernel->file, sizeof kernel->file, "kernels/%s.so", hit->key);
    FACET_TRY(facet_build_path(b, kernel->file, path, err));
    FACET_TRY(copy_file(hit->path, path, err));
    FACET_TRY(facet_build_add_file(b, kernel->file, err));
    b->manifest.n_kernels++;
    return FACET_OK;
}

static facet_status make_kernel(facet_building *b, const char *family, facet_plan *plan,
                                const char *target_name, facet_err *err)
{
    const facet_target *target = facet_target_find(target_name);
    if (!target)
        return facet_fail(err, FACET_USAGE, "target %s: no such target; see facet help compile",
                          target_name);
    plan->target = target->name;
    facet_text source, plan_text, recipe;
    facet_text_init(&source, b->alloc);
    facet_text_init(&plan_text, b->alloc);
    facet_text_init(&recipe, b->alloc);
    facet_status status = facet_emit(plan, &source, err);
    if (status != FACET_OK) goto done;
    facet_plan_print(plan, &plan_text);
    FACET_TRY_GOTO(facet_text_status(&plan_text, err), done);
    facet_cc_recipe(b->opts->cc, target, facet_text_str(&source), facet_text_str(&plan_text),
                    &recipe);
    FACET_TRY_GOTO(facet_text_status(&recipe, err), done);
    making m = {b, target, plan, facet_text_str(&source)};
    facet_cache_hit hit;
    FACET_TRY_GOTO(facet_cache_get(b->opts->cache, facet_text_str(&recipe), make, &m, &hit, err),
                   done);
    if (b->opts->source_dir)
        FACET_TRY_GOTO(write_source(b, family, target_name, &source, err), done);
    status = add_kernel(b, family, target_name, &hit, err);
done:
    facet_text_fini(&source);
    facet_text_fini(&plan_text);
    facet_text_fini(&recipe);
    return status;
}

static facet_status make_family(facet_building *b, uint32_t family, facet_err *err)
{
    facet_arena arena;
    facet_arena_init(&arena, b->alloc);
    facet_plan plan;
    facet_status status = plan_init(b, family, &arena, &plan, err);
    const char *name = b->manifest.families[family].name;
    for (uint32_t i = 0; i < b->opts->n_targets && status == FACET_OK; i++)
        status = make_kernel(b, name, &plan, b->opts->targets[i], err);
    facet_arena_fini(&arena);
    return status;
}

facet_status facet_build_kernels(facet_building *b, facet_err *err)
{
    if (b->opts->n_targets == 0) return FACET_OK;
    char path[4096];
    FACET_TRY(facet_build_path(b, "kernels", path, err));
    FACET_TRY(facet_dir_make(path, 0777, err));
    facet_cache_stats before, after;
    FACET_TRY(facet_cache_get_stats(b->opts->cache, &before, err));
    for (uint32_t i = 0; i < b->manifest.n_families; i++) {
        FACET_TRY(make_family(b, i, err));
        FACET_TRY(
            facet_report_progress(b->opts->report, "kernels", i + 1, b->manifest.n_families, err));
    }
    FACET_TRY(facet_cache_get_stats(b->opts->cache, &after, err));
    b->result.cache_hits = after.run_hits - before.run_hits;
    b->result.cache_misses = after.run_misses - before.run_misses;
    b->result.cache_compiled = after.run_compiled - before.run_compiled;
    b->result.cache_rejected = after.run_rejected - before.run_rejected;
    return FACET_OK;
}
