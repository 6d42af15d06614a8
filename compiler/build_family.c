// SPDX-License-Identifier: Apache-2.0
// One family: calibrate, compensate, store. Out: families/NAME.bin and the family's lines of the
// manifest and the result.
#include <stdio.h>
#include <string.h>

#include "compiler/build_parts.h"
#include "compiler/build_tune.h"
#include "compiler/weights.h"

typedef struct sink {
    facet_building *b;
    uint32_t family;
    facet_out out;
    facet_entries entries;
    const facet_vectors *own; // in place of the model's, or NULL
} sink;

static uint32_t family_channels(void *ctx, uint32_t layer, uint32_t *channels, uint32_t *n_cols)
{
    const sink *s = ctx;
    const facet_layout *layout = &s->b->layout;
    *n_cols = facet_layout_kept(layout, s->family, layer) * FACET_TILE;
    return facet_layout_channels(layout, s->family, layer, channels);
}

static facet_status take_layer(void *ctx, uint32_t layer, const facet_quantized *down,
                               const float *bias, facet_err *err)
{
    sink *s = ctx;
    facet_built_layer *built = &s->b->layers[(size_t)s->family * s->b->layout.n_layers + layer];
    *built = (facet_built_layer){.down = down->pack, .bias = bias != NULL};
    FACET_TRY(facet_weights_put_down(&s->out, layer, down, bias, &s->entries, err));
    if (s->own) FACET_TRY(facet_weights_put_own(&s->out, layer, s->own, &s->entries, err));
    const float *worth = facet_build_worth(s->b, s->family, layer);
    return facet_weights_put_scores(&s->out, layer, worth, s->b->model->hp.d_ff, &s->entries, err);
}

static bool keeps_all(const facet_building *b, uint32_t family)
{
    for (uint32_t layer = 0; layer < b->layout.n_layers; layer++)
        if (facet_layout_kept(&b->layout, family, layer) != b->layout.n_tiles) return false;
    return true;
}

facet_status facet_build_texts(const facet_building *b, uint32_t family, bool *blind,
                               facet_err *err)
{
    const facet_family_split *split = &b->splits[family];
    uint64_t tokens = 0;
    for (uint32_t i = 0; b->families->samples.tokens && i < split->n_calibrate; i++)
        tokens += b->families->samples.lengths[split->calibrate[i]];
    if (blind)
        *blind =
            keeps_all(b, family) || (tokens == 0 && b->opts->compensate == FACET_COMPENSATE_NONE);
    if ((blind && *blind) || tokens > 0) return FACET_OK;
    return facet_fail(err, FACET_BAD_INPUT,
                      "family %s: no tokens are left to calibrate on (%u samples are held out, %u "
                      "share text with those); add samples or use --compensate none",
                      b->families->names[family], split->n_held, split->n_duplicates);
}

static void fill_result(facet_building *b, uint32_t family, const facet_calibrate_job *job)
{
    const facet_family_split *split = &b->splits[family];
    facet_build_family *out = &b->result.families[family];
    snprintf(out->name, sizeof out->name, "%s", b->families->names[family]);
    out->held_samples = split->n_held;
    for (uint32_t i = 0; b->families->samples.tokens && i < split->n_held; i++)
        out->held_tokens += b->families->samples.lengths[split->held[i]];
    out->duplicates = split->n_duplicates;
    out->target = b->targets[family];
    out->recall = facet_layout_recall(&b->layout, family);
    out->down_bits = job->down_bits;
    out->layer_error = job->layer_error;
    out->quantize_error = job->quantize_error;
    out->refitted = job->refitted;
}

// To round rows that are there takes fewer tokens than to solve for them.
enum { rounding_tokens = 8192 };

// At most so many tokens of the family, for the job.
static facet_status take_samples(facet_building *b, uint32_t family, uint64_t most,
                                 facet_samples *samples, facet_calibrate_job *job, facet_err *err)
{
    const facet_family_split *split = &b->splits[family];
    facet_build_samples_fini(samples, b->alloc);
    return facet_build_samples(&b->families->samples, split->calibrate, split->n_calibrate, most,
                               b->alloc, samples, &job->n_fit, err);
}

static facet_status compile(facet_building *b, sink *s, facet_samples *samples,
                            facet_calibrate_job *job, facet_err *err)
{
    facet_tuned tuned = {0};
    facet_status status = FACET_OK;
    if (b->opts->compensate == FACET_COMPENSATE_TUNE && !job->blind)
        status = facet_build_tune(b, s->family, job, &tuned, err);
    s->own = facet_tuned_own(&tuned);
    if (status == FACET_OK && job->given && samples->n_tokens > rounding_tokens)
        status = take_samples(b, s->family, rounding_tokens, samples, job, err);
    if (status == FACET_OK) status = facet_build_calibrate(b, job, err);
    if (status == FACET_OK && s->own)
        status = facet_weights_put_own(&s->out, b->layout.n_layers, s->own, &s->entries, err);
    facet_tuned_fini(&tuned);
    if (status == FACET_OK) status = facet_out_commit(&s->out, err);
    if (status != FACET_OK) {
        facet_out_abort(&s->out);
        return status;
    }
    facet_manifest_family *family = &b->manifest.families[1 + s->family];
    family->entries = s->entries.list;
    family->n_entries = s->entries.n;
    family->extra_bytes = s->out.bytes;
    family->samples = b->splits[s->family].n_calibrate + b->splits[s->family].n_held;
    fill_result(b, s->family, job);
    family->recall = b->result.families[s->family].recall;
    return facet_build_add_file(b, family->file, err);
}

facet_status facet_build_family_write(facet_building *b, uint32_t family, facet_err *err)
{
    sink s = {.b = b, .family = family, .entries = {.arena = &b->manifest.arena}};
    facet_samples samples = {0};
    facet_calibrate_job job = {.name = b->families->names[family],
                               .samples = &samples,
                               .target = b->targets[family],
                               .channels = family_channels,
                               .take = take_layer,
                               .ctx = &s};
    facet_build_family *out = &b->result.families[family];
    char path[4096];
    FACET_TRY(facet_build_texts(b, family, &job.blind, err));
    FACET_TRY(facet_build_path(b, b->manifest.families[1 + family].file, path, err));
    if (!job.blind) FACET_TRY(take_samples(b, family, facet_build_tokens(b), &samples, &job, err));
    out->calibration_samples = samples.n;
    out->calibration_tokens = samples.n_tokens;
    facet_status status = facet_out_open(&s.out, path, false, err);
    if (status == FACET_OK) status = compile(b, &s, &samples, &job, err);
    facet_build_samples_fini(&samples, b->alloc);
    return status;
}
