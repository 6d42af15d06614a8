// SPDX-License-Identifier: Apache-2.0
// Exact by dynamic programming: least[t] is the least cost of the layers so far with t tiles among
// them, and choice[l][t] the share of layer l that reaches it.
#include "compiler/budget.h"

#include <math.h>
#include <string.h>

const double facet_budget_ratios[FACET_BUDGET_POINTS] = {0.0, 0.25, 0.5, 0.75, 1.0};

double facet_budget_cost(const facet_budget_problem *problem, uint32_t layer, uint32_t tiles)
{
    const double *cost = problem->cost + (size_t)layer * FACET_BUDGET_POINTS;
    const double *x = facet_budget_ratios, ratio = (double)tiles / problem->n_tiles;
    int i = 0;
    while (i + 2 < FACET_BUDGET_POINTS && x[i + 1] <= ratio)
        i++;
    // Straight in the logarithm, so that the curve bends everywhere and shares do not stick to the
    // measured ratios; the end without cost is lifted to a twentieth of its neighbour for that.
    const double from = cost[i], to = fmax(cost[i + 1], 0.05 * from);
    return from > 0 ? from * pow(to / from, (ratio - x[i]) / (x[i + 1] - x[i])) : 0;
}

uint32_t facet_budget_floor(const facet_budget_problem *problem)
{
    const uint32_t eighth = problem->n_tiles / 8, equal = problem->total / problem->n_layers;
    const uint32_t least = eighth < equal ? eighth : equal;
    return least > 0 ? least : 1;
}

typedef struct table {
    const facet_budget_problem *problem;
    uint32_t spare;       // tiles above every layer's floor
    double *least, *next; // (spare + 1)
    uint32_t *choice;     // (n_layers, spare + 1)
} table;

static void add_layer(table *t, uint32_t layer)
{
    const facet_budget_problem *p = t->problem;
    const uint32_t most = p->n_tiles - p->floor;
    uint32_t *choice = t->choice + (size_t)layer * (t->spare + 1);
    for (uint32_t sum = 0; sum <= t->spare; sum++)
        t->next[sum] = INFINITY;
    for (uint32_t extra = 0; extra <= most && extra <= t->spare; extra++) {
        const double cost = facet_budget_cost(p, layer, p->floor + extra);
        for (uint32_t sum = extra; sum <= t->spare; sum++) {
            if (!(t->least[sum - extra] + cost < t->next[sum])) continue;
            t->next[sum] = t->least[sum - extra] + cost;
            choice[sum] = extra;
        }
    }
    double *swap = t->least;
    t->least = t->next;
    t->next = swap;
}

facet_status facet_budget_share(const facet_budget_problem *problem, const facet_alloc *alloc,
                                uint32_t *tiles, facet_err *err)
{
    const facet_budget_problem *p = problem;
    table t = {.problem = p, .spare = p->total - p->n_layers * p->floor};
    const size_t row = (size_t)t.spare + 1;
    t.least = facet_mem_new(alloc, row, sizeof *t.least);
    t.next = facet_mem_new(alloc, row, sizeof *t.next);
    t.choice = facet_mem_new(alloc, p->n_layers, row * sizeof *t.choice);
    facet_status status = FACET_OK;
    if (t.least && t.next && t.choice) {
        for (size_t sum = 1; sum < row; sum++)
            t.least[sum] = INFINITY;
        for (uint32_t l = 0; l < p->n_layers; l++)
            add_layer(&t, l);
        uint32_t sum = t.spare;
        for (uint32_t l = p->n_layers; l-- > 0;) {
            const uint32_t extra = t.choice[l * row + sum];
            tiles[l] = p->floor + extra;
            sum -= extra;
        }
    } else {
        status = facet_fail_memory(err, p->n_layers * row * sizeof *t.choice);
    }
    facet_mem_free(alloc, t.least);
    facet_mem_free(alloc, t.next);
    facet_mem_free(alloc, t.choice);
    return status;
}
