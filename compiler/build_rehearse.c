// SPDX-License-Identifier: Apache-2.0
#include "compiler/build_rehearse.h"

#include <string.h>

#include "base/bits.h"
#include "compiler/select.h"

facet_status facet_dense_walk_run(const facet_building *b, const facet_dense_walk *walk,
                                  facet_err *err)
{
    const facet_build_ops *ops = b->ops;
    const uint32_t n_layers = b->model->hp.n_layers;
    facet_layer_fit fit = {.b = b};
    void *stream = NULL;
    facet_status status =
        facet_layer_fit_init(&fit, b, FACET_REFIT_LAYER, walk->samples, walk->n_fit, err);
    if (status == FACET_OK)
        status = ops->stream_new(ops->ctx, b->model, walk->samples, &stream, err);
    for (uint32_t layer = 0; layer < n_layers && status == FACET_OK; layer++) {
        status = walk->each(walk->ctx, &fit, stream, layer, err);
        if (status == FACET_OK)
            status = facet_report_progress(b->opts->report, walk->name, layer + 1, n_layers, err);
    }
    if (stream) ops->stream_free(ops->ctx, stream);
    facet_layer_fit_fini(&fit);
    return status;
}

// ---- the text
// ------------------------------------------------------------------------------------

enum { least_tokens = 4096 };
#define MOST_TRAIL ((uint64_t)1 << 30) // bytes of residual streams of all layers

void facet_rehearsal_fini(facet_rehearsal *r)
{
    if (!r->b) return;
    const facet_alloc *alloc = r->b->alloc;
    facet_build_samples_fini(&r->samples, alloc);
    facet_mem_free(alloc, r->trail.x);
    facet_mem_free(alloc, r->trail.energy);
    facet_mem_free(alloc, r->order);
    facet_mem_free(alloc, r->bits);
    *r = (facet_rehearsal){0};
}

// Half of what calibrates: candidates are ranked, not fitted.
static uint64_t rehearsal_tokens(const facet_building *b)
{
    const facet_hparams *hp = &b->model->hp;
    const uint64_t most = MOST_TRAIL / ((uint64_t)hp->n_layers * hp->d_model * sizeof(float));
    const uint64_t half = facet_build_tokens(b) / 2, wanted = half < most ? half : most;
    return wanted > least_tokens ? wanted : least_tokens;
}

static facet_status keep_states(void *ctx, facet_layer_fit *fit, void *stream, uint32_t layer,
                                facet_err *err)
{
    facet_rehearsal *r = ctx;
    const facet_build_ops *ops = r->b->ops;
    const size_t cells = (size_t)r->samples.n_tokens * fit->d;
    FACET_TRY(facet_layer_fit_dense(fit, stream, err));
    memcpy(r->trail.x + layer * cells, ops->stream_x(ops->ctx, stream), cells * sizeof(float));
    r->trail.energy[layer] = fit->energy;
    return FACET_OK;
}

facet_status facet_rehearsal_init(facet_rehearsal *r, facet_building *b, uint32_t family,
                                  facet_err *err)
{
    const facet_hparams *hp = &b->model->hp;
    const facet_family_split *split = &b->splits[family];
    *r = (facet_rehearsal){.b = b, .family = family};
    FACET_TRY(facet_build_samples(&b->families->samples, split->calibrate, split->n_calibrate,
                                  rehearsal_tokens(b), b->alloc, &r->samples, &r->n_fit, err));
    facet_build_samples_part(&r->samples, r->n_fit, NULL, &r->judging);
    const size_t row = hp->d_model * sizeof(float);
    r->order = facet_mem_new(b->alloc, hp->d_ff, sizeof *r->order);
    r->bits = facet_mem_new(b->alloc, facet_bits_bytes(hp->d_ff), 1);
    r->trail.x = facet_mem_new(b->alloc, r->samples.n_tokens * hp->n_layers, row);
    r->trail.energy = facet_mem_new(b->alloc, hp->n_layers, sizeof(double));
    if (!r->order || !r->bits || !r->trail.x || !r->trail.energy)
        return facet_fail_memory(err, r->samples.n_tokens * hp->n_layers * row);
    const facet_dense_walk walk = {"dense states", &r->samples, r->n_fit, keep_states, r};
    return facet_dense_walk_run(b, &walk, err);
}

uint32_t facet_rehearsal_channels(facet_rehearsal *r, const float *worth, uint32_t layer,
                                  uint32_t tiles, uint32_t *channels)
{
    const uint32_t f = r->b->model->hp.d_ff, n = tiles * FACET_TILE < f ? tiles * FACET_TILE : f;
    uint32_t at = 0;
    facet_select_top(worth + (size_t)layer * f, f, n, r->order, r->bits);
    for (uint32_t j = 0; j < f; j++)
        if (facet_bits_get(r->bits, j)) channels[at++] = j;
    return n;
}

// ---- one rehearsal
// -------------------------------------------------------------------------------

typedef struct candidate {
    facet_rehearsal *r;
    const facet_rehearsed *what;
} candidate;

static uint32_t candidate_channels(void *ctx, uint32_t layer, uint32_t *channels, uint32_t *n_cols)
{
    const candidate *c = ctx;
    *n_cols = c->what->tiles[layer] * FACET_TILE;
    return facet_rehearsal_channels(c->r, c->what->worth, layer, c->what->tiles[layer], channels);
}

facet_status facet_rehearse(facet_rehearsal *r, facet_rehearsed *what, facet_err *err)
{
    candidate c = {r, what};
    facet_calibrate_job job = {.name = what->name,
                               .samples = &r->samples,
                               .n_fit = r->n_fit,
                               .target = what->target,
                               .channels = candidate_channels,
                               .ctx = &c,
                               .rehearses = true,
                               .trail = &r->trail,
                               .follow = &r->judging};
    FACET_TRY(facet_build_calibrate(r->b, &job, err));
    what->loss = job.follow_scored > 0 ? job.follow_nats / (double)job.follow_scored : 0;
    return FACET_OK;
}
