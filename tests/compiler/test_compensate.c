// SPDX-License-Identifier: Apache-2.0
// Compensation on synthetic layers, where what can be repaired is known.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "compiler/compensate.h"
#include "tests/support/failing.h"

// A layer of f channels that share `causes` causes, with means; the first n are kept.
typedef struct layer {
    uint32_t f, n, d, tokens;
    float *z;    // (tokens, n + 1) kept, and the constant
    float *y;    // (tokens, d) dense output
    float *rows; // (n + 1, d) original kept rows, bias row zero
} layer;

static layer layer_new(uint32_t f, uint32_t n, uint32_t tokens, double mean, uint64_t seed)
{
    enum { causes = 8, d = 12 };
    layer l = {f,
               n,
               d,
               tokens,
               calloc((size_t)tokens * (n + 1), sizeof(float)),
               calloc((size_t)tokens * d, sizeof(float)),
               calloc((size_t)(n + 1) * d, 4)};
    facet_random random = facet_random_seed(seed);
    float *mix = calloc((size_t)causes * f, 4), *down = calloc((size_t)f * d, 4);
    float *z = calloc(f, 4);
    for (uint32_t i = 0; i < causes * f; i++)
        mix[i] = (float)facet_random_normal(&random);
    for (uint32_t i = 0; i < f * d; i++)
        down[i] = (float)(0.1 * facet_random_normal(&random));
    memcpy(l.rows, down, (size_t)n * d * 4);
    for (uint32_t t = 0; t < tokens; t++) {
        float cause[causes];
        for (int c = 0; c < causes; c++)
            cause[c] = (float)facet_random_normal(&random);
        for (uint32_t j = 0; j < f; j++) {
            z[j] = (float)(mean + 0.5 * facet_random_normal(&random));
            for (int c = 0; c < causes; c++)
                z[j] += cause[c] * mix[(size_t)c * f + j];
            for (uint32_t r = 0; r < d; r++)
                l.y[(size_t)t * d + r] += z[j] * down[(size_t)j * d + r];
        }
        memcpy(l.z + (size_t)t * (n + 1), z, n * sizeof(float));
        l.z[(size_t)t * (n + 1) + n] = 1;
    }
    free(mix);
    free(down);
    free(z);
    return l;
}

static void layer_free(layer *l)
{
    free(l->z);
    free(l->y);
    free(l->rows);
}

static void add(facet_moments *moments, int part, const layer *l, uint32_t first, uint32_t count)
{
    const facet_moments_rows rows = {count, l->z + (size_t)first * (l->n + 1),
                                     l->y + (size_t)first * l->d};
    facet_moments_add(moments, part, &rows);
    moments->energy = moments->wanted[FACET_PART_JUDGE]; // the target is the layer's own output
}

// Error on tokens that the compensation never saw.
static double unseen_error(const layer *l, uint32_t first, uint32_t count, const float *rows)
{
    facet_moments moments;
    assert_int_equal(facet_moments_init(&moments, l->n, l->d, NULL, NULL), FACET_OK);
    add(&moments, FACET_PART_JUDGE, l, first, count);
    float *scratch = calloc((size_t)(l->n + 1) * l->d, sizeof *scratch);
    const double error = facet_moments_error(&moments, FACET_PART_JUDGE, rows, scratch);
    const double energy = moments.energy;
    free(scratch);
    facet_moments_fini(&moments);
    return error / energy;
}

static void run(const layer *l, facet_compensation method, uint32_t fit, uint32_t judge,
                float *rows, facet_compensated *result)
{
    facet_moments moments;
    facet_err err;
    assert_int_equal(facet_moments_init(&moments, l->n, l->d, NULL, NULL), FACET_OK);
    add(&moments, FACET_PART_FIT, l, 0, fit);
    add(&moments, FACET_PART_JUDGE, l, fit, judge);
    memcpy(rows, l->rows, (size_t)(l->n + 1) * l->d * sizeof *rows);
    double start = 0;
    assert_int_equal(facet_compensate_layer(&moments, method, 3, &start, rows, result, &err),
                     FACET_OK);
    facet_moments_fini(&moments);
}

