// SPDX-License-Identifier: Apache-2.0
// P and W are held in F64, P in the upper triangle of its rows; what is gone is zero in both.
#include "compiler/eliminate.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"

typedef struct work {
    const facet_eliminate_problem *problem;
    const facet_alloc *alloc;
    size_t n, d;
    double *p;      // (n, n)
    double *w;      // (n, d)
    double *cost;   // (n)
    bool *gone;     // (n)
    uint32_t *list; // (block) that goes now
    double *rows;   // (block, n) P_B., then L^-1 P_B.
    double *square; // (block, block) P_BB, then L
    double *out;    // (block, d) W_B, then L^-1 W_B
} work;

static void work_fini(work *w)
{
    facet_mem_free(w->alloc, w->p);
    facet_mem_free(w->alloc, w->w);
    facet_mem_free(w->alloc, w->cost);
    facet_mem_free(w->alloc, w->gone);
    facet_mem_free(w->alloc, w->list);
    facet_mem_free(w->alloc, w->rows);
    facet_mem_free(w->alloc, w->square);
    facet_mem_free(w->alloc, w->out);
}

static facet_status singular(const work *w, facet_err *err)
{
    return facet_fail(err, FACET_FAILED,
                      "selection in layer %u: the moments of the channels are singular; calibrate "
                      "with more text or use --select stats",
                      w->problem->layer);
}

// P = (C + ridge D)^-1.
static facet_status invert(work *w, facet_err *err)
{
    const size_t n = w->n;
    const float *c = w->problem->moments->c[FACET_PART_FIT];
    double mean = 0;
    for (size_t i = 0; i + 1 < n; i++)
        mean += (double)c[i * n + i] / (double)(n - 1);
    for (size_t i = 0; i < n * n; i++)
        w->p[i] = (double)c[i];
    for (size_t i = 0; i + 1 < n; i++)
        w->p[i * n + i] += w->problem->ridge * mean + 1e-30;
    w->p[n * n - 1] = w->p[n * n - 1] * (1.0 + w->problem->ridge) + 1e-30;
    // The upper triangle of rows is the lower one of columns.
    const lapack_int order = (lapack_int)n;
    if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', order, w->p, order) != 0 ||
        LAPACKE_dpotri_work(LAPACK_COL_MAJOR, 'L', order, w->p, order) != 0)
        return singular(w, err);
    return FACET_OK;
}

static facet_status work_init(work *w, const facet_eliminate_problem *problem, facet_err *err)
{
    const facet_moments *moments = problem->moments;
    const size_t n = moments->n, d = moments->d, block = problem->block;
    *w = (work){.problem = problem, .alloc = moments->alloc, .n = n, .d = d};
    w->p = facet_mem_new(w->alloc, n, n * sizeof *w->p);
    w->w = facet_mem_new(w->alloc, n, d * sizeof *w->w);
    w->cost = facet_mem_new(w->alloc, n, sizeof *w->cost);
    w->gone = facet_mem_new(w->alloc, n, sizeof *w->gone);
    w->list = facet_mem_new(w->alloc, block, sizeof *w->list);
    w->rows = facet_mem_new(w->alloc, block, n * sizeof *w->rows);
    w->square = facet_mem_new(w->alloc, block, block * sizeof *w->square);
    w->out = facet_mem_new(w->alloc, block, d * sizeof *w->out);
    if (!w->p || !w->w || !w->cost || !w->gone || !w->list || !w->rows || !w->square || !w->out)
        return facet_fail_memory(err, n * (n + d) * sizeof *w->p);
    for (size_t i = 0; i < n * d; i++)
        w->w[i] = (double)problem->rows[i];
    return invert(w, err);
}

// Squared error that the loss of each channel would add; false when one is not a number.
static bool price(work *w)
{
    double sum = 0;
    for (size_t j = 0; j + 1 < w->n; j++) {
        const double *row = w->w + j * w->d;
        w->cost[j] = 0;
        if (w->gone[j]) continue;
        w->cost[j] = cblas_ddot((int)w->d, row, 1, row, 1) / w->p[j * w->n + j];
        sum += w->cost[j];
    }
    return isfinite(sum);
}

