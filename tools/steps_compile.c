// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "tools/describe.h"
#include "tools/glue_build.h"
#include "tools/resolve.h"
#include "tools/score.h"
#include "tools/steps.h"

static bool is_limited(const facet_steps_opts *opts)
{
    return opts->quality > 0 || opts->agree > 0 || opts->score_least.n > 0;
}

facet_status facet_steps_check_compile(const facet_tool *tool, const facet_steps_opts *opts,
                                       facet_err *err)
{
    facet_targets targets;
    facet_scores scores = {0};
    const char *limit = opts->quality > 0 ? "--quality" : opts->agree > 0 ? "--agree" : NULL;
    FACET_TRY(facet_scores_parse(&opts->scores, &opts->score_least, &scores, err));
    facet_scores_fini(&scores);
    if (limit != NULL && opts->no_proof)
        return facet_fail(err, FACET_USAGE, "%s: is judged by the proof; leave out --no-proof",
                          limit);
    if (limit == NULL && opts->scores.n > 0) limit = "--score";
    if (limit != NULL && opts->source != NULL)
        return facet_fail(err, FACET_USAGE,
                          "--source: does not go with %s, which may leave no bundle; build again "
                          "with --keep and without it",
                          limit);
    return facet_targets_find(tool, opts->target, &targets, err);
}

// Masks of one model mean nothing for another: another shape is an error, other weights a warning.
static facet_status check_model(const facet_tool *tool, const facet_model *model,
                                const facet_family_set *families, facet_err *err)
{
    const char *shape = facet_model_shape(model);
    if (families->shape != NULL && strcmp(families->shape, shape) != 0)
        return facet_fail_at(
            err, FACET_MISMATCH, model->path, -1,
            "%s: has the shape %s, the families were made for %s; name their model", model->path,
            shape, families->shape);
    if (families->model == NULL || families->model[0] == '\0') return FACET_OK;
    char fingerprint[33];
    FACET_TRY(facet_model_fingerprint(model, &tool->report, fingerprint, err));
    if (strcmp(fingerprint, families->model) == 0) return FACET_OK;
    if (tool->mode == FACET_TOOL_STRICT)
        return facet_fail_at(
            err, FACET_REFUSED, model->path, -1,
            "%s: has other weights than the families' model; name that model or leave "
            "--mode strict",
            model->path);
    facet_output_warn(tool, "%s: has other weights than the model the families were made for",
                      model->path);
    return FACET_OK;
}

// ---- figures
// --------------------------------------------------------------------------------------

static void add_family(const facet_build_result *result, uint32_t i, cJSON *array)
{
    const facet_build_family *family = &result->families[i];
    const facet_build_agreement *agreement = &family->agreement;
    const struct {
        const char *name;
        double value;
    } facts[] = {
        {"calibration_samples", (double)family->calibration_samples},
        {"calibration_tokens", (double)family->calibration_tokens},
        {"held_samples", (double)family->held_samples},
        {"held_tokens", (double)family->held_tokens},
        {"duplicates", (double)family->duplicates},
        {"budget_loss_uniform", family->loss_uniform},
        {"budget_loss_chosen", family->loss_chosen},
        {"recall", family->recall},
        {"down_bits", family->down_bits},
        {"layer_error", family->layer_error},
        {"quantize_error", family->quantize_error},
        {"refitted", family->refitted},
        {"tune_tokens", (double)family->tune_tokens},
        {"loss_refit", family->loss_refit},
        {"loss_tuned", family->loss_tuned},
        {"ppl_dense", family->ppl_dense},
        {"ppl_own", family->ppl_own},
        {"ppl_random", family->ppl_random},
        {"agree_positions", facet_build_share(agreement->positions_equal, agreement->positions)},
        {"agree_answers",
         facet_build_share(agreement->dense_answers_equal, agreement->dense_answers)},
    };
    cJSON *item = facet_doc_push_object(array);
    facet_doc_text(item, "name", family->name);
    for (size_t k = 0; k < FACET_COUNT_OF(facts); k++)
        facet_doc_number(item, facts[k].name, facts[k].value);
    if (family->ppl_other == NULL) return;
    cJSON *other = facet_doc_object(item, "ppl_other");
    for (uint32_t k = 0; k < result->n_families; k++)
        if (k != i) facet_doc_number(other, result->families[k].name, family->ppl_other[k]);
}

static void add_result(const facet_build_result *result, cJSON *doc)
{
    // The proof, when there is one, says it all.
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(doc, "proof"))) {
        cJSON *figures = facet_doc_array(doc, "figures");
        for (uint32_t i = 0; i < result->n_families; i++)
            add_family(result, i, figures);
    }
    cJSON *cache = facet_doc_object(doc, "cache");
    facet_doc_number(cache, "hits", (double)result->cache_hits);
    facet_doc_number(cache, "misses", (double)result->cache_misses);
    facet_doc_number(cache, "compiled", (double)result->cache_compiled);
    facet_doc_number(cache, "rejected", (double)result->cache_rejected);
    cJSON *steps = facet_doc_object(doc, "seconds_by_step");
    for (int i = 0; i < FACET_STEP_COUNT; i++)
        facet_doc_number(steps, facet_build_step_name((facet_build_step)i), result->seconds[i]);
}

// ---- the step
// -------------------------------------------------------------------------------------

typedef struct build_job {
    facet_tool *tool;
    const facet_steps_opts *opts;
    const facet_model *model;
    const facet_family_set *families;
    facet_build_opts build;
    facet_build_result *result;
} build_job;

static facet_status build_bundle(const build_job *job, facet_err *err)
{
    const facet_build_ops ops = facet_glue_build(job->tool);
    return facet_build_bundle(job->model, job->families, &job->build, &ops, job->opts->out,
                              job->result, err);
}

