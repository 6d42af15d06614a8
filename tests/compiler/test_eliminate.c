// SPDX-License-Identifier: Apache-2.0
// Backward elimination against the error of a refit that is solved anew for every set of channels.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "compiler/eliminate.h"
#include "tests/support/failing.h"

enum { F = 9, N = F + 1, D = 5, TOKENS = 60 };

typedef struct layer {
    float z[TOKENS * N], y[TOKENS * D], rows[N * D];
    facet_moments moments;
} layer;

// Channels that share causes and have means. `twin`: the last is the first once more.
static void layer_init(layer *l, uint64_t seed, bool twin)
{
    facet_random random = facet_random_seed(seed);
    memset(l, 0, sizeof *l);
    for (int i = 0; i < F * D; i++)
        l->rows[i] = (float)facet_random_normal(&random);
    for (int t = 0; t < TOKENS; t++) {
        float *z = l->z + t * N;
        const float cause = (float)facet_random_normal(&random);
        for (int j = 0; j < F; j++)
            z[j] = (float)(0.3 * j + facet_random_normal(&random)) + cause * (float)(j % 3);
        if (twin) z[F - 1] = z[0];
        z[F] = 1;
        for (int j = 0; j < F; j++)
            for (int r = 0; r < D; r++)
                l->y[t * D + r] += z[j] * l->rows[j * D + r];
    }
    assert_int_equal(facet_moments_init(&l->moments, F, D, NULL, NULL), FACET_OK);
    const facet_moments_rows rows = {TOKENS, l->z, l->y};
    facet_moments_add(&l->moments, FACET_PART_FIT, &rows);
}

static facet_eliminate_problem problem_of(const layer *l, uint32_t n_keep, uint32_t block)
{
    return (facet_eliminate_problem){
        .moments = &l->moments, .rows = l->rows, .n_keep = n_keep, .block = block, .ridge = 1e-3};
}

// Least squared error, the ridge's part in it, without the channels of a set: what was there moves
// from the original rows W to W + X, and the channels that are gone have X = -W.
static double refit_error(const layer *l, uint32_t gone)
{
    const float *c = l->moments.c[FACET_PART_FIT];
    double h[N][N], mean = 0, error = 0;
    for (int i = 0; i < F; i++)
        mean += (double)c[i * N + i] / F;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            h[i][j] = (double)c[i < j ? i * N + j : j * N + i];
    for (int i = 0; i < F; i++)
        h[i][i] += 1e-3 * mean;
    h[F][F] *= 1 + 1e-3;
    for (int r = 0; r < D; r++) {
        // Gauss-Seidel on h x = 0 with x fixed where a channel is gone.
        double x[N];
        for (int i = 0; i < N; i++)
            x[i] = gone >> i & 1 ? -(double)l->rows[i * D + r] : 0;
        for (int sweep = 0; sweep < 4000; sweep++)
            for (int i = 0; i < N; i++) {
                if (gone >> i & 1) continue;
                double sum = 0;
                for (int j = 0; j < N; j++)
                    sum += j == i ? 0 : h[i][j] * x[j];
                x[i] = -sum / h[i][i];
            }
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                error += x[i] * h[i][j] * x[j];
    }
    return error;
}

// One at a time: always the channel whose loss costs least, at the price that elimination names.
static void test_each_step_is_the_cheapest(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        layer l;
        layer_init(&l, seed, false);
        float worth[F];
        const facet_eliminate_problem problem = problem_of(&l, 1, 1);
        assert_int_equal(facet_eliminate(&problem, worth, NULL), FACET_OK);
        uint32_t gone = 0;
        double paid = 0, dearest = 0;
        for (int step = 0; step < F - 1; step++) {
            int best = -1;
            double least = INFINITY;
            for (int j = 0; j < F; j++) {
                if (gone >> j & 1) continue;
                const double error = refit_error(&l, gone | 1u << j);
                if (error < least) best = j;
                least = fmin(least, error);
            }
            dearest = fmax(dearest, least - paid);
            assert_true(fabs((double)worth[best] - sqrt(dearest)) < 1e-4 * sqrt(dearest));
            paid = least;
            gone |= 1u << best;
        }
        for (int j = 0; j < F; j++)
            for (int i = 0; i < F && !(gone >> j & 1); i++)
                assert_true(i == j || worth[j] > worth[i]);
        facet_moments_fini(&l.moments);
    }
}

// Of two equal channels one is to be had for next to nothing, but not both.
static void test_a_twin_goes_first(void **state)
{
    (void)state;
    layer l;
    layer_init(&l, 3, true);
    float worth[F];
    const facet_eliminate_problem problem = problem_of(&l, F - 1, 1);
    assert_int_equal(facet_eliminate(&problem, worth, NULL), FACET_OK);
    const float low = fminf(worth[0], worth[F - 1]), high = fmaxf(worth[0], worth[F - 1]);
    for (int j = 1; j < F - 1; j++)
        assert_true(low < 0.4f * worth[j]);
    assert_true(high > 2 * low);
    facet_moments_fini(&l.moments);
}

// Whatever the block, as many stay as were asked for, and those are the best.
static void test_blocks(void **state)
{
    (void)state;
    layer l;
    layer_init(&l, 5, false);
    for (uint32_t keep = 0; keep <= F; keep++)
        for (uint32_t block = 1; block <= 4; block++) {
            float worth[F];
            const facet_eliminate_problem problem = problem_of(&l, keep, block);
            assert_int_equal(facet_eliminate(&problem, worth, NULL), FACET_OK);
            uint32_t best = 0; // channels with fewer than `keep` that are not below them
            for (uint32_t j = 0; j < F; j++) {
                uint32_t rivals = 0;
                for (uint32_t i = 0; i < F; i++)
                    rivals += i != j && worth[i] >= worth[j];
                best += rivals < keep;
            }
            assert_int_equal(best, keep);
            for (uint32_t j = 0; j < F; j++)
                assert_true(isfinite(worth[j]) && worth[j] >= 0);
        }
    facet_moments_fini(&l.moments);
}

static void test_bad_moments(void **state)
{
    (void)state;
    layer l;
    layer_init(&l, 7, false);
    float worth[F];
    facet_err err;
    facet_eliminate_problem problem = problem_of(&l, 4, 2);
    problem.layer = 11;
    l.moments.c[FACET_PART_FIT][0] = -1e6f; // no sum of squares
    assert_int_equal(facet_eliminate(&problem, worth, &err), FACET_FAILED);
    assert_non_null(strstr(err.message, "layer 11"));
    l.moments.c[FACET_PART_FIT][0] = NAN;
    assert_int_equal(facet_eliminate(&problem, worth, &err), FACET_FAILED);
    assert_non_null(strstr(err.message, "layer 11"));
    facet_moments_fini(&l.moments);
}

static facet_status eliminate_with(void *ctx, const facet_alloc *alloc)
{
    layer *l = ctx;
    const facet_alloc *own = l->moments.alloc;
    float worth[F];
    const facet_eliminate_problem problem = problem_of(l, 4, 2);
    l->moments.alloc = alloc;
    const facet_status status = facet_eliminate(&problem, worth, NULL);
    l->moments.alloc = own;
    return status;
}

static void test_no_memory(void **state)
{
    (void)state;
    layer l;
    layer_init(&l, 9, false);
    facet_failing_each(eliminate_with, &l);
    facet_moments_fini(&l.moments);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_step_is_the_cheapest),
        cmocka_unit_test(test_a_twin_goes_first),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_bad_moments),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
