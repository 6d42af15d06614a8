// SPDX-License-Identifier: Apache-2.0
// What does the whole model lose when one layer keeps a share of its channels? Measured on dense
// inputs, layer by layer, on the family's calibration text:
//
//     error of the layer's refit at each ratio, on the judging tokens (layer_fit.c)
//     damage at the end: one ratio is carried through the dense layers above; squared distance of
//     the normed final states to the dense ones, relative
//     cost(layer, ratio) = damage(layer) * error(ratio) / error(carried ratio)
//
// The distance of final states has no sampling noise of labels: a few hundred tokens rank layers
// whose losses differ by less than a loss measured on the same tokens could tell.
#include <math.h>
#include <string.h>

#include "compiler/budget.h"
#include "compiler/build_choose.h"
#include "compiler/select.h"

enum { carried_point = 2, widest_point = FACET_BUDGET_POINTS - 2, carried_tokens = 1024 };

typedef struct survey {
    facet_building *b;
    facet_rehearsal *rehearsal;
    facet_layer_fit fit;
    facet_samples carried; // of the judging samples, the first
    void *stream, *judge;  // dense, in front of the layer: all samples; those that are carried
    float *final;          // (carried tokens, d) normed final states of the dense model
    uint32_t *widest;      // (d_ff) channels of the largest share that is tried, ascending
    uint32_t *places;      // (d_ff) in these, of the channels of another share
    double *cost;          // (n_layers, FACET_BUDGET_POINTS)
    double ridge;
} survey;

static void survey_fini(survey *s)
{
    const facet_build_ops *ops = s->b->ops;
    const facet_alloc *alloc = s->b->alloc;
    if (s->stream) ops->stream_free(ops->ctx, s->stream);
    if (s->judge) ops->stream_free(ops->ctx, s->judge);
    facet_layer_fit_fini(&s->fit);
    facet_mem_free(alloc, s->final);
    facet_mem_free(alloc, s->widest);
    facet_mem_free(alloc, s->places);
    facet_mem_free(alloc, s->cost);
}

// The rest of the dense layers; the normed final state of every token into `out`.
static facet_status finish(const survey *s, void *stream, uint32_t layer, float *out,
                           facet_err *err)
{
    const facet_build_ops *ops = s->b->ops;
    const facet_hparams *hp = &s->b->model->hp;
    for (; layer < hp->n_layers; layer++) {
        FACET_TRY(ops->stream_attn(ops->ctx, stream, err));
        FACET_TRY(ops->stream_ffn(ops->ctx, stream, NULL, NULL, err));
    }
    const float *x = ops->stream_x(ops->ctx, stream);
    for (uint64_t t = 0; t < s->carried.n_tokens; t++) {
        double sum = 0;
        for (uint32_t i = 0; i < hp->d_model; i++)
            sum += (double)x[t * hp->d_model + i] * (double)x[t * hp->d_model + i];
        const float scale = (float)(1.0 / sqrt(sum / hp->d_model + (double)hp->rms_eps));
        for (uint32_t i = 0; i < hp->d_model; i++)
            out[t * hp->d_model + i] = scale * x[t * hp->d_model + i];
    }
    return FACET_OK;
}

// Damage is measured through all layers above each layer, on no more tokens than that takes.
static facet_samples carried(const facet_samples *judging)
{
    facet_samples some = *judging;
    some.n = 1;
    some.n_tokens = judging->lengths[0];
    while (some.n < judging->n && some.n_tokens + judging->lengths[some.n] <= carried_tokens)
        some.n_tokens += judging->lengths[some.n++];
    return some;
}

static facet_status survey_init(survey *s, facet_err *err)
{
    facet_building *b = s->b;
    const facet_build_ops *ops = b->ops;
    const facet_hparams *hp = &b->model->hp;
    const facet_rehearsal *r = s->rehearsal;
    FACET_TRY(facet_layer_fit_init(&s->fit, b, b->targets[s->rehearsal->family], &r->samples,
                                   r->n_fit, err));
    const size_t row = hp->d_model * sizeof(float);
    s->carried = carried(&r->judging);
    s->final = facet_mem_new(b->alloc, s->carried.n_tokens, row);
    s->widest = facet_mem_new(b->alloc, hp->d_ff, sizeof *s->widest);
    s->places = facet_mem_new(b->alloc, hp->d_ff, sizeof *s->places);
    s->cost = facet_mem_new(b->alloc, hp->n_layers, FACET_BUDGET_POINTS * sizeof *s->cost);
    if (!s->final || !s->widest || !s->places || !s->cost)
        return facet_fail_memory(err, s->carried.n_tokens * row);
    FACET_TRY(ops->stream_new(ops->ctx, b->model, &r->samples, &s->stream, err));
    FACET_TRY(ops->stream_new(ops->ctx, b->model, &s->carried, &s->judge, err));
    void *whole;
    FACET_TRY(ops->stream_copy(ops->ctx, s->judge, &whole, err));
    const facet_status status = finish(s, whole, 0, s->final, err);
    ops->stream_free(ops->ctx, whole);
    return status;
}

