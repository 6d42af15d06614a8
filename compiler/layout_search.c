// SPDX-License-Identifier: Apache-2.0
// Alternate until the captured score stands still:
//
//     families choose their best tiles  ->  every tile has a pattern (who keeps it)
//     patterns exchange channels        ->  for each pair of patterns the best exchange, exactly
//
// from two starts: channels grouped by who wants them most (exact when wishes fill whole tiles),
// and bisection along principal directions (better when they do not). The better end wins.
#include "compiler/layout_search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/abi.h"

enum { max_rounds = 40, max_sweeps = 12, power_rounds = 24 };
static const double least_gain = 1e-9;

typedef struct ranked {
    double key;
    uint64_t pattern;
    uint32_t channel;
} ranked;

typedef struct search {
    facet_tiling *tiling;
    ranked *list;       // (d_ff)
    uint32_t *channels; // (d_ff) channels, pattern group after pattern group
    double *at;         // (d_ff)
    double *sums;       // (n_families, n_tiles)
    uint32_t *groups;   // (n_tiles) tiles in group order
    uint32_t *starts;   // (n_tiles + 1) first index in `channels` of each group
    uint64_t *keys;     // (n_tiles) pattern of each group
    uint64_t *wanted;   // (d_ff) bit k: among the best of family k
    uint32_t *place;    // (n_tiles) next free index of each tile's stretch of `channels`
    uint32_t n_groups;
    double *scratch; // (K * (K + 2))
} search;

uint32_t facet_tiling_capacity(const facet_tiling *tiling, uint32_t tile)
{
    const uint32_t rest = tiling->d_ff - tile * FACET_TILE;
    return rest < FACET_TILE ? rest : FACET_TILE;
}

// By falling key, then channel, so that no order depends on the sort.
static int ranked_order(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->pattern != y->pattern) return x->pattern > y->pattern ? -1 : 1;
    if (x->key > y->key || x->key < y->key) return x->key > y->key ? -1 : 1;
    return (x->channel > y->channel) - (x->channel < y->channel);
}

// Scores have long tails; squashed by the family's mean kept score they tell "wanted" from "not".
static double squash(const facet_tiling *t, uint32_t family, uint32_t channel)
{
    const double kept = (double)t->n_keep[family] * FACET_TILE;
    const double x = t->scores[(size_t)family * t->d_ff + channel] * kept;
    return x / (x + 0.5);
}

// Coordinates at (n) of the listed channels along the first principal direction of their squashed
// scores; scratch (K * (K + 2)).
static void project(const facet_tiling *tiling, const uint32_t *channels, uint32_t n,
                    double *scratch, double *at)
{
    const uint32_t k = tiling->n_families;
    double *mean = scratch, *direction = scratch + k, *covariance = scratch + 2 * k;
    memset(scratch, 0, (size_t)k * (k + 2) * sizeof *scratch);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t a = 0; a < k; a++)
            mean[a] += squash(tiling, a, channels[i]) / n;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t a = 0; a < k; a++)
            for (uint32_t b = 0; b <= a; b++)
                covariance[a * k + b] += (squash(tiling, a, channels[i]) - mean[a]) *
                                         (squash(tiling, b, channels[i]) - mean[b]);
    for (uint32_t a = 0; a < k; a++)
        for (uint32_t b = 0; b < a; b++)
            covariance[b * k + a] = covariance[a * k + b];
    // An uneven start, so that no symmetric direction is orthogonal to it.
    for (uint32_t a = 0; a < k; a++)
        direction[a] = 1.0 + 0.37 * a;
    for (int round = 0; round < power_rounds; round++) {
        double length = 0;
        for (uint32_t a = 0; a < k; a++) {
            double sum = 0;
            for (uint32_t b = 0; b < k; b++)
                sum += covariance[a * k + b] * direction[b];
            mean[a] = sum;
            length += sum * sum;
        }
        if (!(length > 1e-300)) break;
        for (uint32_t a = 0; a < k; a++)
            direction[a] = mean[a] / sqrt(length);
    }
    for (uint32_t i = 0; i < n; i++) {
        at[i] = 0;
        for (uint32_t a = 0; a < k; a++)
            at[i] += direction[a] * squash(tiling, a, channels[i]);
    }
}

