// SPDX-License-Identifier: Apache-2.0
// The order of a build and its clean-up. Everything is written into a bundle inside a private
// temporary directory beside the output; publishing it is one rename. Whatever fails or interrupts
// the build, that directory is removed and the output is untouched.
#include "compiler/build.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "compiler/build_choose.h"
#include "compiler/select.h"
#include "compiler/weights.h"
#include "model/tokenizer.h"

const char *facet_build_step_name(facet_build_step step)
{
    static const char *const names[FACET_STEP_COUNT] = {
        [FACET_STEP_READ] = "read",     [FACET_STEP_CHOOSE] = "choose",
        [FACET_STEP_LAYOUT] = "layout", [FACET_STEP_COMPENSATE] = "compensate",
        [FACET_STEP_TUNE] = "tune",     [FACET_STEP_QUANTIZE] = "quantize",
        [FACET_STEP_PACK] = "pack",     [FACET_STEP_KERNELS] = "kernels",
        [FACET_STEP_PROVE] = "prove",   [FACET_STEP_PUBLISH] = "publish",
    };
    return names[step];
}

void facet_build_result_fini(facet_build_result *result)
{
    for (uint32_t k = 0; result->families && k < result->n_families; k++)
        facet_mem_free(result->alloc, result->families[k].ppl_other);
    facet_mem_free(result->alloc, result->families);
    *result = (facet_build_result){0};
}

// ---- checks
// --------------------------------------------------------------------------------------

static facet_status check_families(const facet_building *b, facet_err *err)
{
    const facet_family_set *set = b->families;
    const facet_hparams *hp = &b->model->hp;
    const char *shape = facet_model_shape(b->model);
    if (set->n_layers != hp->n_layers || set->d_ff != hp->d_ff ||
        (set->shape && set->shape[0] && strcmp(set->shape, shape) != 0))
        return facet_fail(err, FACET_MISMATCH,
                          "families: they are of a model of shape %s and this model has shape %s; "
                          "predict and cluster with this model",
                          set->shape ? set->shape : "?", shape);
    if (set->n_families == 0)
        return facet_fail(err, FACET_BAD_INPUT, "families: there are none; cluster some samples");
    for (uint32_t k = 0; k < set->n_families; k++) {
        if (!facet_manifest_name_ok(set->names[k]) || strcmp(set->names[k], "dense") == 0)
            return facet_fail(err, FACET_BAD_INPUT,
                              "families: the name \"%.40s\" cannot be used; name it otherwise",
                              set->names[k]);
        for (uint32_t i = 0; i < k; i++)
            if (strcmp(set->names[i], set->names[k]) == 0)
                return facet_fail(err, FACET_BAD_INPUT, "families: two are named %s",
                                  set->names[k]);
    }
    for (uint64_t i = 0; i < set->samples.n_tokens && set->samples.tokens; i++)
        if (set->samples.tokens[i] >= hp->n_vocab)
            return facet_fail(err, FACET_MISMATCH,
                              "families: token %u is not in the model's vocabulary of %u",
                              set->samples.tokens[i], hp->n_vocab);
    return FACET_OK;
}

static facet_status check(facet_building *b, const char *out, facet_err *err)
{
    const facet_build_opts *opts = b->opts;
    const bool given = opts->keep > 0 || opts->keep < 0 || isnan(opts->keep);
    b->keep = given ? opts->keep : b->families && b->families->keep > 0 ? b->families->keep : 0.5;
    FACET_TRY(facet_select_check(b->keep, err));
    if (b->families) FACET_TRY(check_families(b, err));
    if (b->families) FACET_TRY(facet_build_scores_check(b, err));
    if (opts->n_targets > 0 && !opts->cc)
        return facet_fail(err, FACET_NO_COMPILER,
                          "kernels: no C compiler was found; install gcc or clang, set CC, or use "
                          "--mode generic");
    for (uint32_t i = 0; i < opts->n_targets; i++)
        if (!facet_target_find(opts->targets[i]))
            return facet_fail(err, FACET_USAGE, "target %s: no such target", opts->targets[i]);
    if (facet_path_exists(out) && !opts->force)
        return facet_fail_at(err, FACET_REFUSED, out, -1,
                             "%s: exists already; choose another name or add --force", out);
    return FACET_OK;
}

// ---- steps
// ---------------------------------------------------------------------------------------

