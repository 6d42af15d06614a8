// SPDX-License-Identifier: Apache-2.0
#include "compiler/build_tune.h"

#include <string.h>

#include "base/clock.h"

// A fifth pass over the same text teaches the text.
enum { default_tune_tokens = 65536, judge_tokens = 2048, most_passes = 4 };

const facet_vectors *facet_tuned_own(const facet_tuned *tuned)
{
    return tuned && tuned->changed ? &tuned->own : NULL;
}

void facet_tuned_fini(facet_tuned *tuned)
{
    for (uint32_t l = 0; tuned->layers && l < tuned->n_layers; l++) {
        facet_mem_free(tuned->alloc, tuned->layers[l].kept);
        facet_mem_free(tuned->alloc, tuned->layers[l].down);
        facet_mem_free(tuned->alloc, tuned->layers[l].bias);
    }
    facet_mem_free(tuned->alloc, tuned->layers);
    facet_vectors_fini(&tuned->own);
    *tuned = (facet_tuned){0};
}

facet_status facet_tuned_put(facet_tuned *tuned, uint32_t layer, const facet_layer_fit *fit,
                             facet_err *err)
{
    const size_t row = tuned->d * sizeof(float);
    facet_build_rows *rows = &tuned->layers[layer];
    rows->n_kept = fit->n_kept;
    rows->kept = facet_mem_new(tuned->alloc, fit->n_kept, sizeof *rows->kept);
    rows->down = facet_mem_new(tuned->alloc, fit->n_kept, row);
    rows->bias = facet_mem_new(tuned->alloc, 1, row);
    if (!rows->kept || !rows->down || !rows->bias)
        return facet_fail_memory(err, ((size_t)fit->n_kept + 1) * row);
    for (uint32_t i = 0; i < fit->n_kept; i++) {
        rows->kept[i] = fit->ascending[i];
        memcpy(rows->down + (size_t)i * tuned->d, fit->rows + (size_t)fit->order[i] * tuned->d,
               row);
    }
    memcpy(rows->bias, fit->rows + (size_t)fit->n_kept * tuned->d, row);
    return FACET_OK;
}

void facet_tuned_get(const facet_tuned *tuned, uint32_t layer, facet_layer_fit *fit)
{
    const size_t row = tuned->d * sizeof(float);
    const facet_build_rows *rows = &tuned->layers[layer];
    for (uint32_t i = 0; i < fit->n_kept; i++)
        memcpy(fit->rows + (size_t)fit->order[i] * tuned->d, rows->down + (size_t)i * tuned->d,
               row);
    memcpy(fit->rows + (size_t)fit->n_kept * tuned->d, rows->bias, row);
}

// Whole samples of at most n tokens, but one at least.
static void shorten(facet_samples *samples, uint64_t n)
{
    uint64_t tokens = 0;
    uint32_t count = 0;
    while (count < samples->n && (count == 0 || tokens + samples->lengths[count] <= n))
        tokens += samples->lengths[count++];
    samples->n = count;
    samples->n_tokens = tokens;
}

// All text of the family that may calibrate, far more than the moments need.
static facet_status run(facet_building *b, uint32_t family, facet_tuned *tuned, facet_err *err)
{
    const facet_family_split *split = &b->splits[family];
    const uint64_t most = b->opts->tune_tokens ? b->opts->tune_tokens : default_tune_tokens;
    facet_build_family *out = &b->result.families[family];
    facet_samples samples;
    uint64_t n_fit;
    FACET_TRY(facet_build_samples(&b->families->samples, split->calibrate, split->n_calibrate, most,
                                  b->alloc, &samples, &n_fit, err));
    facet_build_tuning tuning = {.layers = tuned->layers,
                                 .own = &tuned->own,
                                 .text = b->opts->tune_text,
                                 .dense_prompts = b->opts->dense_prompts,
                                 .seed = b->opts->seed};
    facet_build_samples_part(&samples, n_fit, &tuning.fit, &tuning.judge);
    const uint64_t passes = tuning.fit.n_tokens > 0 ? most / tuning.fit.n_tokens : 0;
    tuning.passes = passes < 1 ? 1 : passes > most_passes ? most_passes : (uint32_t)passes;
    shorten(&tuning.judge, judge_tokens);
    const facet_status status = b->ops->tune(b->ops->ctx, b->model, &tuning, err);
    facet_build_samples_fini(&samples, b->alloc);
    tuned->changed = status == FACET_OK && tuning.changed;
    out->tune_tokens = tuning.tokens;
    out->loss_refit = tuning.loss_before;
    out->loss_tuned = tuning.loss_after;
    return status;
}

facet_status facet_build_tune(facet_building *b, uint32_t family, facet_calibrate_job *job,
                              facet_tuned *tuned, facet_err *err)
{
    const facet_hparams *hp = &b->model->hp;
    *tuned = (facet_tuned){.alloc = b->alloc, .n_layers = hp->n_layers, .d = hp->d_model};
    tuned->layers = facet_mem_new(b->alloc, hp->n_layers, sizeof *tuned->layers);
    if (!tuned->layers) return facet_fail_memory(err, hp->n_layers * sizeof *tuned->layers);
    facet_calibrate_job first = *job;
    first.take = NULL;
    first.rehearses = true;
    first.collect = tuned;
    FACET_TRY(facet_build_calibrate(b, &first, err));
    FACET_TRY(facet_vectors_init(&tuned->own, b->model, FACET_OWN_ROLES, b->alloc, err));
    const uint64_t since = facet_clock_ns();
    FACET_TRY(run(b, family, tuned, err));
    b->result.seconds[FACET_STEP_TUNE] += facet_clock_seconds(since);
    // Tuning that gained nothing leaves a refit without the judging tokens: one with them is
    // better.
    if (!tuned->changed) return FACET_OK;
    job->given = tuned;
    job->refitted = first.refitted;
    return FACET_OK;
}
