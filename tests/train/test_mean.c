// SPDX-License-Identifier: Apache-2.0
// The running mean against the plain recurrence: few steps count alike, many fade; what is frozen
// stays; a restart forgets even values that are not numbers; exchanging twice changes nothing; no
// memory leaves nothing behind.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "tests/support/failing.h"
#include "train/mean.h"

enum { ROWS = 37, COLS = 5, N = ROWS * COLS, STEPS = 9, HORIZON = 4 };

// A net of a trained matrix, a frozen one and a trained vector, without a model.
typedef struct world {
    float values[3][N], grad[N];
    facet_param params[3];
    facet_net net;
    facet_pool *pool;
    facet_mean *mean;
    facet_random random;
} world;

static void world_init(world *w, uint32_t n_threads)
{
    *w = (world){.random = facet_random_seed(3)};
    w->params[0] = (facet_param){.rows = ROWS, .cols = COLS, .grad = w->grad};
    w->params[1] = (facet_param){.rows = ROWS, .cols = COLS};
    w->params[2] = (facet_param){.rows = 1, .cols = COLS, .grad = w->grad};
    for (int i = 0; i < 3; i++)
        w->params[i].value = w->values[i];
    w->net = (facet_net){.n_params = 3, .params = w->params, .n_trained = N + COLS};
    assert_int_equal(facet_pool_new(n_threads, NULL, &w->pool, NULL), FACET_OK);
    assert_int_equal(facet_mean_new(&w->net, w->pool, NULL, &w->mean, NULL), FACET_OK);
}

static void world_fini(world *w)
{
    facet_mean_free(w->mean);
    facet_pool_free(w->pool);
}

static void step(world *w)
{
    for (int i = 0; i < 3; i++)
        for (size_t j = 0; j < N; j++)
            w->values[i][j] = (float)facet_random_normal(&w->random);
    facet_mean_add(w->mean, HORIZON);
}

static void test_recurrence(void **state)
{
    (void)state;
    for (uint32_t n_threads = 1; n_threads <= 3; n_threads++) {
        world w;
        double expected[3][N] = {0};
        world_init(&w, n_threads);
        for (int t = 1; t <= STEPS; t++) {
            step(&w);
            for (int i = 0; i < 3; i += 2)
                for (size_t j = 0; j < N; j++)
                    expected[i][j] +=
                        ((double)w.values[i][j] - expected[i][j]) / (t < HORIZON ? t : HORIZON);
        }
        float last[3][N];
        memcpy(last, w.values, sizeof last);
        facet_mean_swap(w.mean);
        for (size_t j = 0; j < N; j++) {
            assert_true(fabs((double)w.values[0][j] - expected[0][j]) < 1e-6);
            assert_true(w.values[1][j] == last[1][j]);
            if (j < COLS) assert_true(fabs((double)w.values[2][j] - expected[2][j]) < 1e-6);
        }
        facet_mean_swap(w.mean);
        assert_memory_equal(w.values, last, sizeof last);
        world_fini(&w);
    }
}

static void test_restart(void **state)
{
    (void)state;
    world w;
    world_init(&w, 2);
    step(&w);
    w.values[0][3] = NAN;
    facet_mean_add(w.mean, HORIZON);
    facet_mean_restart(w.mean);
    step(&w);
    float last[3][N];
    memcpy(last, w.values, sizeof last);
    facet_mean_swap(w.mean);
    assert_memory_equal(w.values, last, sizeof last);
    world_fini(&w);
}

static facet_status make(void *ctx, const facet_alloc *alloc)
{
    const world *w = ctx;
    facet_mean *mean = NULL;
    const facet_status status = facet_mean_new(&w->net, w->pool, alloc, &mean, NULL);
    if (status == FACET_OK) facet_mean_free(mean);
    return status;
}

static void test_memory(void **state)
{
    (void)state;
    world w;
    world_init(&w, 1);
    facet_failing_each(make, &w);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recurrence),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