static facet_status make_directories(facet_building *b, const char *out, facet_err *err)
{
    char parent[4096], name[256], path[4096];
    size_t length = strlen(out);
    while (length > 1 && out[length - 1] == '/')
        length--;
    if (length >= sizeof parent)
        return facet_fail(err, FACET_BAD_INPUT, "output: the path is too long");
    size_t slash = length;
    while (slash > 0 && out[slash - 1] != '/')
        slash--;
    if (length - slash >= sizeof name - 16 || length == slash)
        return facet_fail(err, FACET_BAD_INPUT, "output %.200s: not a usable name", out);
    snprintf(parent, sizeof parent, "%.*s", (int)slash, slash > 0 ? out : "");
    if (slash == 0)
        snprintf(parent, sizeof parent, ".");
    else if (slash > 1)
        parent[slash - 1] = 0;
    snprintf(name, sizeof name, "%.*s", (int)(length - slash), out + slash);
    FACET_TRY(facet_dir_temp(parent, name, path, sizeof path, err));
    memcpy(b->temp, path, sizeof b->temp);
    // The temporary directory is private; the bundle in it gets the modes that the user's mask
    // allows.
    FACET_TRY(facet_path_join(b->dir, sizeof b->dir, b->temp, "bundle", err));
    FACET_TRY(facet_dir_make(b->dir, 0777, err));
    if (b->n_families == 0) return FACET_OK;
    FACET_TRY(facet_build_path(b, "families", path, err));
    return facet_dir_make(path, 0777, err);
}

static facet_status read_model(facet_building *b, facet_err *err)
{
    char *print = b->manifest.model.fingerprint;
    FACET_TRY(facet_model_fingerprint(b->model, b->opts->report, print, err));
    const char *theirs = b->families ? b->families->model : NULL;
    if (theirs && theirs[0] && strcmp(theirs, print) != 0)
        facet_report_log(b->opts->report, FACET_LOG_WARN,
                         "families: made with another model of the same shape (%s, here %s)",
                         theirs, print);
    if (!b->families) return FACET_OK;
    FACET_TRY(facet_family_splits(b->families, b->alloc, b->splits, err));
    return facet_build_judgeable(b, err);
}

static facet_status make_layout(facet_building *b, facet_err *err)
{
    const facet_hparams *hp = &b->model->hp;
    const facet_layout_problem problem = {b->n_families, hp->n_layers, hp->d_ff, b->worth,
                                          b->n_keep};
    return facet_layout_build(&problem, b->alloc, b->opts->report, &b->layout, err);
}

static facet_status write_tokenizer(facet_building *b, facet_err *err)
{
    facet_tokenizer *tokenizer = NULL;
    facet_text bytes;
    char path[4096];
    facet_text_init(&bytes, b->alloc);
    facet_status status = facet_tokenizer_new(b->model, &tokenizer, err);
    if (status != FACET_OK) goto done;
    snprintf(b->chat, sizeof b->chat, "%s", facet_tokenizer_chat(tokenizer));
    FACET_TRY_GOTO(facet_tokenizer_save(tokenizer, &bytes, err), done);
    FACET_TRY_GOTO(facet_text_status(&bytes, err), done);
    FACET_TRY_GOTO(facet_build_path(b, "tokenizer.bin", path, err), done);
    status = facet_file_write(path, bytes.data, bytes.length, false, err);
done:
    facet_text_fini(&bytes);
    facet_tokenizer_free(tokenizer);
    return status;
}

static facet_status pack(facet_building *b, facet_err *err)
{
    char path[4096];
    facet_entries entries = {.arena = &b->manifest.arena};
    FACET_TRY(write_tokenizer(b, err));
    FACET_TRY(facet_build_manifest_begin(b, err));
    FACET_TRY(facet_build_add_file(b, "tokenizer.bin", err));
    FACET_TRY(facet_build_path(b, "weights.bin", path, err));
    FACET_TRY(facet_weights_write(b->model, &b->layout, path, b->opts->report, &entries, err));
    b->manifest.entries = entries.list;
    b->manifest.n_entries = entries.n;
    FACET_TRY(facet_build_add_file(b, "weights.bin", err));
    return facet_path_size(path, &b->result.weights_bytes, err);
}

// Clocks itself: calibration and rounding are counted apart.
static facet_status write_families(facet_building *b, facet_err *err)
{
    for (uint32_t k = 0; k < b->n_families; k++)
        FACET_TRY(facet_build_family_write(b, k, err));
    return FACET_OK;
}

