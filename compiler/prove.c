// SPDX-License-Identifier: Apache-2.0
// What did it cost? Held-out perplexity of every family's texts under dense, the family itself,
// every other family, and random channels with the same keep and compensation; written into the
// bundle as proof.json. No times are in it: the same inputs give the same bytes.
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

static facet_status take_nothing(void *ctx, uint32_t layer, const facet_quantized *down,
                                 const float *bias, facet_err *err)
{
    (void)ctx, (void)layer, (void)down, (void)bias, (void)err;
    return FACET_OK;
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
                               .follow = held,
                               .channels = random_channels,
                               .take = take_nothing,
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

// ---- families
// ------------------------------------------------------------------------------------

static facet_status measure_loss(facet_building *b, const char *name, const facet_samples *held,
                                 double *ppl, facet_err *err)
{
    double nats = 0;
    uint64_t scored = 0;
    FACET_TRY(b->ops->loss(b->ops->ctx, b->dir, name, held, &nats, &scored, err));
    *ppl = perplexity(nats, scored);
    return FACET_OK;
}

static facet_status measure_family(facet_building *b, uint32_t family, facet_err *err)
{
    facet_build_family *out = &b->result.families[family];
    const facet_family_split *split = &b->splits[family];
    if (out->held_tokens == 0) return FACET_OK;
    out->ppl_other = facet_mem_new(b->result.alloc, b->n_families, sizeof *out->ppl_other);
    if (!out->ppl_other) return facet_fail_memory(err, b->n_families * sizeof *out->ppl_other);
    const uint64_t most = b->opts->proof_tokens ? b->opts->proof_tokens : default_proof_tokens;
    facet_samples held;
    uint64_t n_fit;
    FACET_TRY(facet_build_samples(&b->families->samples, split->held, split->n_held, most, b->alloc,
                                  &held, &n_fit, err));
    facet_status status = measure_loss(b, "dense", &held, &out->ppl_dense, err);
    for (uint32_t k = 0; k < b->n_families && status == FACET_OK; k++)
        status = measure_loss(b, b->result.families[k].name, &held,
                              k == family ? &out->ppl_own : &out->ppl_other[k], err);
    if (status == FACET_OK && out->calibration_tokens > 0)
        status = measure_random(b, family, &held, err);
    facet_build_samples_fini(&held, b->alloc);
    return status;
}

// ---- proof.json
// ----------------------------------------------------------------------------------

// Six digits: what differs behind them is noise of the measurement.
static void put_number(cJSON *object, const char *name, double value)
{
    char text[40];
    double rounded = value;
    snprintf(text, sizeof text, "%.5e", value);
    if (facet_parse_double(text, &rounded)) cJSON_AddNumberToObject(object, name, rounded);
}

static void put_family(const facet_building *b, uint32_t family, cJSON *list)
{
    const facet_build_family *f = &b->result.families[family];
    cJSON *object = cJSON_CreateObject();
    cJSON_AddItemToArray(list, object);
    cJSON_AddStringToObject(object, "name", f->name);
    put_number(object, "calibration_samples", (double)f->calibration_samples);
    put_number(object, "calibration_tokens", (double)f->calibration_tokens);
    put_number(object, "held_samples", (double)f->held_samples);
    put_number(object, "held_tokens", (double)f->held_tokens);
    put_number(object, "duplicates_left_out", (double)f->duplicates);
    put_number(object, "recall", f->recall);
    put_number(object, "down_bits", f->down_bits);
    put_number(object, "layer_error", f->layer_error);
    put_number(object, "quantize_error", f->quantize_error);
    put_number(object, "refitted_layers", (double)f->refitted);
    if (!f->ppl_other) return;
    cJSON *ppl = cJSON_AddObjectToObject(object, "perplexity");
    put_number(ppl, "dense", f->ppl_dense);
    put_number(ppl, "family", f->ppl_own);
    cJSON *others = cJSON_AddObjectToObject(ppl, "others");
    for (uint32_t k = 0; k < b->n_families; k++)
        if (k != family) put_number(others, b->result.families[k].name, f->ppl_other[k]);
    if (f->ppl_random > 0) put_number(ppl, "random", f->ppl_random);
}

static facet_status write_proof(facet_building *b, facet_err *err)
{
    char path[4096];
    FACET_TRY(facet_build_path(b, "proof.json", path, err));
    cJSON *proof = cJSON_CreateObject();
    cJSON_AddStringToObject(proof, "kind", "proof");
    put_number(proof, "keep", b->keep);
    cJSON_AddStringToObject(proof, "compensate", facet_compensation_name(b->opts->compensate));
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

facet_status facet_build_prove(facet_building *b, facet_err *err)
{
    for (uint32_t k = 0; k < b->n_families && b->opts->prove; k++) {
        FACET_TRY(measure_family(b, k, err));
        FACET_TRY(facet_report_progress(b->opts->report, "prove", k + 1, b->n_families, err));
    }
    return write_proof(b, err);
}
