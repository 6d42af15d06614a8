// SPDX-License-Identifier: Apache-2.0
// Products of every transpose, ragged and larger than a panel, against sums in double. What BF16
// rounds is rounded here as well, one number at a time, so that only the order of sums is left.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "products/each.h"
#include "products/product.h"

// The nearest number with 8 significant bits, the even one of two.
static double bf16(double x)
{
    if (x == 0 || !isfinite(x)) return x;
    int exponent;
    const double fraction = frexp(x, &exponent);
    return ldexp(nearbyint(ldexp(fraction, 8)), exponent - 8);
}

typedef struct operands {
    facet_gemm gemm;
    float *a, *b, *c;
} operands;

// Rows with three floats between them, which nobody may touch.
static operands operands_new(const size_t mnk[3], int transposes, bool add, double alpha)
{
    const bool at = transposes & 1, bt = transposes & 2;
    const size_t m = mnk[0], n = mnk[1], k = mnk[2];
    facet_gemm g = {.a_transposed = at,
                    .b_transposed = bt,
                    .add = add,
                    .m = m,
                    .n = n,
                    .k = k,
                    .alpha = (float)alpha,
                    .stride_a = (at ? m : k) + 3,
                    .stride_b = (bt ? k : n) + 3,
                    .stride_c = n + 3};
    const size_t sizes[] = {(at ? k : m) * g.stride_a, (bt ? n : k) * g.stride_b, m * g.stride_c};
    float *all[3];
    facet_random random = facet_random_seed(m * 131 + n * 17 + k + (size_t)transposes);
    for (int i = 0; i < 3; i++) {
        all[i] = malloc((sizes[i] + 1) * sizeof(float));
        for (size_t j = 0; j < sizes[i]; j++)
            all[i][j] = (float)facet_random_normal(&random);
    }
    g.a = all[0], g.b = all[1], g.c = all[2];
    return (operands){g, all[0], all[1], all[2]};
}

static void operands_free(operands *o)
{
    free(o->a);
    free(o->b);
    free(o->c);
}

static void check(const size_t mnk[3], int transposes, bool add, facet_precision precision)
{
    operands o = operands_new(mnk, transposes, add, add ? 0.75 : 1);
    const facet_gemm *g = &o.gemm;
    const size_t cells = g->m * g->stride_c;
    float *before = malloc((cells + 1) * sizeof *before);
    memcpy(before, o.c, cells * sizeof *before);
    facet_gemm_run(g, precision);
    const bool rounded = precision == FACET_PRECISION_BF16 && facet_bf16_has();
    for (size_t i = 0; i < g->m; i++)
        for (size_t j = 0; j < g->stride_c; j++) {
            const size_t cell = i * g->stride_c + j;
            if (j >= g->n) {
                assert_true(o.c[cell] == before[cell]);
                continue;
            }
            double sum = g->add ? before[cell] : 0, size = fabs(sum);
            for (size_t l = 0; l < g->k; l++) {
                double a =
                    g->alpha * g->a[g->a_transposed ? l * g->stride_a + i : i * g->stride_a + l];
                double b = g->b[g->b_transposed ? j * g->stride_b + l : l * g->stride_b + j];
                if (rounded) a = bf16(a), b = bf16(b);
                sum += a * b;
                size += fabs(a * b);
            }
            assert_true(fabs(o.c[cell] - sum) <= 2e-6 * size + 1e-6);
        }
    free(before);
    operands_free(&o);
}

static void check_all(facet_precision precision)
{
    static const size_t shapes[][3] = {{0, 3, 4},  {3, 0, 4},    {3, 4, 0},      {1, 1, 1},
                                       {7, 5, 33}, {33, 70, 17}, {259, 515, 40}, {9, 11, 1027}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int transposes = 0; transposes < 4; transposes++)
            for (int add = 0; add < 2; add++)
                check(shapes[i], transposes, add, precision);
}

static void test_f32(void **state)
{
    (void)state;
    check_all(FACET_PRECISION_F32);
}

static void test_bf16(void **state)
{
    (void)state;
    check_all(FACET_PRECISION_BF16);
}

// A number that is none must reach those who look for it (facet_moments_check).
static void test_not_finite(void **state)
{
    (void)state;
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        operands o = operands_new((const size_t[]){20, 24, 36}, 2, false, 1);
        o.a[5 * o.gemm.stride_a + 7] = bad[i];
        facet_gemm_run(&o.gemm, FACET_PRECISION_BF16);
        for (size_t j = 0; j < o.gemm.n; j++) {
            assert_true(!isfinite(o.c[5 * o.gemm.stride_c + j]));
            assert_true(isfinite(o.c[6 * o.gemm.stride_c + j]));
        }
        operands_free(&o);
    }
}

// An operand that is given rounded is the one that would have been rounded here.
static void test_rounded(void **state)
{
    (void)state;
    if (!facet_bf16_has()) skip();
    for (int transposes = 0; transposes < 4; transposes++) {
        const size_t mnk[] = {270, 530, 1040};
        operands plain = operands_new(mnk, transposes, true, 1);
        operands given = operands_new(mnk, transposes, true, 1);
        const facet_gemm *g = &plain.gemm;
        const size_t rows = g->b_transposed ? g->n : g->k, n = rows * g->stride_b;
        uint16_t *rounded = malloc(n * sizeof *rounded);
        facet_bf16_round(rounded, plain.b, n);
        given.gemm.b = NULL;
        given.gemm.b_rounded = rounded;
        facet_gemm_run(g, FACET_PRECISION_BF16);
        facet_gemm_run(&given.gemm, FACET_PRECISION_BF16);
        for (size_t i = 0; i < g->m * g->stride_c; i++)
            assert_true(fabs((double)(plain.c[i] - given.c[i])) < 1e-3);
        free(rounded);
        operands_free(&plain);
        operands_free(&given);
    }
}

// ---- on threads -------------------------------------------------------------------------------

static void run_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const operands *o = ctx;
    facet_gemm_run(&o[item].gemm, FACET_PRECISION_BF16);
}

static void test_threads(void **state)
{
    (void)state;
    operands one[8], four[8];
    facet_pool *pool = NULL;
    assert_int_equal(facet_pool_new(4, NULL, &pool, NULL), FACET_OK);
    for (size_t i = 0; i < 8; i++) {
        const size_t mnk[] = {100 + i, 90, 1030};
        one[i] = operands_new(mnk, (int)i % 4, i % 2, 1);
        four[i] = operands_new(mnk, (int)i % 4, i % 2, 1);
        run_item(one, 0, i);
    }
    facet_each(pool, 8, run_item, four);
    for (size_t i = 0; i < 8; i++) {
        const size_t bytes = one[i].gemm.m * one[i].gemm.stride_c * sizeof(float);
        assert_memory_equal(one[i].c, four[i].c, bytes);
        operands_free(&one[i]);
        operands_free(&four[i]);
    }
    facet_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_rounded),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
