// SPDX-License-Identifier: Apache-2.0
#include "tools/resolve.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/paths.h"
#include "cache/manifest.h"
#include "compiler/build.h"
#include "tools/dense_recipe.h"
#include "tools/glue_build.h"

// ---- what is it?
// ----------------------------------------------------------------------------------

static facet_status directory_kind(const char *path, facet_kind *kind, facet_err *err)
{
    char inner[4096];
    FACET_TRY(facet_path_join(inner, sizeof inner, path, "manifest.json", err));
    if (facet_path_exists(inner)) {
        *kind = FACET_KIND_BUNDLE;
        return FACET_OK;
    }
    FACET_TRY(facet_path_join(inner, sizeof inner, path, "config.json", err));
    if (!facet_path_exists(inner))
        return facet_fail_at(err, FACET_BAD_FILE, path, -1,
                             "%s: has neither manifest.json nor config.json; name a bundle or a "
                             "model directory",
                             path);
    *kind = FACET_KIND_MODEL;
    return FACET_OK;
}

static bool starts_with_gguf(const char *path)
{
    char magic[4] = {0};
    FILE *file = fopen(path, "rb");
    if (file == NULL) return false;
    size_t n = fread(magic, 1, sizeof magic, file);
    (void)fclose(file);
    return n == sizeof magic && memcmp(magic, "GGUF", sizeof magic) == 0;
}

facet_status facet_kind_find(const char *path, facet_kind *kind, facet_err *err)
{
    if (access(path, R_OK) != 0) return facet_fail_errno(err, errno, path, "open");
    if (facet_path_is_dir(path)) return directory_kind(path, kind, err);
    if (starts_with_gguf(path)) {
        *kind = FACET_KIND_MODEL;
        return FACET_OK;
    }
    char name[16] = "";
    FACET_TRY(facet_samples_kind(path, name, err));
    if (strcmp(name, "masks") == 0)
        *kind = FACET_KIND_MASKS;
    else if (strcmp(name, "families") == 0)
        *kind = FACET_KIND_FAMILIES;
    else
        return facet_fail_at(err, FACET_BAD_FILE, path, -1,
                             "%s: is no model, mask set, family set or bundle; of a safetensors "
                             "model name the directory",
                             path);
    return FACET_OK;
}

// ---- the cache
// ------------------------------------------------------------------------------------

facet_status facet_tool_cache(const facet_tool *tool, facet_cache **cache, facet_err *err)
{
    char place[4096] = "";
    const facet_tool_env *env = &tool->env;
    // A relative XDG_CACHE_HOME is to be ignored, says its specification.
    if (env->xdg != NULL && env->xdg[0] == '/')
        FACET_TRY(facet_path_join(place, sizeof place, env->xdg, "facet", err));
    else if (env->home != NULL)
        FACET_TRY(facet_path_join(place, sizeof place, env->home, ".cache/facet", err));
    static const facet_cache_mode modes[] = {
        [FACET_TOOL_AUTO] = FACET_CACHE_AUTO,
        [FACET_TOOL_STRICT] = FACET_CACHE_STRICT,
        [FACET_TOOL_GENERIC] = FACET_CACHE_AUTO,
        [FACET_TOOL_REBUILD] = FACET_CACHE_REBUILD,
    };
    const facet_cache_opts opts = {
        .root = tool->cache != NULL ? tool->cache : env->cache,
        .fallback = place[0] != '\0' ? place : NULL,
        .temp_parent = env->temp != NULL ? env->temp : "/tmp",
        .mode = modes[tool->mode],
        .report = &tool->report,
    };
    return facet_cache_open(&opts, cache, err);
}

// ---- bundles
// --------------------------------------------------------------------------------------

facet_status facet_resolve_bundle(const facet_tool *tool, const char *path, facet_bundle **bundle,
                                  facet_err *err)
{
    static const facet_mode modes[] = {
        [FACET_TOOL_AUTO] = FACET_MODE_AUTO,
        [FACET_TOOL_STRICT] = FACET_MODE_STRICT,
        [FACET_TOOL_GENERIC] = FACET_MODE_GENERIC,
        [FACET_TOOL_REBUILD] = FACET_MODE_AUTO,
    };
    const facet_open_opts opts = {
        .log = &tool->log,
        .mode = modes[tool->mode],
        .isa = tool->env.isa,
        .n_threads = tool->n_threads,
    };
    return facet_open(path, &opts, bundle, err);
}

