// SPDX-License-Identifier: Apache-2.0
#include <cblas.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "compiler/compensate.h"
#include "products/each.h"

void facet_moments_fini(facet_moments *moments)
{
    for (int part = 0; part < FACET_PART_COUNT; part++) {
        facet_mem_free(moments->alloc, moments->c[part]);
        facet_mem_free(moments->alloc, moments->m[part]);
    }
    *moments = (facet_moments){0};
}

facet_status facet_moments_init(facet_moments *moments, uint32_t n_kept, uint32_t d,
                                const facet_alloc *alloc, facet_err *err)
{
    *moments = (facet_moments){.alloc = alloc, .n = n_kept + 1, .d = d};
    const size_t n = moments->n;
    for (int part = 0; part < FACET_PART_COUNT; part++) {
        moments->c[part] = facet_mem_new(alloc, n, n * sizeof(float));
        moments->m[part] = facet_mem_new(alloc, n, d * sizeof(float));
        if (moments->c[part] && moments->m[part]) continue;
        facet_moments_fini(moments);
        return facet_fail_memory(err, n * (n + d) * sizeof(float));
    }
    return FACET_OK;
}

double facet_squares(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

static void count(facet_moments *moments, int part, const facet_moments_rows *rows)
{
    moments->wanted[part] += facet_squares(rows->wanted, (size_t)rows->n_rows * moments->d);
    moments->tokens[part] += rows->n_rows;
}

void facet_moments_add(facet_moments *moments, int part, const facet_moments_rows *rows)
{
    const int n = (int)moments->n, d = (int)moments->d, t = (int)rows->n_rows;
    if (t == 0) return;
    cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, n, t, 1.0f, rows->z, n, 1.0f,
                moments->c[part], n);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, d, t, 1.0f, rows->z, n, rows->wanted, d,
                1.0f, moments->m[part], d);
    count(moments, part, rows);
}

// Rows of c and of m that one item adds to; those of c from the diagonal on.
enum { ROWS_AT_ONCE = 512 };

typedef struct add_job {
    facet_moments *moments;
    int part;
    const facet_moments_rows *rows;
} add_job;

static void add_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const add_job *job = ctx;
    const size_t n = job->moments->n, d = job->moments->d, i = (size_t)item * ROWS_AT_ONCE;
    facet_gemm gemm = {.a_transposed = true,
                       .add = true,
                       .m = n - i < ROWS_AT_ONCE ? n - i : ROWS_AT_ONCE,
                       .n = n - i,
                       .k = job->rows->n_rows,
                       .alpha = 1,
                       .a = job->rows->z + i,
                       .b = job->rows->z + i,
                       .c = job->moments->c[job->part] + i * n + i,
                       .stride_a = n,
                       .stride_b = n,
                       .stride_c = n};
    facet_gemm_run(&gemm, FACET_PRECISION_BF16);
    gemm.n = d;
    gemm.b = job->rows->wanted;
    gemm.c = job->moments->m[job->part] + i * d;
    gemm.stride_b = gemm.stride_c = d;
    facet_gemm_run(&gemm, FACET_PRECISION_BF16);
}

void facet_moments_add_bf16(facet_moments *moments, int part, const facet_moments_rows *rows,
                            facet_pool *pool)
{
    add_job job = {moments, part, rows};
    facet_each(pool, (moments->n + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE, add_item, &job);
    count(moments, part, rows);
}

// Rows of `from` at the places, and the constant's, into out: the triangle of c and all of m.
static void pick_part(const facet_moments *from, const uint32_t *places, int part,
                      facet_moments *out)
{
    const size_t n = out->n, d = out->d, constant = from->n - 1;
    for (size_t i = 0; i < n; i++) {
        const size_t row = i + 1 < n ? places[i] : constant;
        for (size_t j = i; j + 1 < n; j++)
            out->c[part][i * n + j] = from->c[part][row * from->n + places[j]];
        out->c[part][i * n + n - 1] = from->c[part][row * from->n + constant];
        memcpy(out->m[part] + i * d, from->m[part] + row * d, d * sizeof(float));
    }
    out->wanted[part] = from->wanted[part];
    out->tokens[part] = from->tokens[part];
}

facet_status facet_moments_pick(const facet_moments *from, const uint32_t *places, uint32_t n_kept,
                                facet_moments *out, facet_err *err)
{
    FACET_TRY(facet_moments_init(out, n_kept, from->d, from->alloc, err));
    for (int part = 0; part < FACET_PART_COUNT; part++)
        pick_part(from, places, part, out);
    out->energy = from->energy;
    return FACET_OK;
}

static void product(const facet_moments *moments, int part, const float *rows, float *out)
{
    const int n = (int)moments->n, d = (int)moments->d;
    cblas_ssymm(CblasRowMajor, CblasLeft, CblasUpper, n, d, 1.0f, moments->c[part], n, rows, d,
                0.0f, out, d);
}

double facet_moments_error(const facet_moments *moments, int part, const float *rows,
                           float *scratch)
{
    product(moments, part, rows, scratch);
    const float *m = moments->m[part];
    double sum = moments->wanted[part];
    for (size_t i = 0; i < (size_t)moments->n * moments->d; i++)
        sum += (double)rows[i] * ((double)scratch[i] - 2.0 * (double)m[i]);
    return isfinite(sum) ? fmax(sum, 0) : INFINITY;
}

double facet_moments_size(const facet_moments *moments, int part, const float *change,
                          float *scratch)
{
    product(moments, part, change, scratch);
    double sum = 0;
    for (size_t i = 0; i < (size_t)moments->n * moments->d; i++)
        sum += (double)change[i] * (double)scratch[i];
    return isfinite(sum) ? fmax(sum, 0) : INFINITY;
}

facet_status facet_moments_check(const facet_moments *moments, uint32_t layer, facet_err *err)
{
    double sum = moments->energy;
    for (int part = 0; part < FACET_PART_COUNT; part++) {
        sum += moments->wanted[part];
        for (size_t i = 0; i < moments->n; i++)
            sum += (double)moments->c[part][i * moments->n + i];
    }
    if (isfinite(sum)) return FACET_OK;
    return facet_fail(
        err, FACET_FAILED,
        "calibration, layer %u: activations are not finite, so weights are damaged or "
        "the text drives them out of range; fetch the model again or give other text",
        layer);
}