// The `count` cheapest channels that are there, cheapest first; on a tie the lower one.
static void pick(work *w, uint32_t count)
{
    uint32_t n = 0;
    for (uint32_t j = 0; j + 1 < w->n; j++) {
        if (w->gone[j] || (n == count && w->cost[w->list[n - 1]] <= w->cost[j])) continue;
        uint32_t at = n < count ? n++ : n - 1;
        for (; at > 0 && w->cost[j] < w->cost[w->list[at - 1]]; at--)
            w->list[at] = w->list[at - 1];
        w->list[at] = j;
    }
}

// Row j of P, of which half stands in column j above the diagonal.
static void copy_row(const work *w, size_t j, double *to)
{
    for (size_t i = 0; i < j; i++)
        to[i] = w->p[i * w->n + j];
    memcpy(to + j, w->p + j * w->n + j, (w->n - j) * sizeof *to);
}

static facet_status drop(work *w, uint32_t count, facet_err *err)
{
    const int n = (int)w->n, d = (int)w->d, k = (int)count;
    for (uint32_t b = 0; b < count; b++) {
        copy_row(w, w->list[b], w->rows + b * w->n);
        memcpy(w->out + b * w->d, w->w + w->list[b] * w->d, w->d * sizeof *w->out);
        for (uint32_t a = 0; a <= b; a++)
            w->square[b * count + a] = w->rows[b * w->n + w->list[a]];
    }
    if (LAPACKE_dpotrf_work(LAPACK_ROW_MAJOR, 'L', k, w->square, k) != 0) return singular(w, err);
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, k, n, 1.0,
                w->square, k, w->rows, n);
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, k, d, 1.0,
                w->square, k, w->out, d);
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, d, k, -1.0, w->rows, n, w->out, d, 1.0,
                w->w, d);
    cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, n, k, -1.0, w->rows, n, 1.0, w->p, n);
    for (uint32_t b = 0; b < count; b++) {
        const size_t j = w->list[b];
        w->gone[j] = true;
        memset(w->w + j * w->d, 0, w->d * sizeof *w->w);
        memset(w->p + j * w->n + j, 0, (w->n - j) * sizeof *w->p);
        for (size_t i = 0; i < j; i++)
            w->p[i * w->n + j] = 0;
    }
    return FACET_OK;
}

// Until n_keep channels are left.
static facet_status run(work *w, float *worth, facet_err *err)
{
    double dearest = 0;
    size_t left = w->n - 1;
    while (true) {
        if (!price(w)) return singular(w, err);
        if (left <= w->problem->n_keep) break;
        const size_t more = left - w->problem->n_keep;
        const uint32_t count = more < w->problem->block ? (uint32_t)more : w->problem->block;
        pick(w, count);
        for (uint32_t b = 0; b < count; b++) {
            dearest = fmax(dearest, w->cost[w->list[b]]);
            worth[w->list[b]] = (float)sqrt(dearest);
        }
        FACET_TRY(drop(w, count, err));
        left -= count;
    }
    // Above all that went, in the order of their costs, also where a cost is lower than one that
    // was paid.
    const float floor = nextafterf((float)sqrt(dearest), INFINITY);
    for (size_t j = 0; j + 1 < w->n; j++)
        if (!w->gone[j]) worth[j] = fmaxf(floor, (float)sqrt(w->cost[j]));
    return FACET_OK;
}

facet_status facet_eliminate(const facet_eliminate_problem *problem, float *worth, facet_err *err)
{
    work w;
    FACET_TRY(facet_moments_check(problem->moments, problem->layer, err));
    facet_status status = work_init(&w, problem, err);
    if (status == FACET_OK) status = run(&w, worth, err);
    work_fini(&w);
    return status;
}
