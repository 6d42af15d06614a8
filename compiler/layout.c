// SPDX-License-Identifier: Apache-2.0
//     scores of the families -> each scaled to a best sum of 1 -> tiles (search) -> order (few
//     runs)
//     -> permutation, kept tiles, recall
#include "compiler/layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "compiler/layout_search.h"
#include "compiler/select.h"
#include "kernels/abi.h"

typedef struct layer_work {
    double *scores;    // (n_families, d_ff)
    double *sorted;    // (d_ff)
    uint32_t *tile;    // (d_ff)
    uint64_t *pattern; // (n_tiles)
    uint32_t *order;   // (n_tiles)
    uint32_t *place;   // (n_tiles) position of a tile
    uint32_t *n_keep;  // (n_families)
} layer_work;

void facet_layout_fini(facet_layout *layout)
{
    facet_mem_free(layout->alloc, layout->perm);
    facet_mem_free(layout->alloc, layout->tiles);
    facet_mem_free(layout->alloc, layout->n_kept);
    facet_mem_free(layout->alloc, layout->recall);
    *layout = (facet_layout){0};
}

static void work_fini(layer_work *w, const facet_alloc *alloc)
{
    facet_mem_free(alloc, w->scores);
    facet_mem_free(alloc, w->sorted);
    facet_mem_free(alloc, w->tile);
    facet_mem_free(alloc, w->pattern);
    facet_mem_free(alloc, w->order);
    facet_mem_free(alloc, w->place);
    facet_mem_free(alloc, w->n_keep);
}

static facet_status work_init(layer_work *w, const facet_layout *layout, facet_err *err)
{
    const facet_alloc *alloc = layout->alloc;
    const size_t f = layout->d_ff, t = layout->n_tiles, k = layout->n_families;
    *w = (layer_work){0};
    w->scores = facet_mem_new(alloc, k * f, sizeof *w->scores);
    w->sorted = facet_mem_new(alloc, f, sizeof *w->sorted);
    w->tile = facet_mem_new(alloc, f, sizeof *w->tile);
    w->pattern = facet_mem_new(alloc, t, sizeof *w->pattern);
    w->order = facet_mem_new(alloc, t, sizeof *w->order);
    w->place = facet_mem_new(alloc, t, sizeof *w->place);
    w->n_keep = facet_mem_new(alloc, k, sizeof *w->n_keep);
    if (w->scores && w->sorted && w->tile && w->pattern && w->order && w->place && w->n_keep)
        return FACET_OK;
    work_fini(w, alloc);
    return facet_fail_memory(err, (k + 1) * f * sizeof *w->scores);
}