// The smallest keep of the list whose families are all good enough. With --force the last one is
// published whatever it is worth.
static facet_status build_smallest(build_job *job, cJSON *tried, facet_err *err)
{
    static const double keeps[] = {0.25, 0.33, 0.5, 0.66, 0.75, 0.9};
    for (size_t i = 0;; i++) {
        const bool last = i + 1 == FACET_COUNT_OF(keeps);
        facet_err why = {.offset = -1};
        job->build.keep = keeps[i];
        job->build.quality_warns = last && job->opts->force;
        const facet_status status = build_bundle(job, &why);
        if (status != FACET_QUALITY || last) {
            if (status != FACET_OK) *err = why;
            return status;
        }
        facet_output_note(job->tool, "%s", why.message);
        cJSON *item = facet_doc_push_object(tried);
        facet_doc_number(item, "keep", keeps[i]);
        facet_doc_text(item, "reason", why.message);
    }
}

static void add_least(const build_job *job, cJSON *quality)
{
    cJSON *object = NULL;
    for (uint32_t i = 0; i < job->build.n_scores; i++) {
        const facet_build_score *score = &job->build.scores[i];
        if (score->least == 0) continue;
        if (object == NULL) object = facet_doc_object(quality, "score_least");
        if (cJSON_GetObjectItemCaseSensitive(object, score->name) == NULL)
            facet_doc_number(object, score->name, score->least);
    }
}

static facet_status build_to_quality(build_job *job, cJSON *doc, facet_err *err)
{
    cJSON *object = facet_doc_object(doc, "quality");
    cJSON *tried = facet_doc_array(object, "tried");
    if (job->opts->quality > 0) facet_doc_number(object, "limit", job->opts->quality);
    if (job->opts->agree > 0) facet_doc_number(object, "agree", job->opts->agree);
    add_least(job, object);
    job->build.quality_warns = job->opts->force;
    const facet_status status =
        job->opts->keep > 0 ? build_bundle(job, err) : build_smallest(job, tried, err);
    facet_doc_number(object, "keep", job->build.keep);
    return status;
}

static facet_status parse_repair(const facet_steps_opts *opts, facet_build_opts *build,
                                 facet_err *err)
{
    if (!facet_compensation_find(opts->compensate, &build->compensate))
        return facet_fail(err, FACET_USAGE,
                          "--compensate %s: is none of none, bias, refit, tune; choose",
                          opts->compensate);
    if (!facet_refit_target_find(opts->refit_target, &build->refit_target))
        return facet_fail(
            err, FACET_USAGE,
            "--refit-target %s: is none of auto, layer, residual, half, oneshot, best; choose",
            opts->refit_target);
    if (!facet_selection_find(opts->select, &build->select))
        return facet_fail(err, FACET_USAGE,
                          "--select %s: is none of stats, eliminate, best; choose", opts->select);
    return FACET_OK;
}

facet_status facet_steps_build(facet_tool *tool, const facet_steps_opts *opts,
                               const facet_model *model, const facet_family_set *families,
                               facet_build_result *result, cJSON *doc, facet_err *err)
{
    facet_targets targets;
    facet_cc cc;
    facet_cache *cache = NULL;
    facet_scores scores = {0};
    FACET_TRY(check_model(tool, model, families, err));
    FACET_TRY(facet_steps_precision(tool, opts, err));
    FACET_TRY(facet_targets_find(tool, opts->target, &targets, err));
    if (targets.n > 0) {
        FACET_TRY(facet_cc_find(tool->env.compiler, &cc, err));
        FACET_TRY(facet_tool_cache(tool, &cache, err));
    }
    build_job job = {
        .tool = tool, .opts = opts, .model = model, .families = families, .result = result};
    job.build = (facet_build_opts){
        .keep = opts->keep,
        .budget_global = strcmp(opts->budget, "global") == 0,
        .down_8bit = strcmp(opts->down, "q8_0") == 0,
        .calibration_tokens = opts->calibration_tokens,
        .tune_tokens = opts->tune_tokens,
        .tune_text = opts->tune_text,
        .precision = tool->precision,
        .n_threads = tool->n_threads,
        .dense_prompts = opts->prefill != NULL && strcmp(opts->prefill, "dense") == 0,
        .prove = !opts->no_proof,
        .prove_own = opts->prove_own,
        .quality = opts->quality,
        .agree = opts->agree,
        .seed = opts->seed,
        .targets = targets.names,
        .n_targets = targets.n,
        .cc = targets.n > 0 ? &cc : NULL,
        .cache = cache,
        .source_dir = opts->source,
        .force = opts->force,
        .report = &tool->report,
    };
    facet_status status = parse_repair(opts, &job.build, err);
    if (status == FACET_OK)
        status = facet_scores_parse(&opts->scores, &opts->score_least, &scores, err);
    job.build.scores = scores.items;
    job.build.n_scores = scores.n;
    if (status == FACET_OK)
        status = is_limited(opts) ? build_to_quality(&job, doc, err) : build_bundle(&job, err);
    facet_scores_fini(&scores);
    facet_cache_close(cache);
    return status;
}

facet_status facet_steps_compile(facet_tool *tool, const facet_steps_opts *opts,
                                 const facet_model *model, const facet_family_set *families,
                                 cJSON *doc, facet_err *err)
{
    facet_build_result result = {0};
    facet_status status = facet_steps_build(tool, opts, model, families, &result, doc, err);
    if (status == FACET_OK) status = facet_describe_bundle(tool, opts->out, doc, err);
    if (status == FACET_OK) add_result(&result, doc);
    facet_build_result_fini(&result);
    return status;
}