static const float *worth(const survey *s)
{
    return facet_build_worth(s->b, s->rehearsal->family, 0);
}

// Relative squared distance of the final states when the layer at hand is what s->fit holds.
static facet_status carry(survey *s, uint32_t layer, double *damage, facet_err *err)
{
    const facet_build_ops *ops = s->b->ops;
    const size_t n = (size_t)s->carried.n_tokens * s->fit.d;
    const facet_build_custom custom = {s->fit.ascending, s->fit.n_kept, s->fit.rows,
                                       s->fit.rows + (size_t)s->fit.n_kept * s->fit.d};
    float *states = facet_mem_new(s->b->alloc, n, sizeof *states);
    if (!states) return facet_fail_memory(err, n * sizeof *states);
    void *branch = NULL;
    facet_status status;
    FACET_TRY_GOTO(ops->stream_copy(ops->ctx, s->judge, &branch, err), done);
    FACET_TRY_GOTO(ops->stream_custom(ops->ctx, branch, &custom, err), done);
    FACET_TRY_GOTO(finish(s, branch, layer + 1, states, err), done);
    double distance = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        const double difference = (double)(states[i] - s->final[i]);
        distance += difference * difference;
        size += (double)s->final[i] * (double)s->final[i];
    }
    *damage = size > 0 ? distance / size : 0;
done:
    if (branch) ops->stream_free(ops->ctx, branch);
    facet_mem_free(s->b->alloc, states);
    return status;
}

// Takes the best channels of a share.
static facet_status take_share(survey *s, uint32_t layer, double ratio, facet_err *err)
{
    const uint32_t tiles = facet_select_tiles(s->fit.d_ff, ratio);
    const uint32_t n =
        facet_rehearsal_channels(s->rehearsal, worth(s), layer, tiles, s->fit.channels);
    return facet_layer_fit_begin(&s->fit, layer, n, err);
}

// The cost of what is taken, out of the moments of the widest share.
static facet_status price(survey *s, uint32_t layer, double *cost, facet_err *err)
{
    const facet_layer_fit *fit = &s->fit;
    uint32_t place = 0;
    for (uint32_t i = 0; i < fit->n_kept; i++) {
        while (s->widest[place] != fit->channels[i])
            place++;
        s->places[i] = place;
    }
    facet_moments moments;
    facet_compensated compensated;
    FACET_TRY(facet_moments_pick(&fit->moments, s->places, fit->n_kept, &moments, err));
    const facet_status status = facet_compensate_layer(
        &moments, facet_build_trial_method(s->b), layer, &s->ridge, fit->rows, &compensated, err);
    facet_moments_fini(&moments);
    *cost = fit->energy > 0 ? compensated.error / fit->energy : 0;
    return status;
}

static facet_status survey_layer(survey *s, uint32_t layer, facet_err *err)
{
    const facet_build_ops *ops = s->b->ops;
    const facet_trail *trail = &s->rehearsal->trail;
    double *cost = s->cost + (size_t)layer * FACET_BUDGET_POINTS, damage = 0;
    FACET_TRY(ops->stream_attn(ops->ctx, s->stream, err));
    FACET_TRY(ops->stream_attn(ops->ctx, s->judge, err));
    FACET_TRY(take_share(s, layer, facet_budget_ratios[widest_point], err));
    memcpy(s->widest, s->fit.channels, s->fit.n_kept * sizeof *s->widest);
    const float *dense = trail->x + layer * (size_t)s->fit.n_tokens * s->fit.d;
    s->fit.energy = trail->energy[layer];
    FACET_TRY(facet_layer_fit_pass(&s->fit, s->stream, s->fit.repair > 0 ? dense : NULL, err));
    for (int i = widest_point; i > 0; i--) {
        if (i < widest_point) FACET_TRY(take_share(s, layer, facet_budget_ratios[i], err));
        FACET_TRY(price(s, layer, &cost[i], err));
        if (i == carried_point) FACET_TRY(carry(s, layer, &damage, err));
    }
    const double scale = cost[carried_point] > 0 ? damage / cost[carried_point] : 0;
    cost[0] = 1; // all of the output is missing
    for (int i = 0; i < FACET_BUDGET_POINTS; i++)
        cost[i] *= scale;
    facet_report_log(s->b->opts->report, FACET_LOG_INFO,
                     "budget of %s, layer %u: cost %.6f %.6f %.6f of keeping 25, 50, 75 %%",
                     s->b->families->names[s->rehearsal->family], layer, cost[1], cost[2], cost[3]);
    FACET_TRY(ops->stream_ffn(ops->ctx, s->judge, NULL, NULL, err));
    return facet_report_progress(s->b->opts->report, "budget", layer + 1, s->b->model->hp.n_layers,
                                 err);
}