static int falling(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

// Sum of the n best of f scores.
static double best_sum(layer_work *w, const double *scores, uint32_t f, uint32_t n)
{
    memcpy(w->sorted, scores, f * sizeof *scores);
    qsort(w->sorted, f, sizeof *w->sorted, falling);
    double sum = 0;
    for (uint32_t i = 0; i < n && i < f; i++)
        sum += w->sorted[i];
    return sum;
}

// Every family weighs the same: its best possible sum is 1.
static facet_status scale_scores(const facet_layout_problem *problem, uint32_t layer, layer_work *w,
                                 facet_err *err)
{
    const uint32_t f = problem->d_ff;
    for (uint32_t k = 0; k < problem->n_families; k++) {
        const float *from = problem->scores + ((size_t)k * problem->n_layers + layer) * f;
        double *to = w->scores + (size_t)k * f;
        for (uint32_t j = 0; j < f; j++) {
            if (!(from[j] >= 0.0f) || isinf(from[j]))
                return facet_fail(err, FACET_BAD_INPUT,
                                  "family %u, layer %u: the score of channel %u is negative or not "
                                  "a number; predict and cluster again",
                                  k, layer, j);
            to[j] = (double)from[j];
        }
        w->n_keep[k] = problem->n_keep[(size_t)k * problem->n_layers + layer];
        const double best = best_sum(w, to, f, w->n_keep[k] * FACET_TILE);
        for (uint32_t j = 0; j < f && best > 0; j++)
            to[j] /= best;
    }
    return FACET_OK;
}

static void write_layer(facet_layout *layout, uint32_t layer, const facet_tiling *tiling,
                        layer_work *w)
{
    const uint32_t n_tiles = layout->n_tiles, n_places = n_tiles * FACET_TILE;
    uint32_t *perm = layout->perm + (size_t)layer * n_places;
    for (uint32_t i = 0; i < n_places; i++)
        perm[i] = UINT32_MAX;
    for (uint32_t i = 0; i < n_tiles; i++)
        w->place[w->order[i]] = i * FACET_TILE;
    // Channels in their own order within a tile: close to the source, and the same every time.
    for (uint32_t j = 0; j < layout->d_ff; j++)
        perm[w->place[tiling->tile[j]]++] = j;
    for (uint32_t k = 0; k < layout->n_families; k++) {
        const size_t at = (size_t)k * layout->n_layers + layer;
        uint32_t *tiles = layout->tiles + at * n_tiles;
        uint32_t n = 0, n_channels = 0;
        for (uint32_t i = 0; i < n_tiles; i++) {
            if (!((tiling->pattern[w->order[i]] >> k) & 1u)) continue;
            tiles[n++] = i;
            n_channels += facet_tiling_capacity(tiling, w->order[i]);
        }
        layout->n_kept[at] = n;
        const double *scores = w->scores + (size_t)k * layout->d_ff;
        double captured = 0;
        for (uint32_t j = 0; j < layout->d_ff; j++)
            if ((tiling->pattern[tiling->tile[j]] >> k) & 1u) captured += scores[j];
        const double best = best_sum(w, scores, layout->d_ff, n_channels);
        layout->recall[at] = best > 0 ? fmin(captured / best, 1.0) : 1.0;
    }
}

static facet_status build_layer(const facet_layout_problem *problem, uint32_t layer, layer_work *w,
                                facet_layout *layout, facet_err *err)
{
    FACET_TRY(scale_scores(problem, layer, w, err));
    facet_tiling tiling = {.n_families = problem->n_families,
                           .d_ff = problem->d_ff,
                           .n_tiles = layout->n_tiles,
                           .scores = w->scores,
                           .n_keep = w->n_keep,
                           .tile = w->tile,
                           .pattern = w->pattern};
    if (problem->n_families == 0) {
        for (uint32_t j = 0; j < problem->d_ff; j++)
            w->tile[j] = j / FACET_TILE;
        for (uint32_t i = 0; i < layout->n_tiles; i++)
            w->order[i] = i;
    } else {
        FACET_TRY(facet_tiling_search(&tiling, layout->alloc, err));
        FACET_TRY(facet_tiling_order(w->pattern, layout->n_tiles, problem->d_ff % FACET_TILE != 0,
                                     layout->alloc, w->order, err));
    }
    write_layer(layout, layer, &tiling, w);
    return FACET_OK;
}

static facet_status layout_init(const facet_layout_problem *problem, const facet_alloc *alloc,
                                facet_layout *layout, facet_err *err)
{
    if (problem->n_families > facet_layout_max_families)
        return facet_fail(err, FACET_BAD_INPUT, "%u families: a bundle holds %u at most",
                          problem->n_families, (unsigned)facet_layout_max_families);
    const uint32_t n_tiles = facet_select_all(problem->d_ff);
    *layout = (facet_layout){.alloc = alloc,
                             .n_layers = problem->n_layers,
                             .d_ff = problem->d_ff,
                             .n_families = problem->n_families,
                             .n_tiles = n_tiles};
    const size_t rows = (size_t)problem->n_families * problem->n_layers;
    layout->perm = facet_mem_new(alloc, problem->n_layers,
                                 (size_t)n_tiles * FACET_TILE * sizeof *layout->perm);
    layout->tiles = facet_mem_new(alloc, rows, n_tiles * sizeof *layout->tiles);
    layout->n_kept = facet_mem_new(alloc, rows, sizeof *layout->n_kept);
    layout->recall = facet_mem_new(alloc, rows, sizeof *layout->recall);
    if (!layout->perm || !layout->tiles || !layout->n_kept || !layout->recall) {
        facet_layout_fini(layout);
        return facet_fail_memory(err, rows * n_tiles * sizeof(uint32_t));
    }
    return FACET_OK;
}

facet_status facet_layout_build(const facet_layout_problem *problem, const facet_alloc *alloc,
                                const facet_report *report, facet_layout *layout, facet_err *err)
{
    facet_layout made;
    FACET_TRY(layout_init(problem, alloc, &made, err));
    layer_work w;
    facet_status status = work_init(&w, &made, err);
    if (status != FACET_OK) {
        facet_layout_fini(&made);
        return status;
    }
    for (uint32_t layer = 0; layer < problem->n_layers && status == FACET_OK; layer++) {
        status = build_layer(problem, layer, &w, &made, err);
        if (status == FACET_OK)
            status = facet_report_progress(report, "layout", layer + 1, problem->n_layers, err);
    }
    work_fini(&w, alloc);
    if (status == FACET_OK)
        *layout = made;
    else
        facet_layout_fini(&made);
    return status;
}

const uint32_t *facet_layout_perm(const facet_layout *layout, uint32_t layer)
{
    return layout->perm + (size_t)layer * layout->n_tiles * FACET_TILE;
}

const uint32_t *facet_layout_tiles(const facet_layout *layout, uint32_t family, uint32_t layer)
{
    return layout->tiles + ((size_t)family * layout->n_layers + layer) * layout->n_tiles;
}

uint32_t facet_layout_kept(const facet_layout *layout, uint32_t family, uint32_t layer)
{
    return layout->n_kept[(size_t)family * layout->n_layers + layer];
}

double facet_layout_recall(const facet_layout *layout, uint32_t family)
{
    double sum = 0;
    for (uint32_t layer = 0; layer < layout->n_layers; layer++)
        sum += layout->recall[(size_t)family * layout->n_layers + layer];
    return sum / layout->n_layers;
}

uint32_t facet_layout_runs(const uint32_t *tiles, uint32_t n_tiles, uint32_t *runs)
{
    uint32_t n = 0;
    for (uint32_t i = 0, first = 0; i < n_tiles; i++) {
        if (i + 1 < n_tiles && tiles[i + 1] == tiles[i] + 1) continue;
        if (runs) {
            runs[2 * n] = tiles[first];
            runs[2 * n + 1] = i - first + 1;
        }
        n++;
        first = i + 1;
    }
    return n;
}

uint32_t facet_layout_channels(const facet_layout *layout, uint32_t family, uint32_t layer,
                               uint32_t *channels)
{
    const uint32_t *perm = facet_layout_perm(layout, layer);
    const uint32_t *tiles = facet_layout_tiles(layout, family, layer);
    const uint32_t n = facet_layout_kept(layout, family, layer);
    uint32_t real = 0;
    for (uint32_t i = 0; i < n * FACET_TILE; i++) {
        channels[i] = perm[tiles[i / FACET_TILE] * FACET_TILE + i % FACET_TILE];
        real += channels[i] != UINT32_MAX;
    }
    return real;
}