// Sorts channels[0..n) by falling coordinate along their own principal direction.
static void sort_along(search *s, uint32_t *channels, uint32_t n)
{
    project(s->tiling, channels, n, s->scratch, s->at);
    for (uint32_t i = 0; i < n; i++)
        s->list[i] = (ranked){s->at[i], 0, channels[i]};
    qsort(s->list, n, sizeof *s->list, ranked_order);
    for (uint32_t i = 0; i < n; i++)
        channels[i] = s->list[i].channel;
}

// ---- starts -------------------------------------------------------------------------------------

static void start_by_bisection(search *s, uint32_t first_tile, uint32_t n_tiles, uint32_t *channels)
{
    facet_tiling *t = s->tiling;
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_tiles; i++)
        n += facet_tiling_capacity(t, first_tile + i);
    if (n_tiles == 1) {
        for (uint32_t i = 0; i < n; i++)
            t->tile[channels[i]] = first_tile;
        return;
    }
    sort_along(s, channels, n);
    const uint32_t left = n_tiles / 2;
    start_by_bisection(s, first_tile, left, channels);
    start_by_bisection(s, first_tile + left, n_tiles - left, channels + left * FACET_TILE);
}

static void wanted_patterns(search *s)
{
    facet_tiling *t = s->tiling;
    memset(s->wanted, 0, t->d_ff * sizeof *s->wanted);
    for (uint32_t k = 0; k < t->n_families; k++) {
        for (uint32_t j = 0; j < t->d_ff; j++)
            s->list[j] = (ranked){t->scores[(size_t)k * t->d_ff + j], 0, j};
        qsort(s->list, t->d_ff, sizeof *s->list, ranked_order);
        const uint32_t n = t->n_keep[k] * FACET_TILE;
        for (uint32_t i = 0; i < n && i < t->d_ff; i++)
            s->wanted[s->list[i].channel] |= 1ull << k;
    }
    for (uint32_t j = 0; j < t->d_ff; j++) {
        double total = 0;
        for (uint32_t k = 0; k < t->n_families; k++)
            total += t->scores[(size_t)k * t->d_ff + j];
        s->list[j] = (ranked){total, s->wanted[j], j};
    }
    qsort(s->list, t->d_ff, sizeof *s->list, ranked_order);
}

// Whole tiles of channels that the same families want; what is left over of each pattern is
// bisected.
static void start_by_pattern(search *s)
{
    facet_tiling *t = s->tiling;
    wanted_patterns(s);
    uint32_t next_tile = 0, n_left = 0;
    const uint32_t n_full = t->d_ff / FACET_TILE;
    for (uint32_t begin = 0, end; begin < t->d_ff; begin = end) {
        for (end = begin; end < t->d_ff && s->list[end].pattern == s->list[begin].pattern;)
            end++;
        uint32_t i = begin;
        for (; end - i >= FACET_TILE && next_tile < n_full; next_tile++)
            for (uint32_t c = 0; c < FACET_TILE; c++)
                t->tile[s->list[i++].channel] = next_tile;
        while (i < end)
            s->channels[n_left++] = s->list[i++].channel;
    }
    if (next_tile < t->n_tiles)
        start_by_bisection(s, next_tile, t->n_tiles - next_tile, s->channels);
}

// ---- alternation --------------------------------------------------------------------------------

