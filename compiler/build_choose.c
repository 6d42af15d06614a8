// SPDX-License-Identifier: Apache-2.0
#include "compiler/build_choose.h"

#include <math.h>
#include <string.h>

#include "compiler/eliminate.h"
#include "compiler/select.h"

// In the order of trials: on a tie the earlier stays.
static const facet_refit_target targets[] = {FACET_REFIT_HALF, FACET_REFIT_RESIDUAL,
                                             FACET_REFIT_LAYER};

typedef struct chooser {
    facet_building *b;
    uint32_t k;
    uint32_t *tiles; // (n_layers)
    facet_rehearsal rehearsal;
} chooser;

// Rehearses and notes the loss.
static facet_status rehearse(chooser *f, facet_rehearsed *what, facet_err *err)
{
    facet_build_family *out = &f->b->result.families[f->k];
    FACET_TRY(facet_rehearse(&f->rehearsal, what, err));
    out->rehearsed[out->n_rehearsed++] = (facet_build_rehearsed){what->name, what->loss};
    facet_report_log(f->b->opts->report, FACET_LOG_INFO, "%s, rehearsed with %s: %.4f nats",
                     f->b->families->names[f->k], what->name, what->loss);
    return FACET_OK;
}

static facet_status choose_target(chooser *f, double *least, facet_err *err)
{
    *least = INFINITY;
    for (size_t i = 0; i < FACET_COUNT_OF(targets); i++) {
        facet_rehearsed what = {.name = facet_refit_target_name(targets[i]),
                                .target = targets[i],
                                .worth = facet_build_worth(f->b, f->k, 0),
                                .tiles = f->tiles};
        FACET_TRY(rehearse(f, &what, err));
        if (!(what.loss < *least)) continue;
        *least = what.loss;
        f->b->targets[f->k] = targets[i];
    }
    return FACET_OK;
}

// ---- worth by elimination
// ------------------------------------------------------------------------

// Channels must be worth something by both: elimination alone trusts few tokens too far, and loses
// on small texts what it gains on others (docs/TRIED.md).
enum { block_channels = 32 };                // that go at once
static const double eliminate_ridge = 0.001; // between 1e-2 and 1e-4 it matters little

typedef struct elimination {
    const chooser *f;
    float *worth; // (n_layers, d_ff)
} elimination;

static facet_status eliminate_layer(void *ctx, facet_layer_fit *fit, void *stream, uint32_t layer,
                                    facet_err *err)
{
    const elimination *e = ctx;
    const facet_building *b = e->f->b;
    const uint32_t d_ff = fit->d_ff, kept = e->f->tiles[layer] * FACET_TILE;
    for (uint32_t j = 0; j < d_ff; j++)
        fit->channels[j] = j;
    FACET_TRY(facet_layer_fit_begin(fit, layer, d_ff, err));
    FACET_TRY(b->ops->stream_attn(b->ops->ctx, stream, err));
    FACET_TRY(facet_layer_fit_pass(fit, stream, NULL, err));
    const facet_eliminate_problem problem = {.moments = &fit->moments,
                                             .rows = fit->rows,
                                             .n_keep = kept < d_ff ? kept : d_ff,
                                             .block = block_channels,
                                             .ridge = eliminate_ridge,
                                             .layer = layer};
    float *worth = e->worth + (size_t)layer * d_ff;
    FACET_TRY(facet_eliminate(&problem, worth, err));
    const float *stats = facet_build_worth(b, e->f->k, layer);
    for (uint32_t j = 0; j < d_ff; j++)
        worth[j] *= stats[j];
    return FACET_OK;
}

// On the dense model's own inputs and all text that fits: a second moment of all channels wants
// more of it than a comparison of losses. worth: (n_layers, d_ff).
static facet_status eliminate(const chooser *f, float *worth, facet_err *err)
{
    const facet_building *b = f->b;
    const facet_family_split *split = &b->splits[f->k];
    elimination e = {f, worth};
    facet_samples samples = {0};
    facet_dense_walk walk = {"elimination", &samples, 0, eliminate_layer, &e};
    facet_status status =
        facet_build_samples(&b->families->samples, split->calibrate, split->n_calibrate,
                            facet_build_tokens(b), b->alloc, &samples, &walk.n_fit, err);
    if (status == FACET_OK) status = facet_dense_walk_run(b, &walk, err);
    facet_build_samples_fini(&samples, b->alloc);
    return status;
}

