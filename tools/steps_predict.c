// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "base/bits.h"
#include "compiler/select.h"
#include "predict/predict.h"
#include "tools/dense_recipe.h"
#include "tools/resolve.h"
#include "tools/steps.h"
#include "tools/tasks.h"

enum { DEFAULT_CONTINUE = 64, DEFAULT_CTX = 256 };
static const double default_temperature = 0.8;
static const double default_keep = 0.5;

const facet_steps_opts facet_steps_defaults = {
    .predictor = "stats",
    .n_continue = DEFAULT_CONTINUE,
    .answers = 1,
    .temperature = default_temperature,
    .ctx = DEFAULT_CTX,
    .budget = "uniform",
    .tune_text = 0.5,
    .compensate = "refit",
    .refit_target = "auto",
    .select = "stats",
    .down = "auto",
    .precision = "auto",
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
                                   const facet_model *model, facet_tasks *tasks,
                                   facet_partial *partial, facet_err *err)
{
    if (opts->n_continue == 0 || !facet_tasks_open(tasks)) return FACET_OK;
    facet_resolved dense;
    FACET_TRY(facet_resolve_model(tool, model, &dense, err));
    const facet_continue_opts how = {(uint32_t)opts->n_continue, opts->temperature, opts->seed};
    facet_status status =
        facet_tasks_continue(tasks, dense.bundle, &how, &tool->report, partial, err);
    facet_resolved_fini(&dense);
    return status;
}

static facet_status load_tasks(const facet_tool *tool, const facet_steps_opts *opts,
                               const facet_model *model, facet_tasks *tasks, facet_err *err)
{
    const facet_tasks_opts tasks_opts = {.specs = &opts->tasks,
                                         .ctx = opts->ctx,
                                         .limit = opts->limit,
                                         .answers = opts->n_continue > 0 ? opts->answers : 1,
                                         .raw = opts->raw};
    facet_tokenizer *tokenizer;
    FACET_TRY(facet_tokenizer_new(model, &tokenizer, err));
    facet_status status = facet_tasks_load(&tasks_opts, tokenizer, tasks, err);
    facet_tokenizer_free(tokenizer);
    if (status == FACET_OK && tasks->n_cut > 0)
        facet_output_warn(tool, "%zu of %zu samples were cut to their first %llu tokens",
                          tasks->n_cut, tasks->n, (unsigned long long)opts->ctx);
    return status;
}

// Of everything that continuations and scores depend on: the program, the model, the CPU's kernels,
// the options and the prompts as tokens.
static facet_status digest_work(const facet_tool *tool, const facet_steps_opts *opts,
                                const facet_model *model, const facet_tasks *tasks,
                                facet_digest *out, facet_err *err)
{
    facet_targets targets;
    facet_text text;
    FACET_TRY(facet_targets_find(tool, "native", &targets, err));
    facet_text_init(&text, NULL);
    facet_status status = facet_dense_recipe(tool, model, &targets, NULL, &text, err);
    facet_text_add(&text, "predictor %s\ncontinue %llu\nthreads %u\nprecision %d\n",
                   opts->predictor, (unsigned long long)opts->n_continue, tool->n_threads,
                   (int)tool->precision);
    facet_text_add(&text, "temperature %.17g\nseed %llu\n", opts->temperature,
                   (unsigned long long)opts->seed);
    for (size_t i = 0; i < tasks->n; i++) {
        facet_text_add(&text, "%d %u %u\n", tasks->items[i].open, tasks->items[i].drawn,
                       tasks->items[i].n);
        facet_text_put(&text, (const char *)tasks->items[i].ids,
                       tasks->items[i].n * sizeof *tasks->items[i].ids);
    }
    if (status == FACET_OK) status = facet_text_status(&text, err);
    if (status == FACET_OK) *out = facet_hash(text.data, text.length);
    facet_text_fini(&text);
    return status;
}

static facet_status make_samples(const facet_tool *tool, const facet_steps_opts *opts,
                                 const facet_model *model, facet_partial *partial,
                                 facet_mask_set *set, facet_err *err)
{
    facet_tasks tasks = {0};
    facet_digest digest;
    FACET_TRY(load_tasks(tool, opts, model, &tasks, err));
    facet_status status = FACET_OK;
    if (partial != NULL) {
        status = digest_work(tool, opts, model, &tasks, &digest, err);
        if (status == FACET_OK) facet_partial_begin(partial, &digest);
    }
    if (status == FACET_OK) status = continue_tasks(tool, opts, model, &tasks, partial, err);
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

static bool recall(void *ctx, float *scores, size_t n)
{
    size_t bytes;
    return facet_partial_take(ctx, scores, n * sizeof *scores, n * sizeof *scores, &bytes);
}

static void keep(void *ctx, const float *scores, size_t n)
{
    facet_partial_put(ctx, scores, n * sizeof *scores);
}

facet_status facet_steps_precision(facet_tool *tool, const facet_steps_opts *opts, facet_err *err)
{
    const char *name = opts->precision;
    const bool has = strcmp(name, "f32") != 0 && facet_bf16_has();
    tool->precision = has ? FACET_PRECISION_BF16 : FACET_PRECISION_F32;
    if (has || strcmp(name, "bf16") != 0) return FACET_OK;
    return facet_fail(
        err, FACET_UNSUPPORTED,
        "--precision bf16: needs a CPU with AVX512-BF16 and oneDNN (libdnnl); use f32");
}

static facet_status fill(facet_tool *tool, const facet_steps_opts *opts, const facet_model *model,
                         facet_partial *partial, facet_mask_set *set, facet_err *err)
{
    FACET_TRY(facet_steps_precision(tool, opts, err));
    const facet_predict_memory memory = {partial, recall, keep};
    facet_predict_opts predict_opts = {
        .seed = opts->seed,
        .n_threads = tool->n_threads,
        .precision = tool->precision,
        .report = &tool->report,
        .memory = &memory,
    };
    FACET_TRY(find_predictor(opts->predictor, &predict_opts.predictor, err));
    FACET_TRY(make_samples(tool, opts, model, partial, set, err));
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
                                 const facet_model *model, facet_partial *partial,
                                 facet_mask_set *out, facet_err *err)
{
    facet_mask_set set = {0};
    facet_status status = fill(tool, opts, model, partial, &set, err);
    if (status == FACET_OK)
        *out = set;
    else
        facet_mask_set_fini(&set);
    return status;
}
