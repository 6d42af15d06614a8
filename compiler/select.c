// SPDX-License-Identifier: Apache-2.0
#include "compiler/select.h"

#include <math.h>
#include <string.h>

#include "base/bits.h"
#include "kernels/abi.h"

uint32_t facet_select_all(uint32_t d_ff)
{
    return d_ff / FACET_TILE + (d_ff % FACET_TILE != 0);
}

uint32_t facet_select_tiles(uint32_t d_ff, double keep)
{
    const uint32_t all = facet_select_all(d_ff);
    // A keep of 1 means all of it, also when the ragged last tile would round away.
    if (keep >= 1.0) return all;
    const double n = floor(keep * (double)d_ff / FACET_TILE + 0.5);
    return n < 1.0 ? 1 : n > (double)all ? all : (uint32_t)n;
}

uint32_t facet_select_channels(uint32_t d_ff, double keep)
{
    // The nudge keeps 0.3 * 10 at 3: the product may fall just short of the whole number meant.
    const double n = floor(keep * (double)d_ff + 1e-9);
    return n < 1.0 ? 1 : n > (double)d_ff ? d_ff : (uint32_t)n;
}

facet_status facet_select_check(double keep, facet_err *err)
{
    if (keep > 0.0 && keep <= 1.0) return FACET_OK; // false for NaN
    return facet_fail(err, FACET_BAD_INPUT,
                      "keep ratio %.9g: it must be above 0 and at most 1; use 0.5 for half", keep);
}

static bool better(const float *scores, uint32_t a, uint32_t b)
{
    return scores[a] > scores[b] || (!(scores[a] < scores[b]) && a < b);
}

// Partial order by Hoare's selection with the middle as pivot: linear on average, and the pair
// (score, channel) has no ties, so the result does not depend on the path.
static void select_first(const float *scores, uint32_t *order, uint32_t f, uint32_t n)
{
    int64_t low = 0, high = (int64_t)f - 1;
    const int64_t want = (int64_t)n - 1;
    while (low < high) {
        const uint32_t pivot = order[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (better(scores, order[i], pivot))
                i++;
            while (better(scores, pivot, order[j]))
                j--;
            if (i > j) break;
            const uint32_t swap = order[i];
            order[i++] = order[j];
            order[j--] = swap;
        }
        if (want <= j)
            high = j;
        else if (want >= i)
            low = i;
        else
            return;
    }
}

void facet_select_top(const float *scores, uint32_t f, uint32_t n, uint32_t *order, uint8_t *bits)
{
    memset(bits, 0, facet_bits_bytes(f));
    for (uint32_t j = 0; j < f; j++)
        order[j] = j;
    if (n > f) n = f;
    if (n == 0) return;
    if (n < f) select_first(scores, order, f, n);
    for (uint32_t j = 0; j < n; j++)
        facet_bits_set(bits, order[j]);
}
