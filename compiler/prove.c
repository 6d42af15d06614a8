// SPDX-License-Identifier: Apache-2.0
// What did it cost? Held-out perplexity of every family's texts under dense, the family itself,
// every other family, and random channels with the same keep and compensation, and the family's
// agreement with dense on held-out answers; written into the bundle as proof.json. No times are in
// it: the same inputs give the same bytes.
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/random.h"
#include "compiler/build_parts.h"
#include "compiler/select.h"

enum { default_proof_tokens = 1024, random_tokens = 2048 };

static double perplexity(double nats, uint64_t scored)
{
    return scored > 0 ? exp(nats / (double)scored) : 0;
}

// ---- random channels
// -----------------------------------------------------------------------------

typedef struct control {
    facet_building *b;
    facet_random random;
    uint32_t family;
    uint32_t *all; // (d_ff)
} control;

static int number_order(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t random_channels(void *ctx, uint32_t layer, uint32_t *channels, uint32_t *n_cols)
{
    control *c = ctx;
    const uint32_t f = c->b->layout.d_ff;
    const uint32_t n_tiles = facet_layout_kept(&c->b->layout, c->family, layer);
    const uint32_t n = n_tiles * FACET_TILE < f ? n_tiles * FACET_TILE : f;
    for (uint32_t j = 0; j < f; j++)
        c->all[j] = j;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t other = i + (uint32_t)facet_random_below(&c->random, f - i);
        channels[i] = c->all[other];
        c->all[other] = c->all[i];
    }
    qsort(channels, n, sizeof *channels, number_order);
    *n_cols = n_tiles * FACET_TILE;
    return n;
}

// The control is calibrated like the family, on at most 2048 tokens: it is hopeless with any
// number.
static facet_status measure_random(facet_building *b, uint32_t family, const facet_samples *held,
                                   facet_err *err)
{
    const facet_family_split *split = &b->splits[family];
    control c = {.b = b, .random = facet_random_seed(b->opts->seed + family), .family = family};
    facet_samples samples = {0};
    facet_calibrate_job job = {.name = "random control",
                               .samples = &samples,
                               .target = b->targets[family],
                               .follow = held,
                               .channels = random_channels,
                               .ctx = &c};
    c.all = facet_mem_new(b->alloc, b->layout.d_ff, sizeof *c.all);
    if (!c.all) return facet_fail_memory(err, b->layout.d_ff * sizeof *c.all);
    facet_status status =
        facet_build_samples(&b->families->samples, split->calibrate, split->n_calibrate,
                            random_tokens, b->alloc, &samples, &job.n_fit, err);
    if (status == FACET_OK) status = facet_build_calibrate(b, &job, err);
    if (status == FACET_OK)
        b->result.families[family].ppl_random = perplexity(job.follow_nats, job.follow_scored);
    facet_build_samples_fini(&samples, b->alloc);
    facet_mem_free(b->alloc, c.all);
    return status;
}

// ---- agreement
// -----------------------------------------------------------------------------------

double facet_build_share(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : (double)NAN;
}

// A family's held-out samples with an answer, into list (n_held). Of more than
// FACET_BUILD_AGREE_TOKENS some are taken, evenly spread and whole: a cut answer would be easier to
// agree on. At least the last one is, since none is longer.
static uint32_t list_answers(const facet_building *b, uint32_t family, uint32_t *list)
{
    const facet_samples *samples = &b->families->samples;
    const facet_family_split *split = &b->splits[family];
    uint64_t total = 0, passed = 0, taken = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < split->n_held; i++)
        total +=
            facet_build_answered(samples, split->held[i]) ? samples->lengths[split->held[i]] : 0;
    for (uint32_t i = 0; i < split->n_held; i++) {
        if (!facet_build_answered(samples, split->held[i])) continue;
        const uint64_t length = samples->lengths[split->held[i]];
        passed += length;
        if (total > FACET_BUILD_AGREE_TOKENS &&
            (taken + length) * total > passed * FACET_BUILD_AGREE_TOKENS)
            continue;
        taken += length;
        list[n++] = split->held[i];
    }
    return n;
}

