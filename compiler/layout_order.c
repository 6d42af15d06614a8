// SPDX-License-Identifier: Apache-2.0
// A family's runs are counted by where its bit changes from one tile to the next, so the cost of an
// order is the sum of Hamming distances of neighbouring patterns: a path through the distinct
// patterns, nearest neighbour first, then improved by reversing stretches (2-opt) until nothing
// helps.
#include <string.h>

#include "compiler/layout_search.h"

enum { max_starts = 12, max_passes = 30 };

typedef struct path {
    const uint64_t *keys; // (n) distinct patterns
    uint32_t n;
    uint64_t end;    // pattern behind the last one: the ragged tile's, else nobody's
    uint32_t *nodes; // (n)
    uint8_t *used;   // (n)
} path;

static uint32_t distance(uint64_t a, uint64_t b)
{
    uint32_t count = 0;
    for (uint64_t bits = a ^ b; bits; bits &= bits - 1)
        count++;
    return count;
}

// Pattern at a place of the path; in front of it nobody keeps anything.
static uint64_t pattern_at(const path *p, int64_t i)
{
    return i < 0 ? 0 : i >= p->n ? p->end : p->keys[p->nodes[i]];
}

static uint64_t cost(const path *p)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i <= p->n; i++)
        sum += distance(pattern_at(p, i - 1), pattern_at(p, i));
    return sum;
}

static void nearest(path *p, uint32_t start)
{
    memset(p->used, 0, p->n);
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t next = start;
        if (i > 0) {
            next = UINT32_MAX;
            const uint64_t from = p->keys[p->nodes[i - 1]];
            for (uint32_t j = 0; j < p->n; j++)
                if (!p->used[j] && (next == UINT32_MAX ||
                                    distance(from, p->keys[j]) < distance(from, p->keys[next])))
                    next = j;
        }
        p->nodes[i] = next;
        p->used[next] = 1;
    }
}

static void improve(path *p)
{
    for (int pass = 0; pass < max_passes; pass++) {
        bool changed = false;
        for (int64_t i = 0; i < p->n; i++) {
            for (int64_t j = i + 1; j < p->n; j++) {
                const uint64_t before = pattern_at(p, i - 1), first = pattern_at(p, i);
                const uint64_t last = pattern_at(p, j), after = pattern_at(p, j + 1);
                if (distance(before, last) + distance(first, after) >=
                    distance(before, first) + distance(last, after))
                    continue;
                for (int64_t a = i, b = j; a < b; a++, b--) {
                    const uint32_t swap = p->nodes[a];
                    p->nodes[a] = p->nodes[b];
                    p->nodes[b] = swap;
                }
                changed = true;
            }
        }
        if (!changed) return;
    }
}

static void best_path(path *p, uint32_t *best)
{
    uint64_t lowest = UINT64_MAX;
    for (uint32_t start = 0; start < p->n && start < max_starts; start++) {
        nearest(p, start);
        improve(p);
        const uint64_t now = cost(p);
        if (now >= lowest) continue;
        lowest = now;
        memcpy(best, p->nodes, p->n * sizeof *best);
    }
}

facet_status facet_tiling_order(const uint64_t *pattern, uint32_t n_tiles, bool ragged,
                                const facet_alloc *alloc, uint32_t *order, facet_err *err)
{
    const uint32_t n_free = ragged ? n_tiles - 1 : n_tiles;
    uint64_t *keys = facet_mem_new(alloc, n_tiles, sizeof *keys);
    uint32_t *best = facet_mem_new(alloc, n_tiles, sizeof *best);
    path p = {.keys = keys, .end = ragged ? pattern[n_tiles - 1] : 0};
    p.nodes = facet_mem_new(alloc, n_tiles, sizeof *p.nodes);
    p.used = facet_mem_new(alloc, n_tiles, 1);
    facet_status status = FACET_OK;
    if (!keys || !best || !p.nodes || !p.used) {
        status = facet_fail_memory(err, n_tiles * sizeof *keys);
        goto done;
    }
    for (uint32_t i = 0; i < n_free; i++) {
        uint32_t same = 0;
        while (same < p.n && keys[same] != pattern[i])
            same++;
        if (same == p.n) keys[p.n++] = pattern[i];
    }
    best_path(&p, best);
    uint32_t n = 0;
    for (uint32_t k = 0; k < p.n; k++)
        for (uint32_t i = 0; i < n_free; i++)
            if (pattern[i] == keys[best[k]]) order[n++] = i;
    if (ragged) order[n] = n_tiles - 1;
done:
    facet_mem_free(alloc, keys);
    facet_mem_free(alloc, best);
    facet_mem_free(alloc, p.nodes);
    facet_mem_free(alloc, p.used);
    return status;
}
