// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "base/bits.h"
#include "compiler/select.h"
#include "predict/predict.h"
#include "tools/resolve.h"
#include "tools/steps.h"
#include "tools/tasks.h"

enum { DEFAULT_CONTINUE = 64, DEFAULT_CTX = 256 };
static const double default_keep = 0.5;

const facet_steps_opts facet_steps_defaults = {
    .predictor = "stats",
    .n_continue = DEFAULT_CONTINUE,
    .ctx = DEFAULT_CTX,
    .budget = "uniform",
    .compensate = "refit",
    .quant = "keep",
    .target = "native",
};

static const struct {
    const char *name;
    facet_predictor predictor;
} predictors[] = {
    {"stats", FACET_PREDICT_STATS},
    {"energy", FACET_PREDICT_ENERGY},
    {"glass", FACET_PREDICT_GLASS},
    {"random", FACET_PREDICT_RANDOM},
};

static facet_status find_predictor(const char *name, facet_predictor *out, facet_err *err)
{
    for (size_t i = 0; i < FACET_COUNT_OF(predictors); i++) {
        if (strcmp(predictors[i].name, name) != 0) continue;
        *out = predictors[i].predictor;
        return FACET_OK;
    }
    size_t n = strlen(name);
    if (n > 4 && strcmp(name + n - 4, ".ifp") == 0)
        return facet_fail(err, FACET_USAGE,
                          "--predictor %.80s: trained predictors are not built yet; use stats",
                          name);
    return facet_fail(
        err, FACET_USAGE,
        "--predictor %.80s: is none of stats, energy, glass, random; see facet predict "
        "--help",
        name);
}

facet_status facet_steps_check_predict(const facet_steps_opts *opts, facet_err *err)
{
    facet_predictor predictor;
    FACET_TRY(find_predictor(opts->predictor, &predictor, err));
    if (opts->tasks.n == 0)
        return facet_fail(err, FACET_USAGE,
                          "--task: none given; name at least one as --task NAME=FILE");
    return FACET_OK;
}

// ---- samples
// --------------------------------------------------------------------------------------

static facet_status continue_tasks(const facet_tool *tool, const facet_steps_opts *opts,
                                   const facet_model *model, facet_tasks *tasks, facet_err *err)
{
    if (opts->n_continue == 0 || !facet_tasks_open(tasks)) return FACET_OK;
    facet_resolved dense;
    FACET_TRY(facet_resolve_model(tool, model, &dense, err));
    facet_status status =
        facet_tasks_continue(tasks, dense.bundle, (uint32_t)opts->n_continue, &tool->report, err);
    facet_resolved_fini(&dense);
    return status;
}

static facet_status load_samples(const facet_tool *tool, const facet_steps_opts *opts,
                                 const facet_model *model, facet_mask_set *set, facet_err *err)
{
    const facet_tasks_opts tasks_opts = {&opts->tasks, opts->ctx, opts->limit, opts->raw};
    facet_tasks tasks = {0};
    facet_tokenizer *tokenizer;
    FACET_TRY(facet_tokenizer_new(model, &tokenizer, err));
    facet_status status = facet_tasks_load(&tasks_opts, tokenizer, &tasks, err);
    facet_tokenizer_free(tokenizer);
    if (status == FACET_OK && tasks.n_cut > 0)
        facet_output_warn(tool, "%zu of %zu samples were cut to their first %llu tokens",
                          tasks.n_cut, tasks.n, (unsigned long long)opts->ctx);
    if (status == FACET_OK) status = continue_tasks(tool, opts, model, &tasks, err);
    if (status == FACET_OK) status = facet_tasks_flatten(&tasks, set, err);
    facet_tasks_fini(&tasks);
    return status;
}

// ---- scores and masks
// -------------------------------------------------------------------------------

static facet_status make_masks(facet_mask_set *set, facet_err *err)
{
    const size_t rows = (size_t)set->n * set->n_layers;
    const size_t row_bytes = facet_bits_bytes(set->d_ff);
    const uint32_t n_kept = facet_select_channels(set->d_ff, set->keep);
    uint32_t *order = facet_mem_new(NULL, set->d_ff, sizeof *order);
    set->mask = facet_mem_new(set->alloc, rows, row_bytes);
    facet_status status = FACET_OK;
    if (order == NULL || set->mask == NULL) status = facet_fail_memory(err, rows * row_bytes);
    for (size_t i = 0; i < rows && status == FACET_OK; i++)
        facet_select_top(set->scores + i * set->d_ff, set->d_ff, n_kept, order,
                         set->mask + i * row_bytes);
    facet_mem_free(NULL, order);
    return status;
}

static facet_status describe_source(const facet_tool *tool, const facet_model *model,
                                    facet_mask_set *set, facet_err *err)
{
    char fingerprint[33];
    FACET_TRY(facet_model_fingerprint(model, &tool->report, fingerprint, err));
    set->shape = facet_mem_strdup(set->alloc, facet_model_shape(model));
    set->model = facet_mem_strdup(set->alloc, fingerprint);
    if (set->shape == NULL || set->model == NULL) return facet_fail_memory(err, sizeof fingerprint);
    set->n_layers = model->hp.n_layers;
    set->d_ff = model->hp.d_ff;
    return FACET_OK;
}

static facet_status fill(facet_tool *tool, const facet_steps_opts *opts, const facet_model *model,
                         facet_mask_set *set, facet_err *err)
{
    facet_predict_opts predict_opts = {
        .seed = opts->seed,
        .n_threads = tool->n_threads,
        .report = &tool->report,
    };
    FACET_TRY(find_predictor(opts->predictor, &predict_opts.predictor, err));
    FACET_TRY(load_samples(tool, opts, model, set, err));
    FACET_TRY(describe_source(tool, model, set, err));
    set->keep = opts->keep > 0 ? opts->keep : default_keep;
    size_t layer_scores, count;
    if (!facet_mul_size(set->n_layers, set->d_ff, &layer_scores) ||
        !facet_mul_size(layer_scores, set->n, &count))
        return facet_fail(err, FACET_NO_MEMORY, "scores: too many samples; use --limit");
    set->scores = facet_mem_new(set->alloc, count, sizeof *set->scores);
    if (set->scores == NULL) return facet_fail_memory(err, count * sizeof *set->scores);
    FACET_TRY(facet_predict(model, &set->samples, &predict_opts, set->scores, err));
    return make_masks(set, err);
}

facet_status facet_steps_predict(facet_tool *tool, const facet_steps_opts *opts,
                                 const facet_model *model, facet_mask_set *out, facet_err *err)
{
    facet_mask_set set = {0};
    facet_status status = fill(tool, opts, model, &set, err);
    if (status == FACET_OK)
        *out = set;
    else
        facet_mask_set_fini(&set);
    return status;
}
