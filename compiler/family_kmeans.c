// SPDX-License-Identifier: Apache-2.0
// A centre is the normalised sum of its members, so the similarity of point i with the centre of c
// is S_ic / sqrt(Q_c), S_ic = sum of similarities of i with members of c, Q_c = sum of S_ic over
// members.
#include "compiler/family_kmeans.h"

#include <math.h>
#include <string.h>

#include "base/random.h"

enum { max_rounds = 60 };

typedef struct state {
    const facet_kmeans *problem;
    uint32_t *assign; // (n)
    uint32_t *size;   // (k)
    uint32_t *seeds;  // (k)
    double *sums;     // (n, k)
    double *length;   // (k) sqrt(Q_c)
    double *distance; // (n) squared distance from the nearest seed
} state;

static void state_fini(state *s, const facet_alloc *alloc)
{
    facet_mem_free(alloc, s->assign);
    facet_mem_free(alloc, s->size);
    facet_mem_free(alloc, s->seeds);
    facet_mem_free(alloc, s->sums);
    facet_mem_free(alloc, s->length);
    facet_mem_free(alloc, s->distance);
}

static facet_status state_init(state *s, const facet_kmeans *problem, const facet_alloc *alloc,
                               facet_err *err)
{
    const size_t n = problem->n, k = problem->k;
    *s = (state){.problem = problem};
    s->assign = facet_mem_new(alloc, n, sizeof *s->assign);
    s->size = facet_mem_new(alloc, k, sizeof *s->size);
    s->seeds = facet_mem_new(alloc, k, sizeof *s->seeds);
    s->sums = facet_mem_new(alloc, n * k, sizeof *s->sums);
    s->length = facet_mem_new(alloc, k, sizeof *s->length);
    s->distance = facet_mem_new(alloc, n, sizeof *s->distance);
    if (s->assign && s->size && s->seeds && s->sums && s->length && s->distance) return FACET_OK;
    state_fini(s, alloc);
    return facet_fail_memory(err, n * k * sizeof(double));
}

static float similarity(const facet_kmeans *p, uint32_t i, uint32_t j)
{
    return p->similarity[(size_t)i * p->n + j];
}

// k-means++: each further seed is drawn with probability proportional to the squared distance.
static void draw_seeds(state *s, facet_random *random)
{
    const facet_kmeans *p = s->problem;
    s->seeds[0] = (uint32_t)facet_random_below(random, p->n);
    for (uint32_t i = 0; i < p->n; i++)
        s->distance[i] = INFINITY;
    for (uint32_t c = 0; c < p->k; c++) {
        double total = 0;
        for (uint32_t i = 0; i < p->n; i++) {
            const double d = fmax(0.0, 1.0 - (double)similarity(p, i, s->seeds[c]));
            s->distance[i] = i == s->seeds[c] ? 0.0 : fmin(s->distance[i], d * d);
            total += s->distance[i];
        }
        if (c + 1 == p->k) break;
        double at = facet_random_unit(random) * total;
        uint32_t next = 0;
        for (uint32_t i = 0; i < p->n; i++) {
            if (s->distance[i] <= 0) continue;
            next = i;
            at -= s->distance[i];
            if (at < 0) break;
        }
        s->seeds[c + 1] = next;
    }
}

static void measure(state *s)
{
    const facet_kmeans *p = s->problem;
    memset(s->sums, 0, (size_t)p->n * p->k * sizeof *s->sums);
    memset(s->size, 0, p->k * sizeof *s->size);
    memset(s->length, 0, p->k * sizeof *s->length);
    for (uint32_t i = 0; i < p->n; i++) {
        double *sums = s->sums + (size_t)i * p->k;
        for (uint32_t j = 0; j < p->n; j++)
            sums[s->assign[j]] += (double)similarity(p, i, j);
        s->size[s->assign[i]]++;
        s->length[s->assign[i]] += sums[s->assign[i]];
    }
    for (uint32_t c = 0; c < p->k; c++)
        s->length[c] = sqrt(fmax(s->length[c], 0.0));
}

static double to_centre(const state *s, uint32_t i, uint32_t c)
{
    if (!(s->length[c] > 1e-12)) return 0;
    return s->sums[(size_t)i * s->problem->k + c] / s->length[c];
}