static facet_status prove(facet_building *b, facet_err *err)
{
    if (b->n_families == 0) return facet_build_manifest_end(b, err);
    // The bundle must be whole before it can be measured; the proof then joins the list of files.
    if (b->opts->prove || b->opts->n_scores > 0) FACET_TRY(facet_build_manifest_end(b, err));
    FACET_TRY(facet_build_prove(b, err));
    return facet_build_manifest_end(b, err);
}

typedef struct step {
    int which; // FACET_STEP_COUNT: clocks itself
    facet_status (*run)(facet_building *b, facet_err *err);
} step;

static facet_status run_steps(facet_building *b, facet_err *err)
{
    static const step steps[] = {
        {FACET_STEP_READ, read_model},      {FACET_STEP_CHOOSE, facet_build_choose},
        {FACET_STEP_LAYOUT, make_layout},   {FACET_STEP_PACK, pack},
        {FACET_STEP_COUNT, write_families}, {FACET_STEP_KERNELS, facet_build_kernels},
        {FACET_STEP_PROVE, prove},
    };
    for (size_t i = 0; i < FACET_COUNT_OF(steps); i++) {
        const uint64_t since = facet_clock_ns();
        // The random control of the proof calibrates too; its time belongs to the proof alone.
        const double compensate = b->result.seconds[FACET_STEP_COMPENSATE];
        const double quantize = b->result.seconds[FACET_STEP_QUANTIZE];
        FACET_TRY(steps[i].run(b, err));
        if (steps[i].which == FACET_STEP_COUNT) continue;
        b->result.seconds[steps[i].which] += facet_clock_seconds(since);
        b->result.seconds[FACET_STEP_COMPENSATE] = compensate;
        b->result.seconds[FACET_STEP_QUANTIZE] = quantize;
    }
    return FACET_OK;
}

static facet_status building_init(facet_building *b, facet_err *err)
{
    const size_t cells = (size_t)b->n_families * b->model->hp.n_layers;
    facet_arena_init(&b->arena, b->alloc);
    facet_arena_init(&b->manifest.arena, b->alloc);
    b->result.alloc = b->alloc;
    b->splits = facet_arena_new(&b->arena, b->n_families, sizeof *b->splits);
    b->layers = facet_arena_new(&b->arena, cells, sizeof *b->layers);
    b->result.families = facet_mem_new(b->alloc, b->n_families, sizeof *b->result.families);
    b->result.n_families = b->n_families;
    if (b->splits && b->layers && b->result.families) return FACET_OK;
    return facet_fail_memory(err, cells * sizeof *b->layers);
}

static void building_fini(facet_building *b)
{
    for (uint32_t k = 0; b->splits && k < b->n_families; k++)
        facet_family_split_fini(&b->splits[k], b->alloc);
    facet_layout_fini(&b->layout);
    facet_manifest_fini(&b->manifest);
    facet_arena_fini(&b->arena);
    facet_build_result_fini(&b->result);
    if (b->temp[0]) facet_dir_remove(b->temp, NULL);
}

facet_status facet_build_bundle(const facet_model *model, const facet_family_set *families,
                                const facet_build_opts *opts, const facet_build_ops *ops,
                                const char *out, facet_build_result *result, facet_err *err)
{
    const uint64_t start = facet_clock_ns();
    facet_building b = {.model = model,
                        .families = families,
                        .opts = opts,
                        .ops = ops,
                        .alloc = opts->alloc,
                        .n_families = families ? families->n_families : 0};
    facet_status status = check(&b, out, err);
    if (status == FACET_OK) status = building_init(&b, err);
    if (status == FACET_OK) status = make_directories(&b, out, err);
    if (status == FACET_OK) status = run_steps(&b, err);
    const uint64_t since = facet_clock_ns();
    if (status == FACET_OK) status = facet_dir_sync(b.dir, err);
    if (status == FACET_OK) status = facet_dir_publish(b.dir, out, opts->force, err);
    if (status == FACET_OK) {
        b.result.seconds[FACET_STEP_PUBLISH] = facet_clock_seconds(since);
        b.result.seconds_total = facet_clock_seconds(start);
        *result = b.result;
        b.result = (facet_build_result){0};
    }
    building_fini(&b);
    return status;
}
