// SPDX-License-Identifier: Apache-2.0
// The tile layout: planted optima must be found, whatever order the channels come in.
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
#include "compiler/layout.h"
#include "compiler/select.h"
#include "tests/support/failing.h"

static uint32_t *shuffled(uint32_t n, facet_random *random)
{
    uint32_t *order = calloc(n, sizeof *order);
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        const uint32_t j = (uint32_t)facet_random_below(random, i);
        const uint32_t swap = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swap;
    }
    return order;
}

// Everything the runtime relies on: perm is a permutation, holes only at the end, tiles ascending.
static void check_sound(const facet_layout *layout)
{
    uint8_t *seen = calloc(layout->d_ff, 1);
    for (uint32_t layer = 0; layer < layout->n_layers; layer++) {
        const uint32_t *perm = facet_layout_perm(layout, layer);
        memset(seen, 0, layout->d_ff);
        for (uint32_t i = 0; i < layout->n_tiles * 32; i++) {
            if (i >= layout->d_ff) {
                assert_int_equal(perm[i], UINT32_MAX);
                continue;
            }
            assert_true(perm[i] < layout->d_ff);
            assert_int_equal(seen[perm[i]], 0);
            seen[perm[i]] = 1;
        }
        for (uint32_t k = 0; k < layout->n_families; k++) {
            const uint32_t *tiles = facet_layout_tiles(layout, k, layer);
            for (uint32_t i = 1; i < facet_layout_kept(layout, k, layer); i++)
                assert_true(tiles[i] > tiles[i - 1]);
        }
    }
    free(seen);
}

typedef struct planted {
    uint32_t k, f, layers, keep_tiles;
    float *scores;
    uint32_t *n_keep;
} planted;

static void planted_free(planted *p)
{
    free(p->scores);
    free(p->n_keep);
}

// Families want sets of whole tiles of a hidden order; `step` tiles lie between their first tiles.
static planted plant(uint32_t k, uint32_t f, uint32_t layers, uint32_t keep_tiles, uint32_t step,
                     uint64_t seed)
{
    planted p = {k,
                 f,
                 layers,
                 keep_tiles,
                 calloc((size_t)k * layers * f, sizeof(float)),
                 calloc((size_t)k * layers, sizeof(uint32_t))};
    facet_random random = facet_random_seed(seed);
    for (uint32_t layer = 0; layer < layers; layer++) {
        uint32_t *order = shuffled(f, &random);
        for (uint32_t a = 0; a < k; a++) {
            float *scores = p.scores + ((size_t)a * layers + layer) * f;
            for (uint32_t j = 0; j < f; j++)
                scores[j] = (float)(0.1 * facet_random_unit(&random));
            for (uint32_t i = 0; i < keep_tiles * 32; i++)
                scores[order[(a * step * 32 + i) % (f / 32 * 32)]] =
                    (float)(0.5 + facet_random_unit(&random) * facet_random_unit(&random) * 4);
            p.n_keep[a * layers + layer] = keep_tiles;
        }
        free(order);
    }
    return p;
}

static void expect_recall(const planted *p, double least)
{
    const facet_layout_problem problem = {p->k, p->layers, p->f, p->scores, p->n_keep};
    facet_layout layout;
    facet_err err;
    assert_int_equal(facet_layout_build(&problem, NULL, NULL, &layout, &err), FACET_OK);
    check_sound(&layout);
    for (uint32_t k = 0; k < p->k; k++)
        assert_true(facet_layout_recall(&layout, k) >= least);
    facet_layout_fini(&layout);
}

static void test_planted_disjoint(void **state)
{
    (void)state;
    planted p = plant(4, 1536, 3, 12, 12, 1);
    expect_recall(&p, 1.0 - 1e-9);
    planted_free(&p);
}

static void test_planted_overlapping(void **state)
{
    (void)state;
    planted p = plant(4, 1536, 3, 24, 9, 2);
    expect_recall(&p, 1.0 - 1e-9);
    planted_free(&p);
    p = plant(8, 1024, 2, 16, 5, 3);
    expect_recall(&p, 1.0 - 1e-9);
    planted_free(&p);
}

static void test_planted_ragged(void **state)
{
    (void)state;
    planted p = plant(3, 1000, 2, 14, 6, 4); // 31 whole tiles and 8 channels nobody wants
    expect_recall(&p, 1.0 - 1e-9);
    planted_free(&p);
}

// Correlated scores without whole tiles, as real statistics are: far above a random order.
static void test_unplanted(void **state)
{
    (void)state;
    const uint32_t k = 4, f = 1536;
    planted p = {k, f, 1, 24, calloc((size_t)k * f, sizeof(float)), calloc(k, sizeof(uint32_t))};
    facet_random random = facet_random_seed(7);
    for (uint32_t j = 0; j < f; j++) {
        const double common = facet_random_normal(&random);
        for (uint32_t a = 0; a < k; a++) {
            const double own = facet_random_normal(&random);
            const double x = 0.8 * common + 0.6 * own;
            p.scores[(size_t)a * f + j] = (float)(x * x);
            p.n_keep[a] = 24;
        }
    }
    expect_recall(&p, 0.985);
    planted_free(&p);
}