// An empty cluster takes the point that fits its own worst, from a cluster that can spare one.
static bool fill_empty(state *s)
{
    const facet_kmeans *p = s->problem;
    bool changed = false;
    for (uint32_t c = 0; c < p->k; c++) {
        if (s->size[c] > 0) continue;
        uint32_t worst = UINT32_MAX;
        for (uint32_t i = 0; i < p->n; i++) {
            if (s->size[s->assign[i]] < 2) continue;
            if (worst == UINT32_MAX ||
                to_centre(s, i, s->assign[i]) < to_centre(s, worst, s->assign[worst]))
                worst = i;
        }
        s->assign[worst] = c;
        measure(s);
        changed = true;
    }
    return changed;
}

static double run_once(state *s, facet_random *random)
{
    const facet_kmeans *p = s->problem;
    draw_seeds(s, random);
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t best = 0;
        for (uint32_t c = 1; c < p->k; c++)
            if (similarity(p, i, s->seeds[c]) > similarity(p, i, s->seeds[best])) best = c;
        s->assign[i] = best;
    }
    measure(s);
    for (uint32_t round = 0; round < max_rounds; round++) {
        bool changed = fill_empty(s);
        for (uint32_t i = 0; i < p->n; i++) {
            uint32_t best = s->assign[i];
            for (uint32_t c = 0; c < p->k; c++)
                if (to_centre(s, i, c) > to_centre(s, i, best) + 1e-9) best = c;
            changed = changed || best != s->assign[i];
            s->assign[i] = best;
        }
        measure(s);
        if (!changed) break;
    }
    fill_empty(s);
    double total = 0;
    for (uint32_t i = 0; i < p->n; i++)
        total += to_centre(s, i, s->assign[i]);
    return total;
}

// Numbers clusters by their lowest member, so that equal groupings are equal arrays.
static void renumber(uint32_t *assign, uint32_t n, uint32_t k, uint32_t *map)
{
    for (uint32_t c = 0; c < k; c++)
        map[c] = UINT32_MAX;
    uint32_t next = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (map[assign[i]] == UINT32_MAX) map[assign[i]] = next++;
        assign[i] = map[assign[i]];
    }
}

facet_status facet_kmeans_run(const facet_kmeans *problem, const facet_alloc *alloc,
                              uint32_t *assign, facet_err *err)
{
    state s;
    FACET_TRY(state_init(&s, problem, alloc, err));
    double best = -INFINITY;
    for (uint32_t restart = 0; restart < problem->restarts; restart++) {
        facet_random random = facet_random_seed(problem->seed + restart);
        const double total = run_once(&s, &random);
        if (!(total > best + 1e-9)) continue;
        best = total;
        memcpy(assign, s.assign, problem->n * sizeof *assign);
    }
    renumber(assign, problem->n, problem->k, s.size);
    state_fini(&s, alloc);
    return FACET_OK;
}

static double silhouette_of(const state *s, uint32_t i)
{
    const uint32_t own = s->assign[i];
    if (s->size[own] < 2) return 0;
    const double *sums = s->sums + (size_t)i * s->problem->k;
    const double a = ((double)s->size[own] - sums[own]) / (double)(s->size[own] - 1);
    double b = INFINITY;
    for (uint32_t c = 0; c < s->problem->k; c++)
        if (c != own && s->size[c] > 0) b = fmin(b, 1.0 - sums[c] / (double)s->size[c]);
    const double widest = fmax(a, b);
    return isfinite(b) && widest > 0 ? (b - a) / widest : 0;
}

facet_status facet_kmeans_quality(const facet_kmeans *problem, const uint32_t *assign,
                                  const facet_alloc *alloc, double *silhouette, double *cohesion,
                                  facet_err *err)
{
    state s;
    FACET_TRY(state_init(&s, problem, alloc, err));
    memcpy(s.assign, assign, problem->n * sizeof *assign);
    measure(&s);
    double width = 0, fit = 0;
    for (uint32_t i = 0; i < problem->n; i++) {
        if (problem->k > 1) width += silhouette_of(&s, i);
        fit += to_centre(&s, i, s.assign[i]);
    }
    *silhouette = width / problem->n;
    *cohesion = fit / problem->n;
    state_fini(&s, alloc);
    return FACET_OK;
}