static double choose_tiles(search *s)
{
    facet_tiling *t = s->tiling;
    memset(s->sums, 0, (size_t)t->n_families * t->n_tiles * sizeof *s->sums);
    memset(t->pattern, 0, t->n_tiles * sizeof *t->pattern);
    double captured = 0;
    for (uint32_t k = 0; k < t->n_families; k++) {
        double *sums = s->sums + (size_t)k * t->n_tiles;
        for (uint32_t j = 0; j < t->d_ff; j++)
            sums[t->tile[j]] += t->scores[(size_t)k * t->d_ff + j];
        for (uint32_t i = 0; i < t->n_tiles; i++)
            s->list[i] = (ranked){sums[i], 0, i};
        qsort(s->list, t->n_tiles, sizeof *s->list, ranked_order);
        for (uint32_t i = 0; i < t->n_keep[k]; i++) {
            t->pattern[s->list[i].channel] |= 1ull << k;
            captured += s->list[i].key;
        }
    }
    return captured;
}

// Lists the channels of every distinct pattern.
static void make_groups(search *s)
{
    facet_tiling *t = s->tiling;
    for (uint32_t i = 0; i < t->n_tiles; i++)
        s->list[i] = (ranked){0, t->pattern[i], i};
    qsort(s->list, t->n_tiles, sizeof *s->list, ranked_order);
    s->n_groups = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n_tiles; i++) {
        if (i == 0 || s->list[i].pattern != s->list[i - 1].pattern) {
            s->keys[s->n_groups] = s->list[i].pattern;
            s->starts[s->n_groups++] = n;
        }
        s->groups[i] = s->list[i].channel;
        s->place[s->groups[i]] = n;
        n += facet_tiling_capacity(t, s->groups[i]);
    }
    s->starts[s->n_groups] = n;
    for (uint32_t j = 0; j < t->d_ff; j++)
        s->channels[s->place[t->tile[j]]++] = j;
}

// What channel j is worth in a tile of pattern a rather than b.
static double preference(const facet_tiling *t, uint32_t j, uint64_t a, uint64_t b)
{
    double sum = 0;
    for (uint32_t k = 0; k < t->n_families; k++) {
        const int in_a = (int)((a >> k) & 1u), in_b = (int)((b >> k) & 1u);
        sum += (in_a - in_b) * t->scores[(size_t)k * t->d_ff + j];
    }
    return sum;
}

// The best exchange of channels between two groups: those that prefer a most, as many as fit, go to
// a.
static double exchange(search *s, uint32_t a, uint32_t b)
{
    const facet_tiling *t = s->tiling;
    uint32_t *in_a = s->channels + s->starts[a], *in_b = s->channels + s->starts[b];
    const uint32_t n_a = s->starts[a + 1] - s->starts[a], n_b = s->starts[b + 1] - s->starts[b];
    double lowest = INFINITY, highest = -INFINITY;
    for (uint32_t i = 0; i < n_a; i++) {
        const double d = preference(t, in_a[i], s->keys[a], s->keys[b]);
        s->list[i] = (ranked){-d, 0, i};
        lowest = fmin(lowest, d);
    }
    for (uint32_t i = 0; i < n_b; i++) {
        const double d = preference(t, in_b[i], s->keys[a], s->keys[b]);
        s->list[n_a + i] = (ranked){d, 0, i};
        highest = fmax(highest, d);
    }
    if (!(highest > lowest + 1e-12)) return 0;
    qsort(s->list, n_a, sizeof *s->list, ranked_order); // least wanted in a first
    qsort(s->list + n_a, n_b, sizeof *s->list, ranked_order);
    double gain = 0;
    for (uint32_t i = 0; i < n_a && i < n_b; i++) {
        const double d = s->list[n_a + i].key + s->list[i].key;
        if (!(d > 1e-12)) break;
        gain += d;
        const uint32_t x = s->list[i].channel, y = s->list[n_a + i].channel;
        const uint32_t swap = in_a[x];
        in_a[x] = in_b[y];
        in_b[y] = swap;
    }
    return gain;
}