// Moments picked out of others are those of the picked channels.
static void test_pick(void **state)
{
    (void)state;
    enum { n = 9, kept = 4, tokens = 30 };
    const uint32_t places[kept] = {0, 3, 4, 8};
    layer all = layer_new(20, n, tokens, 1, 5), some = layer_new(20, kept, tokens, 1, 5);
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t i = 0; i < kept; i++)
            some.z[t * (kept + 1) + i] = all.z[t * (n + 1) + places[i]];
    facet_moments from, want, got;
    assert_int_equal(facet_moments_init(&from, n, all.d, NULL, NULL), FACET_OK);
    assert_int_equal(facet_moments_init(&want, kept, all.d, NULL, NULL), FACET_OK);
    for (int part = 0; part < FACET_PART_COUNT; part++) {
        add(&from, part, &all, part ? 20 : 0, part ? 10 : 20);
        add(&want, part, &some, part ? 20 : 0, part ? 10 : 20);
    }
    assert_int_equal(facet_moments_pick(&from, places, kept, &got, NULL), FACET_OK);
    for (int part = 0; part < FACET_PART_COUNT; part++) {
        for (uint32_t i = 0; i <= kept; i++)
            for (uint32_t j = i; j <= kept; j++)
                assert_true(fabsf(got.c[part][i * (kept + 1) + j] -
                                  want.c[part][i * (kept + 1) + j]) < 1e-3f);
        for (uint32_t i = 0; i < (kept + 1) * all.d; i++)
            assert_true(fabsf(got.m[part][i] - want.m[part][i]) < 1e-3f);
        assert_true(got.wanted[part] == want.wanted[part]);
        assert_int_equal(got.tokens[part], want.tokens[part]);
    }
    assert_true(got.energy == want.energy);
    facet_moments_fini(&from);
    facet_moments_fini(&want);
    facet_moments_fini(&got);
    layer_free(&all);
    layer_free(&some);
}

static void test_methods_rank(void **state)
{
    (void)state;
    layer l = layer_new(96, 48, 1600, 0.6, 1);
    float *rows = calloc((size_t)(l.n + 1) * l.d, sizeof *rows);
    facet_compensated result;
    double errors[3];
    for (int m = 0; m < 3; m++) {
        run(&l, (facet_compensation)m, 900, 200, rows, &result);
        assert_int_equal(result.method, m);
        errors[m] = unseen_error(&l, 1100, 500, rows);
    }
    assert_true(errors[FACET_COMPENSATE_BIAS] < 0.97 * errors[FACET_COMPENSATE_NONE]);
    assert_true(errors[FACET_COMPENSATE_REFIT] < 0.2 * errors[FACET_COMPENSATE_BIAS]);
    free(rows);
    layer_free(&l);
}

// Rows that tuning starts from owe nothing to the tokens that judge it; a refit uses those too.
static void test_judges_unseen(void **state)
{
    (void)state;
    layer l = layer_new(96, 48, 1600, 0.6, 1);
    const size_t bytes = (size_t)(l.n + 1) * l.d * sizeof(float);
    const facet_compensation methods[] = {FACET_COMPENSATE_TUNE, FACET_COMPENSATE_REFIT};
    float *rows = malloc(bytes), *others = malloc(bytes);
    for (int m = 0; m < 2; m++) {
        facet_compensated result, other;
        run(&l, methods[m], 900, 200, rows, &result);
        run(&l, methods[m], 900, 160, others, &other);
        assert_int_equal(result.method, FACET_COMPENSATE_REFIT);
        assert_true(fabs(result.ridge - other.ridge) < 1e-12);
        assert_int_equal(memcmp(rows, others, bytes) == 0, methods[m] == FACET_COMPENSATE_TUNE);
    }
    free(rows);
    free(others);
    layer_free(&l);
}

// What was never dropped owes nothing, and few tokens must not make things worse.
static void test_never_worse(void **state)
{
    (void)state;
    const uint32_t fits[] = {3, 10, 30, 100};
    for (size_t i = 0; i < 4; i++) {
        layer l = layer_new(64, 60, 800, 0, 30 + i);
        float *rows = calloc((size_t)(l.n + 1) * l.d, sizeof *rows);
        facet_compensated result;
        run(&l, FACET_COMPENSATE_REFIT, fits[i], 200, rows, &result);
        assert_true(result.error <= result.error_none);
        assert_true(unseen_error(&l, 400, 400, rows) <= 1.05 * unseen_error(&l, 400, 400, l.rows));
        free(rows);
        layer_free(&l);
    }
}