static facet_status measure_agreement(facet_building *b, uint32_t family, facet_err *err)
{
    facet_build_family *out = &b->result.families[family];
    const uint32_t n_held = b->splits[family].n_held;
    facet_samples answered = {0};
    uint64_t n_fit;
    uint32_t *list = facet_mem_new(b->alloc, n_held, sizeof *list);
    if (!list) return facet_fail_memory(err, n_held * sizeof *list);
    const uint32_t n = list_answers(b, family, list);
    facet_status status = FACET_OK;
    if (n > 0) {
        status = facet_build_samples(&b->families->samples, list, n, 0, b->alloc, &answered, &n_fit,
                                     err);
        if (status == FACET_OK)
            status = b->ops->agree(b->ops->ctx, b->dir, out->name, &answered,
                                   b->opts->dense_prompts, &out->agreement, err);
    }
    facet_build_samples_fini(&answered, b->alloc);
    facet_mem_free(b->alloc, list);
    return status;
}

// ---- families
// ------------------------------------------------------------------------------------

static facet_status measure_loss(facet_building *b, const char *name, const facet_samples *held,
                                 double *ppl, facet_err *err)
{
    double nats = 0;
    uint64_t scored = 0;
    FACET_TRY(
        b->ops->loss(b->ops->ctx, b->dir, name, held, b->opts->dense_prompts, &nats, &scored, err));
    *ppl = perplexity(nats, scored);
    return FACET_OK;
}

typedef facet_status measure_fn(facet_building *b, uint32_t family, const facet_samples *held,
                                facet_err *err);

static facet_status measure_own(facet_building *b, uint32_t family, const facet_samples *held,
                                facet_err *err)
{
    facet_build_family *out = &b->result.families[family];
    FACET_TRY(measure_loss(b, "dense", held, &out->ppl_dense, err));
    FACET_TRY(measure_loss(b, out->name, held, &out->ppl_own, err));
    return measure_agreement(b, family, err);
}

static facet_status measure_controls(facet_building *b, uint32_t family, const facet_samples *held,
                                     facet_err *err)
{
    facet_build_family *out = &b->result.families[family];
    out->ppl_other = facet_mem_new(b->result.alloc, b->n_families, sizeof *out->ppl_other);
    if (!out->ppl_other) return facet_fail_memory(err, b->n_families * sizeof *out->ppl_other);
    for (uint32_t k = 0; k < b->n_families; k++) {
        if (k == family) continue;
        FACET_TRY(measure_loss(b, b->result.families[k].name, held, &out->ppl_other[k], err));
    }
    return out->calibration_tokens > 0 ? measure_random(b, family, held, err) : FACET_OK;
}

static facet_status measure(facet_building *b, uint32_t family, measure_fn *fn, facet_err *err)
{
    const facet_family_split *split = &b->splits[family];
    if (b->result.families[family].held_tokens == 0) return FACET_OK;
    const uint64_t most = b->opts->proof_tokens ? b->opts->proof_tokens : default_proof_tokens;
    facet_samples held;
    uint64_t n_fit;
    FACET_TRY(facet_build_samples(&b->families->samples, split->held, split->n_held, most, b->alloc,
                                  &held, &n_fit, err));
    const facet_status status = fn(b, family, &held, err);
    facet_build_samples_fini(&held, b->alloc);
    return status;
}

// ---- proof.json
// ----------------------------------------------------------------------------------

// Six digits: what differs behind them is noise of the measurement.
void facet_build_put(cJSON *object, const char *name, double value)
{
    char text[40];
    double rounded = value;
    snprintf(text, sizeof text, "%.5e", value);
    if (facet_parse_double(text, &rounded)) cJSON_AddNumberToObject(object, name, rounded);
}

static void put_share(cJSON *object, const char *name, uint64_t part, uint64_t whole)
{
    if (whole > 0)
        facet_build_put(object, name, facet_build_share(part, whole));
    else
        cJSON_AddNullToObject(object, name);
}

static void put_agreement(const facet_build_agreement *a, cJSON *object)
{
    facet_build_put(object, "answers", (double)a->answers);
    facet_build_put(object, "answer_positions", (double)a->positions);
    put_share(object, "agree_positions", a->positions_equal, a->positions);
    facet_build_put(object, "dense_answers", (double)a->dense_answers);
    put_share(object, "agree_answers", a->dense_answers_equal, a->dense_answers);
}

// What was chosen before the family was compiled, and what the trials said.
static void put_choices(const facet_building *b, const facet_build_family *f, cJSON *object)
{
    if (b->opts->compensate != FACET_COMPENSATE_NONE)
        cJSON_AddStringToObject(object, "refit_target", facet_refit_target_name(f->target));
    cJSON_AddStringToObject(
        object, "select",
        facet_selection_name(f->eliminated ? FACET_SELECT_ELIMINATE : FACET_SELECT_STATS));
    cJSON *losses = f->n_rehearsed > 0 ? cJSON_AddObjectToObject(object, "rehearsed") : NULL;
    for (uint32_t i = 0; i < f->n_rehearsed; i++)
        facet_build_put(losses, f->rehearsed[i].name, f->rehearsed[i].loss);
    if (!(f->loss_uniform > 0)) return;
    facet_build_put(object, "budget_loss_uniform", f->loss_uniform);
    facet_build_put(object, "budget_loss_chosen", f->loss_chosen);
}