static void test_edges(void **state)
{
    (void)state;
    float scores[3 * 40];
    for (int i = 0; i < 120; i++)
        scores[i] = (float)((i * 37) % 40);
    uint32_t keep[3] = {2, 1, 1}; // all, one, one tile of two, the last with 8 channels
    const facet_layout_problem problem = {3, 1, 40, scores, keep};
    facet_layout layout;
    facet_err err;
    assert_int_equal(facet_layout_build(&problem, NULL, NULL, &layout, &err), FACET_OK);
    check_sound(&layout);
    assert_int_equal(facet_layout_kept(&layout, 0, 0), 2);
    assert_true(facet_layout_recall(&layout, 0) > 0.999999);
    uint32_t channels[64];
    assert_int_equal(facet_layout_channels(&layout, 0, 0, channels), 40);
    assert_int_equal(channels[63], UINT32_MAX);
    facet_layout_fini(&layout);

    scores[7] = -1.0f;
    assert_int_equal(facet_layout_build(&problem, NULL, NULL, &layout, &err), FACET_BAD_INPUT);
    assert_non_null(strstr(err.message, "channel 7"));

    const facet_layout_problem none = {0, 2, 40, NULL, NULL};
    assert_int_equal(facet_layout_build(&none, NULL, NULL, &layout, &err), FACET_OK);
    for (uint32_t i = 0; i < 40; i++)
        assert_int_equal(facet_layout_perm(&layout, 1)[i], i);
    facet_layout_fini(&layout);
}

static void test_runs(void **state)
{
    (void)state;
    const uint32_t tiles[] = {0, 1, 2, 5, 7, 8};
    uint32_t runs[12];
    assert_int_equal(facet_layout_runs(tiles, 6, runs), 3);
    const uint32_t want[] = {0, 3, 5, 1, 7, 2};
    assert_memory_equal(runs, want, sizeof want);
    assert_int_equal(facet_layout_runs(tiles, 0, runs), 0);
    // Families with intervals of a common order: one run each must be found.
    planted p = plant(4, 1024, 1, 10, 6, 9);
    const facet_layout_problem problem = {p.k, p.layers, p.f, p.scores, p.n_keep};
    facet_layout layout;
    assert_int_equal(facet_layout_build(&problem, NULL, NULL, &layout, NULL), FACET_OK);
    for (uint32_t k = 0; k < 4; k++)
        assert_int_equal(facet_layout_runs(facet_layout_tiles(&layout, k, 0), 10, NULL), 1);
    facet_layout_fini(&layout);
    planted_free(&p);
}

static void test_deterministic(void **state)
{
    (void)state;
    planted p = plant(5, 640, 2, 9, 3, 11);
    const facet_layout_problem problem = {p.k, p.layers, p.f, p.scores, p.n_keep};
    facet_layout a, b;
    assert_int_equal(facet_layout_build(&problem, NULL, NULL, &a, NULL), FACET_OK);
    assert_int_equal(facet_layout_build(&problem, NULL, NULL, &b, NULL), FACET_OK);
    assert_memory_equal(a.perm, b.perm, 2 * a.n_tiles * 32 * sizeof *a.perm);
    facet_layout_fini(&a);
    facet_layout_fini(&b);
    planted_free(&p);
}

static void test_select(void **state)
{
    (void)state;
    assert_int_equal(facet_select_tiles(1536, 0.5), 24);
    assert_int_equal(facet_select_tiles(1536, 0.33), 16);
    assert_int_equal(facet_select_tiles(1536, 0.001), 1);
    assert_int_equal(facet_select_tiles(1000, 1.0), 32);
    assert_int_equal(facet_select_tiles(172, 0.5), 3);
    assert_int_equal(facet_select_channels(10, 0.3), 3);
    assert_int_equal(facet_select_channels(1536, 0.33), 506);
    const double bad[] = {0, -1, 2, (double)NAN, 1.0000001};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(facet_select_check(bad[i], NULL), FACET_BAD_INPUT);
    const float scores[] = {1, 5, 3, 5, 0, 3};
    uint32_t order[6];
    uint8_t bits[1];
    facet_select_top(scores, 6, 3, order, bits);
    assert_int_equal(bits[0], 0x0e); // 1, 3, and 2 rather than 5
}

// Every allocation fails once; nothing leaks, nothing crashes.
static void test_out_of_memory(void **state)
{
    (void)state;
    planted p = plant(2, 128, 2, 2, 1, 5);
    const facet_layout_problem problem = {p.k, p.layers, p.f, p.scores, p.n_keep};
    facet_status status = FACET_NO_MEMORY;
    for (long n = 1; status != FACET_OK; n++) {
        facet_failing failing;
        facet_failing_init(&failing, n);
        facet_layout layout = {0};
        status = facet_layout_build(&problem, &failing.alloc, NULL, &layout, NULL);
        if (status == FACET_OK)
            facet_layout_fini(&layout);
        else
            assert_int_equal(status, FACET_NO_MEMORY);
        assert_int_equal(failing.alive, 0);
    }
    planted_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planted_disjoint),
        cmocka_unit_test(test_planted_overlapping),
        cmocka_unit_test(test_planted_ragged),
        cmocka_unit_test(test_unplanted),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_select),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