// ---- candidates
// ----------------------------------------------------------------------------------

// Costs add up only as long as no layer repairs another; a residual target does repair. So uniform
// shares, a mild move and the whole move are tried on the model, and the least loss wins.
static const double moves[] = {0.0, 0.5, 1.0}; // power of the costs; 0: uniform
enum { n_moves = sizeof moves / sizeof moves[0] };

static facet_status share(const survey *s, double move, uint32_t *tiles, facet_err *err)
{
    const facet_hparams *hp = &s->b->model->hp;
    const uint32_t all = facet_select_all(hp->d_ff), n_layers = hp->n_layers;
    for (uint32_t l = 0; l < n_layers; l++)
        tiles[l] = facet_select_tiles(hp->d_ff, s->b->keep);
    if (move <= 0) return FACET_OK;
    double *cost = facet_mem_new(s->b->alloc, n_layers, FACET_BUDGET_POINTS * sizeof *cost);
    if (!cost) return facet_fail_memory(err, n_layers * FACET_BUDGET_POINTS * sizeof *cost);
    for (size_t i = 0; i < (size_t)n_layers * FACET_BUDGET_POINTS; i++)
        cost[i] = pow(s->cost[i], move);
    const double total = floor(s->b->keep * hp->d_ff * n_layers / FACET_TILE + 0.5);
    facet_budget_problem problem = {
        .n_layers = n_layers,
        .n_tiles = all,
        .total = total < n_layers ? n_layers : (uint32_t)total,
        .cost = cost,
    };
    problem.floor = facet_budget_floor(&problem);
    const facet_status status = facet_budget_share(&problem, s->b->alloc, tiles, err);
    facet_mem_free(s->b->alloc, cost);
    return status;
}

static facet_status choose_shares(survey *s, uint32_t *tiles, facet_err *err)
{
    const uint32_t n_layers = s->b->model->hp.n_layers;
    facet_build_family *out = &s->b->result.families[s->rehearsal->family];
    uint32_t *tried = facet_mem_new(s->b->alloc, n_layers, sizeof *tried);
    if (!tried) return facet_fail_memory(err, n_layers * sizeof *tried);
    facet_status status = FACET_OK;
    for (int i = 0; i < n_moves && status == FACET_OK; i++) {
        facet_rehearsed what = {.name = "budget, trial",
                                .target = s->b->targets[s->rehearsal->family],
                                .worth = worth(s),
                                .tiles = tried};
        status = share(s, moves[i], tried, err);
        if (status == FACET_OK) status = facet_rehearse(s->rehearsal, &what, err);
        if (status != FACET_OK) break;
        const double loss = what.loss;
        facet_report_log(s->b->opts->report, FACET_LOG_INFO,
                         "budget of %s: shares moved by power %.1f: %.4f nats",
                         s->b->families->names[s->rehearsal->family], moves[i], loss);
        if (i == 0) out->loss_uniform = out->loss_chosen = loss;
        if (i > 0 && !(loss < out->loss_chosen)) continue;
        out->loss_chosen = loss;
        memcpy(tiles, tried, n_layers * sizeof *tiles);
    }
    facet_mem_free(s->b->alloc, tried);
    return status;
}

facet_status facet_build_budget(facet_rehearsal *rehearsal, uint32_t *tiles, facet_err *err)
{
    facet_building *b = rehearsal->b;
    survey s = {.b = b, .rehearsal = rehearsal, .fit = {.b = b}};
    facet_status status = survey_init(&s, err);
    for (uint32_t layer = 0; layer < b->model->hp.n_layers && status == FACET_OK; layer++)
        status = survey_layer(&s, layer, err);
    if (status == FACET_OK) status = choose_shares(&s, tiles, err);
    survey_fini(&s);
    return status;
}
