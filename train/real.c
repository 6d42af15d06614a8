// SPDX-License-Identifier: Apache-2.0
#include "train/real.h"

#ifdef FACET_REAL_DOUBLE
#include <cblas.h>
#endif

#include "products/each.h"

facet_product facet_product_whole(facet_product_kind kind, const size_t mnk[3], const facet_real *a,
                                  const facet_real *b, facet_real *c)
{
    const size_t m = mnk[0], n = mnk[1], k = mnk[2];
    return (facet_product){.kind = kind,
                           .m = m,
                           .n = n,
                           .k = k,
                           .alpha = 1,
                           .a = a,
                           .b = b,
                           .c = c,
                           .stride_a = kind == FACET_PRODUCT_TN ? m : k,
                           .stride_b = kind == FACET_PRODUCT_NT ? k : n,
                           .stride_c = n};
}

#ifdef FACET_REAL_DOUBLE
static void run(const facet_product *p, facet_precision precision)
{
    (void)precision;
    if (p->m == 0 || p->n == 0) return;
    if (p->k == 0) {
        for (size_t row = 0; !p->add && row < p->m; row++)
            memset(p->c + row * p->stride_c, 0, p->n * sizeof *p->c);
        return;
    }
    const CBLAS_TRANSPOSE a = p->kind == FACET_PRODUCT_TN ? CblasTrans : CblasNoTrans;
    const CBLAS_TRANSPOSE b = p->kind == FACET_PRODUCT_NT ? CblasTrans : CblasNoTrans;
    cblas_dgemm(CblasRowMajor, a, b, (int)p->m, (int)p->n, (int)p->k, p->alpha, p->a,
                (int)p->stride_a, p->b, (int)p->stride_b, p->add ? 1 : 0, p->c, (int)p->stride_c);
}
#else
static void run(const facet_product *p, facet_precision precision)
{
    const facet_gemm gemm = {.a_transposed = p->kind == FACET_PRODUCT_TN,
                             .b_transposed = p->kind == FACET_PRODUCT_NT,
                             .add = p->add,
                             .m = p->m,
                             .n = p->n,
                             .k = p->k,
                             .alpha = p->alpha,
                             .a = p->a,
                             .b = p->b,
                             .b_rounded = p->b_rounded,
                             .c = p->c,
                             .stride_a = p->stride_a,
                             .stride_b = p->stride_b,
                             .stride_c = p->stride_c};
    facet_gemm_run(&gemm, precision);
}
#endif

void facet_product_run(const facet_product *product)
{
    run(product, FACET_PRECISION_F32);
}

// A tile of c is one call. On one core of 100 GFLOP/s at full size, tiles of 256 x 512 lose a tenth
// to packing their operands anew, 128 x 512 a sixth; 1024 x 2432 would not spread over threads.
#define TILE_ROWS    256u
#define TILE_COLUMNS 512u

// Parts of at most `most`, as equal as rows of 16 allow.
static size_t part_size(size_t n, size_t most)
{
    const size_t parts = (n + most - 1) / most;
    return parts <= 1 ? n : ((n + parts - 1) / parts + 15) & ~(size_t)15;
}

typedef struct tiling {
    size_t rows, columns; // of a tile
    size_t across, count; // tiles side by side, and in all
} tiling;

static tiling tiling_of(const facet_product *p)
{
    if (p->m == 0 || p->n == 0) return (tiling){0};
    tiling t = {part_size(p->m, TILE_ROWS), part_size(p->n, TILE_COLUMNS), 0, 0};
    t.across = (p->n + t.columns - 1) / t.columns;
    t.count = t.across * ((p->m + t.rows - 1) / t.rows);
    return t;
}

typedef struct products_job {
    const facet_product *products;
    facet_precision precision;
} products_job;

static void tile_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const products_job *job = ctx;
    const facet_product *p = job->products;
    tiling t = tiling_of(p);
    for (; item >= t.count; t = tiling_of(p)) {
        item -= t.count;
        p++;
    }
    const size_t row = item / t.across * t.rows, column = item % t.across * t.columns;
    facet_product tile = *p;
    tile.m = p->m - row < t.rows ? p->m - row : t.rows;
    tile.n = p->n - column < t.columns ? p->n - column : t.columns;
    tile.a += p->kind == FACET_PRODUCT_TN ? row : row * p->stride_a;
    const size_t b_at = p->kind == FACET_PRODUCT_NT ? column * p->stride_b : column;
    if (p->b_rounded)
        tile.b_rounded += b_at;
    else
        tile.b += b_at;
    tile.c += row * p->stride_c + column;
    run(&tile, job->precision);
}

void facet_products_run(facet_pool *pool, facet_precision precision, const facet_product *products,
                        uint32_t n)
{
    size_t n_tiles = 0;
    for (uint32_t i = 0; i < n; i++)
        n_tiles += tiling_of(&products[i]).count;
    products_job job = {products, precision};
    facet_each(pool, n_tiles, tile_item, &job);
}