// Fewer tokens than twice the channels get no weak ridge, even where it would be judged better.
static void test_few_tokens(void **state)
{
    (void)state;
    layer l = layer_new(64, 40, 3000, 0, 11);
    float *rows = calloc((size_t)(l.n + 1) * l.d, sizeof *rows);
    facet_compensated result;
    const uint32_t few[] = {8, 20, 79};
    for (size_t i = 0; i < 3; i++) {
        run(&l, FACET_COMPENSATE_REFIT, few[i], 900, rows, &result);
        assert_int_equal(result.method, FACET_COMPENSATE_REFIT);
        assert_true(result.ridge >= 0.1);
    }
    run(&l, FACET_COMPENSATE_REFIT, 2000, 900, rows, &result);
    assert_true(result.ridge < 0.1);
    free(rows);
    layer_free(&l);
}

static void test_one_token(void **state)
{
    (void)state;
    layer l = layer_new(32, 16, 10, 0, 4);
    float *rows = calloc((size_t)(l.n + 1) * l.d, sizeof *rows);
    facet_compensated result;
    run(&l, FACET_COMPENSATE_REFIT, 1, 0, rows, &result);
    for (size_t i = 0; i < (size_t)(l.n + 1) * l.d; i++)
        assert_true(isfinite(rows[i]));
    free(rows);
    layer_free(&l);
}

// A small ridge reproduces the least-squares solution: an output that the kept channels determine.
static void test_exact(void **state)
{
    (void)state;
    layer l = layer_new(40, 40, 600, 0.3, 6);
    facet_moments moments;
    assert_int_equal(facet_moments_init(&moments, l.n, l.d, NULL, NULL), FACET_OK);
    add(&moments, FACET_PART_FIT, &l, 0, 400);
    float *rows = calloc((size_t)(l.n + 1) * l.d, sizeof *rows); // from nothing
    assert_int_equal(facet_compensate_solve(&moments, 1e-9, 0, rows, NULL), FACET_OK);
    for (size_t i = 0; i < (size_t)(l.n + 1) * l.d; i++)
        assert_float_equal(rows[i], l.rows[i], 2e-4);
    facet_moments_fini(&moments);
    free(rows);
    layer_free(&l);
}

static void test_damaged(void **state)
{
    (void)state;
    layer l = layer_new(16, 8, 20, 0, 7);
    l.z[5] = NAN;
    facet_moments moments;
    facet_err err;
    assert_int_equal(facet_moments_init(&moments, l.n, l.d, NULL, NULL), FACET_OK);
    add(&moments, FACET_PART_FIT, &l, 0, 20);
    double start = 0;
    facet_compensated result;
    assert_int_equal(
        facet_compensate_layer(&moments, FACET_COMPENSATE_REFIT, 5, &start, l.rows, &result, &err),
        FACET_FAILED);
    assert_non_null(strstr(err.message, "layer 5"));
    facet_moments_fini(&moments);
    layer_free(&l);
}

// No ridge makes this one regular: a pair of channels whose product outweighs their squares.
static void test_singular(void **state)
{
    (void)state;
    facet_moments moments;
    facet_err err;
    float rows[6] = {0};
    assert_int_equal(facet_moments_init(&moments, 2, 2, NULL, NULL), FACET_OK);
    const float products[9] = {1, 100, 0, 100, 1, 0, 0, 0, 1};
    memcpy(moments.c[FACET_PART_FIT], products, sizeof products);
    assert_int_equal(facet_compensate_solve(&moments, 1, 7, rows, &err), FACET_FAILED);
    assert_string_equal(err.message,
                        "refit of layer 7: the moments of the kept channels are singular; "
                        "calibrate with more text or use --compensate bias");
    // The search passes over every ridge that fails, and keeps the rows as they were.
    double start = 0;
    facet_compensated result;
    moments.tokens[FACET_PART_JUDGE] = 1;
    assert_int_equal(
        facet_compensate_layer(&moments, FACET_COMPENSATE_REFIT, 7, &start, rows, &result, &err),
        FACET_OK);
    assert_int_equal(result.method, FACET_COMPENSATE_NONE);
    facet_moments_fini(&moments);
}

