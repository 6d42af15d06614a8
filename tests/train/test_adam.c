// SPDX-License-Identifier: Apache-2.0
// AdamW against a table that adam.py makes with numpy (its path in FACET_ADAM_TABLE, set by
// adam.sh); the same bits for any number of threads; what a relative rate is a share of; the
// schedule.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "tests/support/failing.h"
#include "tests/support/memory_model.h"
#include "train/adam.h"

enum { N = 12, STEPS = 5, SETTINGS = 3, LARGE_ROWS = 301, LARGE_COLS = 700 };

// A net of one down projection and its bias, without a model.
typedef struct pair {
    facet_net net;
    facet_param params[2];
    facet_param *index[FACET_PARAM_ROLES];
    facet_pool *pool;
    facet_adam *adam;
} pair;

static void pair_init(pair *p, uint32_t rows, uint32_t cols, uint32_t n_bias)
{
    *p = (pair){0};
    p->params[0] = (facet_param){.role = FACET_ROLE_DOWN, .rows = rows, .cols = cols};
    p->params[1] = (facet_param){.role = FACET_PARAM_DOWN_BIAS, .rows = 1, .cols = n_bias};
    for (int i = 0; i < 2; i++) {
        facet_param *param = &p->params[i];
        param->value = calloc(facet_param_size(param), sizeof *param->value);
        param->grad = calloc(facet_param_size(param), sizeof *param->grad);
        p->net.n_trained += facet_param_size(param);
        p->index[param->role] = param;
    }
    p->net.n_params = 2;
    p->net.params = p->params;
    p->net.index = p->index;
}

static void adam_init(pair *p, facet_adam_opts opts, uint32_t n_threads)
{
    assert_int_equal(facet_pool_new(n_threads, NULL, &p->pool, NULL), FACET_OK);
    opts.pool = p->pool;
    assert_int_equal(facet_adam_new(&p->net, &opts, &p->adam, NULL), FACET_OK);
}

static void pair_fini(pair *p)
{
    facet_adam_free(p->adam);
    facet_pool_free(p->pool);
    for (int i = 0; i < 2; i++) {
        free(p->params[i].value);
        free(p->params[i].grad);
    }
}

static void numbers_read(FILE *file, size_t n, double *out)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(fscanf(file, "%lf", &out[i]), 1);
}

static void values_read(FILE *file, facet_real *out)
{
    double numbers[N];
    numbers_read(file, N, numbers);
    for (size_t i = 0; i < N; i++)
        out[i] = (facet_real)numbers[i];
}

static void test_against_numpy(void **state)
{
    (void)state;
    const char *path = getenv("FACET_ADAM_TABLE");
    if (!path) {
        print_message("FACET_ADAM_TABLE is not set: adam.sh runs this\n");
        skip();
        return;
    }
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    for (int i = 0; i < SETTINGS; i++) {
        double s[6], expected[2 * N];
        pair p;
        pair_init(&p, 3, N / 3, N);
        numbers_read(file, 6, s);
        values_read(file, p.params[0].value);
        values_read(file, p.params[1].value);
        adam_init(&p, (facet_adam_opts){s[0], s[1], s[2], s[3], s[4], s[5] != 0, NULL, NULL}, 2);
        for (int step = 0; step < STEPS; step++) {
            values_read(file, p.params[0].grad);
            values_read(file, p.params[1].grad);
            assert_true(facet_adam_step(p.adam, 0.02) > 0);
        }
        numbers_read(file, FACET_COUNT_OF(expected), expected);
        for (size_t j = 0; j < N; j++) {
            assert_true(fabs((double)p.params[0].value[j] - expected[j]) < 2e-6);
            assert_true(fabs((double)p.params[1].value[j] - expected[N + j]) < 2e-6);
        }
        pair_fini(&p);
    }
    fclose(file);
}

static void large_fill(pair *p, uint64_t seed, bool grads)
{
    facet_random random = facet_random_seed(seed);
    for (int i = 0; i < 2; i++)
        for (size_t j = 0; j < facet_param_size(&p->params[i]); j++) {
            const facet_real x = (facet_real)facet_random_normal(&random);
            *(grads ? &p->params[i].grad[j] : &p->params[i].value[j]) = x;
        }
}

// More numbers than one item has: the threads share them.
static void test_threads(void **state)
{
    (void)state;
    facet_adam_opts opts = FACET_ADAM_OPTS_DEFAULT;
    opts.relative = true;
    opts.decay = 0.1;
    pair p[3];
    for (uint32_t i = 0; i < 3; i++) {
        pair_init(&p[i], LARGE_ROWS, LARGE_COLS, LARGE_COLS);
        large_fill(&p[i], 1, false);
        adam_init(&p[i], opts, i + 1);
        for (uint64_t step = 0; step < 3; step++) {
            large_fill(&p[i], 2 + step, true);
            const double length = facet_adam_step(p[i].adam, 0.01);
            assert_true(fabs(length / sqrt((double)p[i].net.n_trained) - 1) < 0.01);
        }
        for (int k = 0; k < 2; k++)
            assert_memory_equal(p[i].params[k].value, p[0].params[k].value,
                                facet_param_size(&p[i].params[k]) * sizeof(facet_real));
    }
    for (uint32_t i = 0; i < 3; i++)
        pair_fini(&p[i]);
}