typedef struct dense_job {
    facet_tool tool; // a copy: callbacks want it writable
    const facet_model *model;
    const facet_targets *targets;
    const facet_cc *cc;
    facet_cache *cache;
} dense_job;

static facet_status build_dense(void *ctx, const char *dir, const char *path, facet_err *err)
{
    (void)dir;
    dense_job *job = ctx;
    const facet_build_opts opts = {
        .keep = 1,
        .targets = job->targets->names,
        .n_targets = job->targets->n,
        .cc = job->cc,
        .cache = job->cache,
        .report = &job->tool.report,
    };
    const facet_build_ops ops = facet_glue_build(&job->tool);
    facet_build_result result = {0};
    facet_status status = facet_build_bundle(job->model, NULL, &opts, &ops, path, &result, err);
    facet_build_result_fini(&result);
    return status;
}

static facet_status get_dense(dense_job *job, facet_resolved *out, facet_err *err)
{
    facet_text recipe;
    facet_text_init(&recipe, NULL);
    facet_cache_hit hit;
    facet_status status =
        facet_dense_recipe(&job->tool, job->model, job->targets, job->cc, &recipe, err);
    if (status == FACET_OK)
        status =
            facet_cache_get_dir(job->cache, facet_text_str(&recipe), build_dense, job, &hit, err);
    facet_text_fini(&recipe);
    if (status != FACET_OK) return status;
    memcpy(out->path, hit.path, sizeof out->path);
    return facet_resolve_bundle(&job->tool, hit.path, &out->bundle, err);
}

facet_status facet_resolve_model(const facet_tool *tool, const facet_model *model,
                                 facet_resolved *out, facet_err *err)
{
    facet_targets targets;
    facet_cc cc = {.path = ""};
    FACET_TRY(facet_targets_find(tool, "native", &targets, err));
    if (targets.n > 0) FACET_TRY(facet_cc_find(tool->env.compiler, &cc, err));
    facet_resolved made = {0};
    FACET_TRY(facet_tool_cache(tool, &made.cache, err));
    dense_job job = {
        .tool = *tool,
        .model = model,
        .targets = &targets,
        .cc = targets.n > 0 ? &cc : NULL,
        .cache = made.cache,
    };
    facet_status status = get_dense(&job, &made, err);
    if (status == FACET_OK)
        *out = made;
    else
        facet_resolved_fini(&made);
    return status;
}

facet_status facet_resolve(const facet_tool *tool, const char *path, facet_resolved *out,
                           facet_err *err)
{
    facet_kind kind;
    FACET_TRY(facet_kind_find(path, &kind, err));
    if (kind == FACET_KIND_BUNDLE) {
        facet_resolved made = {0};
        FACET_TRY(facet_resolve_bundle(tool, path, &made.bundle, err));
        (void)snprintf(made.path, sizeof made.path, "%s", path);
        *out = made;
        return FACET_OK;
    }
    if (kind != FACET_KIND_MODEL)
        return facet_fail_at(err, FACET_BAD_INPUT, path, -1,
                             "%s: is neither a bundle nor a model; name one of them", path);
    facet_model *model;
    FACET_TRY(facet_model_open(path, NULL, &model, err));
    facet_status status = facet_resolve_model(tool, model, out, err);
    facet_model_close(model);
    return status;
}

void facet_resolved_fini(facet_resolved *resolved)
{
    facet_close(resolved->bundle);
    facet_cache_close(resolved->cache);
    *resolved = (facet_resolved){0};
}

facet_status facet_output_check(const char *path, bool force, facet_err *err)
{
    char parent[4096];
    FACET_TRY(facet_path_parent(path, parent, sizeof parent, err));
    if (!force && facet_path_exists(path))
        return facet_fail_at(err, FACET_REFUSED, path, -1,
                             "%s: exists already; add --force to replace it", path);
    if (access(parent, W_OK) != 0) return facet_fail_errno(err, errno, parent, "write into");
    return FACET_OK;
}