// Within a pattern any arrangement captures the same; along the group's own principal direction the
// tiles differ most, which gives families something to choose from in the next round.
static void write_back(search *s)
{
    facet_tiling *t = s->tiling;
    for (uint32_t g = 0; g < s->n_groups; g++)
        sort_along(s, s->channels + s->starts[g], s->starts[g + 1] - s->starts[g]);
    uint32_t at = 0;
    for (uint32_t i = 0; i < t->n_tiles; i++) {
        const uint32_t n = facet_tiling_capacity(t, s->groups[i]);
        for (uint32_t c = 0; c < n; c++)
            t->tile[s->channels[at++]] = s->groups[i];
    }
}

static double alternate(search *s)
{
    double captured = choose_tiles(s);
    for (int round = 0; round < max_rounds; round++) {
        make_groups(s);
        for (int sweep = 0; sweep < max_sweeps; sweep++) {
            double gain = 0;
            for (uint32_t a = 0; a < s->n_groups; a++)
                for (uint32_t b = 0; b < a; b++)
                    gain += exchange(s, a, b);
            if (gain < least_gain) break;
        }
        write_back(s);
        const double now = choose_tiles(s);
        if (!(now > captured + least_gain)) return now;
        captured = now;
    }
    return captured;
}

// ---- both starts --------------------------------------------------------------------------------

static void search_fini(search *s, const facet_alloc *alloc)
{
    facet_mem_free(alloc, s->list);
    facet_mem_free(alloc, s->channels);
    facet_mem_free(alloc, s->at);
    facet_mem_free(alloc, s->sums);
    facet_mem_free(alloc, s->groups);
    facet_mem_free(alloc, s->starts);
    facet_mem_free(alloc, s->keys);
    facet_mem_free(alloc, s->wanted);
    facet_mem_free(alloc, s->place);
    facet_mem_free(alloc, s->scratch);
}

static facet_status search_init(search *s, facet_tiling *tiling, const facet_alloc *alloc,
                                facet_err *err)
{
    const size_t f = tiling->d_ff, t = tiling->n_tiles, k = tiling->n_families;
    *s = (search){.tiling = tiling};
    s->list = facet_mem_new(alloc, f, sizeof *s->list);
    s->channels = facet_mem_new(alloc, f, sizeof *s->channels);
    s->at = facet_mem_new(alloc, f, sizeof *s->at);
    s->sums = facet_mem_new(alloc, k * t, sizeof *s->sums);
    s->groups = facet_mem_new(alloc, t, sizeof *s->groups);
    s->starts = facet_mem_new(alloc, t + 1, sizeof *s->starts);
    s->keys = facet_mem_new(alloc, t, sizeof *s->keys);
    s->wanted = facet_mem_new(alloc, f, sizeof *s->wanted);
    s->place = facet_mem_new(alloc, t, sizeof *s->place);
    s->scratch = facet_mem_new(alloc, k * (k + 2), sizeof *s->scratch);
    if (s->list && s->channels && s->at && s->sums && s->groups && s->starts && s->keys &&
        s->wanted && s->place && s->scratch)
        return FACET_OK;
    search_fini(s, alloc);
    return facet_fail_memory(err, f * sizeof *s->list);
}

facet_status facet_tiling_search(facet_tiling *tiling, const facet_alloc *alloc, facet_err *err)
{
    search s;
    FACET_TRY(search_init(&s, tiling, alloc, err));
    uint32_t *first = facet_mem_new(alloc, tiling->d_ff, sizeof *first);
    if (!first) {
        search_fini(&s, alloc);
        return facet_fail_memory(err, tiling->d_ff * sizeof *first);
    }
    start_by_pattern(&s);
    const double by_pattern = alternate(&s);
    memcpy(first, tiling->tile, tiling->d_ff * sizeof *first);
    for (uint32_t j = 0; j < tiling->d_ff; j++)
        s.channels[j] = j;
    start_by_bisection(&s, 0, tiling->n_tiles, s.channels);
    if (alternate(&s) < by_pattern + least_gain)
        memcpy(tiling->tile, first, tiling->d_ff * sizeof *first);
    tiling->captured = choose_tiles(&s);
    facet_mem_free(alloc, first);
    search_fini(&s, alloc);
    return FACET_OK;
}