static void put_family(const facet_building *b, uint32_t family, cJSON *list)
{
    const facet_build_family *f = &b->result.families[family];
    cJSON *object = cJSON_CreateObject();
    cJSON_AddItemToArray(list, object);
    cJSON_AddStringToObject(object, "name", f->name);
    facet_build_put(object, "calibration_samples", (double)f->calibration_samples);
    facet_build_put(object, "calibration_tokens", (double)f->calibration_tokens);
    facet_build_put(object, "held_samples", (double)f->held_samples);
    facet_build_put(object, "held_tokens", (double)f->held_tokens);
    facet_build_put(object, "duplicates_left_out", (double)f->duplicates);
    put_choices(b, f, object);
    facet_build_put(object, "recall", f->recall);
    facet_build_put(object, "down_bits", f->down_bits);
    facet_build_put(object, "layer_error", f->layer_error);
    facet_build_put(object, "quantize_error", f->quantize_error);
    facet_build_put(object, "refitted_layers", (double)f->refitted);
    if (f->tune_tokens > 0) {
        facet_build_put(object, "tune_tokens", (double)f->tune_tokens);
        facet_build_put(object, "tune_text", b->opts->tune_text);
        facet_build_put(object, "loss_refit", f->loss_refit);
        facet_build_put(object, "loss_tuned", f->loss_tuned);
    }
    put_agreement(&f->agreement, object);
    facet_build_scores_put(b, family, object);
    if (!(f->ppl_dense > 0)) return;
    cJSON *ppl = cJSON_AddObjectToObject(object, "perplexity");
    facet_build_put(ppl, "dense", f->ppl_dense);
    facet_build_put(ppl, "family", f->ppl_own);
    cJSON *others = cJSON_AddObjectToObject(ppl, "others");
    for (uint32_t k = 0; k < b->n_families && f->ppl_other; k++)
        if (k != family) facet_build_put(others, b->result.families[k].name, f->ppl_other[k]);
    if (f->ppl_random > 0) facet_build_put(ppl, "random", f->ppl_random);
}

static facet_status write_proof(facet_building *b, facet_err *err)
{
    char path[4096];
    FACET_TRY(facet_build_path(b, "proof.json", path, err));
    cJSON *proof = cJSON_CreateObject();
    cJSON_AddStringToObject(proof, "kind", "proof");
    facet_build_put(proof, "keep", b->keep);
    cJSON_AddStringToObject(proof, "precision",
                            b->opts->precision == FACET_PRECISION_BF16 ? "bf16" : "f32");
    cJSON_AddStringToObject(proof, "blas", openblas_get_corename());
    cJSON_AddStringToObject(proof, "compensate", facet_compensation_name(b->opts->compensate));
    if (b->opts->dense_prompts) cJSON_AddStringToObject(proof, "prefill", "dense");
    cJSON *list = cJSON_AddArrayToObject(proof, "families");
    for (uint32_t k = 0; k < b->n_families; k++)
        put_family(b, k, list);
    char *text = facet_json_print(proof, true);
    cJSON_Delete(proof);
    if (!text) return facet_fail_memory(err, 4096);
    const facet_status status = facet_file_write(path, text, strlen(text), true, err);
    cJSON_free(text);
    FACET_TRY(status);
    return facet_build_add_file(b, "proof.json", err);
}

static facet_status measure_all(facet_building *b, measure_fn *fn, uint32_t done, facet_err *err)
{
    const uint32_t n = b->n_families;
    for (uint32_t k = 0; k < n; k++) {
        FACET_TRY(measure(b, k, fn, err));
        FACET_TRY(facet_report_progress(b->opts->report, "prove", done + k + 1, 2 * n, err));
    }
    return FACET_OK;
}

facet_status facet_build_prove(facet_building *b, facet_err *err)
{
    // What a family is worth comes first: where that is too little, the rest is not asked for.
    if (b->opts->prove) {
        FACET_TRY(measure_all(b, measure_own, 0, err));
        FACET_TRY(facet_build_judge(b, err));
    }
    FACET_TRY(facet_build_scores(b, err));
    if (b->opts->prove && !b->opts->prove_own)
        FACET_TRY(measure_all(b, measure_controls, b->n_families, err));
    return write_proof(b, err);
}