static void test_not_finite(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 3, 4, 4);
    adam_init(&p, FACET_ADAM_OPTS_DEFAULT, 1);
    p.params[0].value[2] = 5;
    p.params[0].grad[3] = INFINITY;
    assert_true(!isfinite(facet_adam_step(p.adam, 1)));
    assert_true(p.params[0].value[2] == 5 && p.params[0].value[3] == 0);
    p.params[0].grad[3] = 1;
    // The first step of Adam is the rate along each sign.
    assert_true(facet_adam_step(p.adam, 0.5) == 1);
    assert_true(fabs((double)p.params[0].value[3] + 0.5) < 1e-6);
    pair_fini(&p);
}

static double mean_square(const facet_net *net, uint32_t role)
{
    const facet_param *param = facet_net_param(net, role, 1);
    double sum = 0;
    for (size_t i = 0; i < facet_param_size(param); i++)
        sum += (double)param->value[i] * (double)param->value[i];
    return sum / (double)facet_param_size(param);
}

// The first step is rate * scale along each sign. A bias of q, k or v moves in proportion to the
// outputs that it is added to, however large it is itself.
static void test_scales(void **state)
{
    (void)state;
    const double d = 40, rate = 0.01;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_QWEN2, 3);
    facet_memory_model_data(model, FACET_ROLE_K_BIAS, 1)[4] = 400;
    facet_pool *pool;
    facet_net *net;
    facet_adam *adam;
    assert_int_equal(facet_pool_new(1, NULL, &pool, NULL), FACET_OK);
    const facet_net_opts net_opts = {.train = FACET_PARAM_ALL, .pool = pool};
    assert_int_equal(facet_net_new(model, &net_opts, &net, NULL), FACET_OK);
    facet_adam_opts opts = FACET_ADAM_OPTS_DEFAULT;
    opts.relative = true;
    opts.pool = pool;
    assert_int_equal(facet_adam_new(net, &opts, &adam, NULL), FACET_OK);
    const double gain = mean_square(net, FACET_ROLE_ATTN_NORM);
    const struct {
        uint32_t role;
        double square;
    } expected[] = {
        {FACET_ROLE_ATTN_NORM, gain},
        {FACET_ROLE_Q, mean_square(net, FACET_ROLE_Q)},
        {FACET_ROLE_Q_BIAS, d * gain * mean_square(net, FACET_ROLE_Q)},
        {FACET_ROLE_K_BIAS, d * gain * mean_square(net, FACET_ROLE_K)},
        {FACET_ROLE_V_BIAS, d * gain * mean_square(net, FACET_ROLE_V)},
        {FACET_ROLE_O_BIAS, mean_square(net, FACET_ROLE_O_BIAS)},
        {FACET_PARAM_DOWN_BIAS, mean_square(net, FACET_ROLE_DOWN)},
    };
    double before[FACET_COUNT_OF(expected)];
    for (size_t i = 0; i < FACET_COUNT_OF(expected); i++) {
        const facet_param *param = facet_net_param(net, expected[i].role, 1);
        param->grad[0] = 1;
        before[i] = (double)param->value[0];
    }
    assert_true(facet_adam_step(adam, rate) > 1);
    for (size_t i = 0; i < FACET_COUNT_OF(expected); i++) {
        const double moved =
            before[i] - (double)facet_net_param(net, expected[i].role, 1)->value[0];
        assert_true(fabs(moved / (rate * sqrt(expected[i].square)) - 1) < 1e-3);
    }
    facet_adam_free(adam);
    facet_net_free(net);
    facet_pool_free(pool);
    facet_memory_model_free(model);
}

static facet_status make(void *ctx, const facet_alloc *alloc)
{
    const pair *p = ctx;
    facet_adam_opts opts = FACET_ADAM_OPTS_DEFAULT;
    opts.pool = p->pool;
    opts.alloc = alloc;
    facet_adam *adam = NULL;
    const facet_status status = facet_adam_new(&p->net, &opts, &adam, NULL);
    facet_adam_free(adam);
    assert_int_equal(adam == NULL, status != FACET_OK);
    return status;
}

static void test_memory(void **state)
{
    (void)state;
    pair p;
    pair_init(&p, 3, 4, 4);
    adam_init(&p, FACET_ADAM_OPTS_DEFAULT, 1);
    facet_failing_each(make, &p);
    pair_fini(&p);
}

static void test_schedule(void **state)
{
    (void)state;
    const facet_schedule s = {.peak = 2, .floor = 0.1, .warm_up = 4, .steps = 105};
    for (uint32_t step = 0; step < 4; step++)
        assert_true(fabs(facet_schedule_rate(&s, step) - 0.5 * (step + 1)) < 1e-12);
    assert_true(facet_schedule_rate(&s, 4) == 2);
    assert_true(fabs(facet_schedule_rate(&s, 54) - 1.1) < 1e-12); // half way
    assert_true(fabs(facet_schedule_rate(&s, 104) - 0.2) < 1e-12);
    for (uint32_t step = 5; step < 105; step++)
        assert_true(facet_schedule_rate(&s, step) < facet_schedule_rate(&s, step - 1));
    const facet_schedule one = {.peak = 3, .steps = 1};
    assert_true(facet_schedule_rate(&one, 0) == 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_numpy), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_not_finite),    cmocka_unit_test(test_memory),
        cmocka_unit_test(test_scales),        cmocka_unit_test(test_schedule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
