// SPDX-License-Identifier: Apache-2.0
// Shares between layers: the total is kept, and no other shares cost less.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "compiler/budget.h"

enum { layers = 3, tiles = 8 };

// Falling curves: a scale and a steepness of its own for each layer.
static void make_costs(uint64_t seed, uint32_t n_layers, double *cost)
{
    facet_random random = facet_random_seed(seed);
    for (uint32_t l = 0; l < n_layers; l++) {
        const double scale = 0.01 + facet_random_unit(&random);
        const double steep = 1 + 5 * facet_random_unit(&random);
        for (int i = 0; i < FACET_BUDGET_POINTS; i++)
            cost[(size_t)l * FACET_BUDGET_POINTS + (size_t)i] =
                scale * exp(-steep * facet_budget_ratios[i]);
        cost[(size_t)l * FACET_BUDGET_POINTS + FACET_BUDGET_POINTS - 1] = 0;
    }
}

static double total_cost(const facet_budget_problem *problem, const uint32_t *shares)
{
    double sum = 0;
    for (uint32_t l = 0; l < problem->n_layers; l++)
        sum += facet_budget_cost(problem, l, shares[l]);
    return sum;
}

static void test_no_shares_cost_less(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        double cost[layers * FACET_BUDGET_POINTS];
        make_costs(seed, layers, cost);
        const facet_budget_problem problem = {layers, tiles, 3 + (uint32_t)seed % 21, 1, cost};
        uint32_t shares[layers], at[layers];
        assert_int_equal(facet_budget_share(&problem, NULL, shares, NULL), FACET_OK);
        assert_int_equal(shares[0] + shares[1] + shares[2], problem.total);
        double best = INFINITY;
        for (at[0] = 1; at[0] <= tiles; at[0]++)
            for (at[1] = 1; at[1] <= tiles; at[1]++)
                for (at[2] = 1; at[2] <= tiles; at[2]++)
                    if (at[0] + at[1] + at[2] == problem.total)
                        best = fmin(best, total_cost(&problem, at));
        assert_true(total_cost(&problem, shares) < best * (1 + 1e-9) + 1e-12);
    }
}

static void test_costs_are_the_measured_ones(void **state)
{
    (void)state;
    const double cost[FACET_BUDGET_POINTS] = {1, 0.5, 0.2, 0.1, 0};
    const facet_budget_problem problem = {1, 4, 1, 1, cost};
    for (uint32_t t = 0; t < 4; t++)
        assert_true(fabs(facet_budget_cost(&problem, 0, t) - cost[t]) < 1e-12);
    assert_true(facet_budget_cost(&problem, 0, 4) < 0.01);
}

static void test_equal_layers_share_equally(void **state)
{
    (void)state;
    double cost[4 * FACET_BUDGET_POINTS];
    uint32_t shares[4];
    for (int i = 0; i < 4 * FACET_BUDGET_POINTS; i++)
        cost[i] = exp(-3 * facet_budget_ratios[i % FACET_BUDGET_POINTS]);
    const facet_budget_problem problem = {4, 16, 34, 2, cost};
    assert_int_equal(facet_budget_share(&problem, NULL, shares, NULL), FACET_OK);
    for (int l = 0; l < 4; l++)
        assert_true(shares[l] == 8 || shares[l] == 9);
}

static void test_edges(void **state)
{
    (void)state;
    double cost[2 * FACET_BUDGET_POINTS] = {0}; // a layer without any damage, and one with
    uint32_t shares[2];
    for (int i = 0; i < FACET_BUDGET_POINTS; i++)
        cost[FACET_BUDGET_POINTS + i] = 1 - facet_budget_ratios[i];
    const facet_budget_problem some = {2, 8, 9, 2, cost};
    assert_int_equal(facet_budget_share(&some, NULL, shares, NULL), FACET_OK);
    assert_int_equal(shares[0], 2);
    assert_int_equal(shares[1], 7);
    const facet_budget_problem all = {2, 8, 16, 2, cost};
    assert_int_equal(facet_budget_share(&all, NULL, shares, NULL), FACET_OK);
    assert_int_equal(shares[0] + shares[1], 16);
    const facet_budget_problem least = {2, 8, 4, 2, cost};
    assert_int_equal(facet_budget_share(&least, NULL, shares, NULL), FACET_OK);
    assert_int_equal(shares[0] + shares[1], 4);
}

// A small total is kept to, whatever the floor would like.
static void test_floor(void **state)
{
    (void)state;
    const struct {
        uint32_t n_tiles, total, floor;
    } cases[] = {{152, 1824, 19}, {152, 24 * 8 + 5, 8}, {152, 24, 1}, {5, 60, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const facet_budget_problem problem = {
            .n_layers = 24, .n_tiles = cases[i].n_tiles, .total = cases[i].total};
        assert_int_equal(facet_budget_floor(&problem), cases[i].floor);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_shares_cost_less),
        cmocka_unit_test(test_costs_are_the_measured_ones),
        cmocka_unit_test(test_equal_layers_share_equally),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_floor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