// The family's own statistics, or what elimination finds, or the better.
// `least`: loss with statistics, 0: not known.
static facet_status choose_worth(chooser *f, double least, facet_err *err)
{
    facet_building *b = f->b;
    const size_t cells = (size_t)b->model->hp.n_layers * b->model->hp.d_ff;
    const bool compare = b->opts->select == FACET_SELECT_BEST;
    float *worth = facet_mem_new(b->alloc, cells, sizeof *worth);
    if (!worth) return facet_fail_memory(err, cells * sizeof *worth);
    facet_rehearsed stats = {.name = "stats",
                             .target = b->targets[f->k],
                             .worth = facet_build_worth(b, f->k, 0),
                             .tiles = f->tiles};
    facet_rehearsed found = stats;
    found.name = "eliminate";
    found.worth = worth;
    facet_status status = eliminate(f, worth, err);
    // The choice of a target rehearsed with statistics, so their loss is known then.
    if (status == FACET_OK && compare && !(least > 0)) status = rehearse(f, &stats, err);
    if (status == FACET_OK && compare) status = rehearse(f, &found, err);
    const bool better = !compare || found.loss < (least > 0 ? least : stats.loss);
    if (status == FACET_OK && better) {
        memcpy(b->worth + (size_t)f->k * cells, worth, cells * sizeof *worth);
        b->result.families[f->k].eliminated = true;
    }
    facet_mem_free(b->alloc, worth);
    return status;
}

// ---- all of it
// -----------------------------------------------------------------------------------

static facet_status choose(chooser *f, facet_err *err)
{
    facet_building *b = f->b;
    const facet_build_opts *opts = b->opts;
    const bool target = opts->refit_target == FACET_REFIT_BEST &&
                        !facet_layer_fit_normed(b->model) &&
                        opts->compensate != FACET_COMPENSATE_NONE;
    double least = 0;
    if (target || opts->select == FACET_SELECT_BEST || opts->budget_global)
        FACET_TRY(facet_rehearsal_init(&f->rehearsal, b, f->k, err));
    if (target) FACET_TRY(choose_target(f, &least, err));
    if (opts->select != FACET_SELECT_STATS) FACET_TRY(choose_worth(f, least, err));
    if (opts->budget_global) FACET_TRY(facet_build_budget(&f->rehearsal, f->tiles, err));
    return FACET_OK;
}

// A family that drops nothing has none.
static bool has_choices(const facet_building *b)
{
    const facet_build_opts *opts = b->opts;
    return b->keep < 1 && (opts->budget_global || opts->select != FACET_SELECT_STATS ||
                           opts->refit_target == FACET_REFIT_BEST);
}

static facet_status init(facet_building *b, facet_err *err)
{
    const facet_hparams *hp = &b->model->hp;
    const size_t n = b->n_families, layers = n * hp->n_layers, cells = layers * hp->d_ff;
    b->n_keep = facet_arena_new(&b->arena, layers, sizeof *b->n_keep);
    b->worth = facet_arena_new(&b->arena, cells, sizeof *b->worth);
    b->targets = facet_arena_new(&b->arena, n, sizeof *b->targets);
    if (!b->n_keep || !b->worth || !b->targets)
        return facet_fail_memory(err, cells * sizeof *b->worth);
    for (size_t i = 0; i < layers; i++)
        b->n_keep[i] = facet_select_tiles(hp->d_ff, b->keep);
    if (n > 0) memcpy(b->worth, b->families->scores, cells * sizeof *b->worth);
    const facet_refit_target given = b->opts->refit_target;
    const bool open = given == FACET_REFIT_AUTO || given == FACET_REFIT_BEST;
    const bool bound = facet_layer_fit_normed(b->model) && given != FACET_REFIT_ONESHOT;
    for (size_t k = 0; k < n; k++)
        b->targets[k] = bound ? FACET_REFIT_LAYER : open ? FACET_REFIT_HALF : given;
    return FACET_OK;
}

facet_status facet_build_choose(facet_building *b, facet_err *err)
{
    FACET_TRY(init(b, err));
    facet_status status = FACET_OK;
    for (uint32_t k = 0; k < b->n_families && has_choices(b) && status == FACET_OK; k++) {
        FACET_TRY(facet_build_texts(b, k, NULL, err));
        chooser f = {.b = b, .k = k, .tiles = b->n_keep + (size_t)k * b->model->hp.n_layers};
        status = choose(&f, err);
        facet_rehearsal_fini(&f.rehearsal);
    }
    return status;
}

const float *facet_build_worth(const facet_building *b, uint32_t family, uint32_t layer)
{
    const facet_hparams *hp = &b->model->hp;
    return b->worth + ((size_t)family * hp->n_layers + layer) * hp->d_ff;
}