// Moments of rows rounded to BF16 on threads are those of the rows, but for the rounding.
static void test_bf16(void **state)
{
    (void)state;
    layer l = layer_new(320, 300, 500, 0.6, 7);
    facet_moments whole, rounded;
    facet_pool *pool = NULL;
    assert_int_equal(facet_pool_new(2, NULL, &pool, NULL), FACET_OK);
    assert_int_equal(facet_moments_init(&whole, l.n, l.d, NULL, NULL), FACET_OK);
    assert_int_equal(facet_moments_init(&rounded, l.n, l.d, NULL, NULL), FACET_OK);
    for (uint32_t first = 0; first < 500; first += 250) {
        const facet_moments_rows rows = {250, l.z + (size_t)first * (l.n + 1),
                                         l.y + (size_t)first * l.d};
        facet_moments_add(&whole, FACET_PART_FIT, &rows);
        facet_moments_add_bf16(&rounded, FACET_PART_FIT, &rows, pool);
    }
    const size_t n = whole.n;
    const float *a = whole.c[FACET_PART_FIT], *b = rounded.c[FACET_PART_FIT];
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++)
            assert_true(fabs((double)a[i * n + j] - (double)b[i * n + j]) <=
                        4e-3 * sqrt((double)a[i * n + i] * (double)a[j * n + j]));
    const double size = sqrt(whole.wanted[FACET_PART_FIT] / whole.d);
    for (size_t i = 0; i < n * whole.d; i++)
        assert_true(
            fabs((double)whole.m[FACET_PART_FIT][i] - (double)rounded.m[FACET_PART_FIT][i]) <=
            2e-2 * size * sqrt((double)a[i / whole.d * (n + 1)]));
    assert_true(whole.wanted[FACET_PART_FIT] == rounded.wanted[FACET_PART_FIT]);
    assert_int_equal(rounded.tokens[FACET_PART_FIT], 500);
    facet_moments_fini(&whole);
    facet_moments_fini(&rounded);
    facet_pool_free(pool);
    layer_free(&l);
}

static void test_names(void **state)
{
    (void)state;
    facet_compensation c;
    assert_true(facet_compensation_find("bias", &c) && c == FACET_COMPENSATE_BIAS);
    assert_true(facet_compensation_find("refit", &c) && c == FACET_COMPENSATE_REFIT);
    assert_true(facet_compensation_find("none", &c) && c == FACET_COMPENSATE_NONE);
    assert_false(facet_compensation_find("best", &c));
}

static void test_out_of_memory(void **state)
{
    (void)state;
    layer l = layer_new(16, 8, 60, 0, 8);
    float *rows = calloc((size_t)(l.n + 1) * l.d, sizeof *rows);
    facet_status status = FACET_NO_MEMORY;
    for (long n = 1; status != FACET_OK; n++) {
        facet_failing failing;
        facet_failing_init(&failing, n);
        facet_moments moments;
        status = facet_moments_init(&moments, l.n, l.d, &failing.alloc, NULL);
        if (status == FACET_OK) {
            add(&moments, FACET_PART_FIT, &l, 0, 40);
            add(&moments, FACET_PART_JUDGE, &l, 40, 20);
            memcpy(rows, l.rows, (size_t)(l.n + 1) * l.d * sizeof *rows);
            double start = 0;
            facet_compensated result;
            status = facet_compensate_layer(&moments, FACET_COMPENSATE_REFIT, 0, &start, rows,
                                            &result, NULL);
            facet_moments_fini(&moments);
        }
        assert_true(status == FACET_OK || status == FACET_NO_MEMORY);
        assert_int_equal(failing.alive, 0);
    }
    free(rows);
    layer_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods_rank),  cmocka_unit_test(test_judges_unseen),
        cmocka_unit_test(test_never_worse),   cmocka_unit_test(test_few_tokens),
        cmocka_unit_test(test_one_token),     cmocka_unit_test(test_exact),
        cmocka_unit_test(test_damaged),       cmocka_unit_test(test_singular),
        cmocka_unit_test(test_bf16),          cmocka_unit_test(test_names),
        cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_pick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
