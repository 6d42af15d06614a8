// SPDX-License-Identifier: Apache-2.0
// Drawing tokens: greedy with ties, the sets that top-k and top-p allow, frequencies, seeds.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <facet.h>

#include "tests/support/tiny.h"

enum { VOCAB = 300, DRAWS = 20000 };

static char dir[4096];
static facet_bundle *bundle;
static facet_session *session;
static float logits[VOCAB];

static int set_up(void **state)
{
    (void)state;
    char path[4200];
    tiny_dir(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/tiny.facet", dir);
    tiny *t = tiny_new(&tiny_plain);
    tiny_write(t, path, NULL, NULL);
    tiny_free(t);
    const facet_open_opts generic = {.mode = FACET_MODE_GENERIC, .n_threads = 1};
    for (int i = 0; i < VOCAB; i++)
        logits[i] = -20.0f;
    logits[10] = logf(4.0f);
    logits[200] = logf(3.0f);
    logits[5] = logf(2.0f);
    logits[290] = logf(1.0f);
    return facet_open(path, &generic, &bundle, NULL) ||
           facet_session_new(bundle, "dense", NULL, &session, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    facet_session_free(session);
    facet_close(bundle);
    tiny_remove(dir);
    return 0;
}

static uint32_t draw(facet_sampler *sampler)
{
    uint32_t id = UINT32_MAX;
    assert_int_equal(facet_session_sample(session, logits, sampler, &id, NULL), FACET_OK);
    assert_in_range(id, 0, VOCAB - 1);
    return id;
}

static void count(facet_sampler sampler, uint32_t counts[VOCAB])
{
    for (int i = 0; i < VOCAB; i++)
        counts[i] = 0;
    for (int i = 0; i < DRAWS; i++)
        counts[draw(&sampler)]++;
}

static void near(uint32_t got, double share)
{
    assert_true(fabs((double)got / DRAWS - share) < 0.015);
}

static void test_greedy(void **state)
{
    (void)state;
    facet_sampler greedy = {.state = 9};
    assert_int_equal(draw(&greedy), 10);
    assert_int_equal(greedy.state, 9);
    const float kept = logits[7];
    logits[7] = logits[10];
    assert_int_equal(draw(&greedy), 7); // the lowest id of a tie
    logits[7] = kept;
}

static void test_temperature(void **state)
{
    (void)state;
    uint32_t counts[VOCAB];
    count((facet_sampler){.temperature = 1.0f, .state = 1}, counts);
    near(counts[10], 0.4);
    near(counts[200], 0.3);
    near(counts[5], 0.2);
    near(counts[290], 0.1);
    count((facet_sampler){.temperature = 0.5f, .state = 2}, counts);
    near(counts[10], 16.0 / 30);
    near(counts[290], 1.0 / 30);
}

static void test_top_k(void **state)
{
    (void)state;
    uint32_t counts[VOCAB];
    count((facet_sampler){.temperature = 1.0f, .top_k = 2, .state = 3}, counts);
    assert_int_equal(counts[10] + counts[200], DRAWS);
    near(counts[10], 4.0 / 7);
    count((facet_sampler){.temperature = 1.0f, .top_k = 1, .state = 4}, counts);
    assert_int_equal(counts[10], DRAWS);
    count((facet_sampler){.temperature = 1.0f, .top_k = 1000, .state = 5}, counts);
    near(counts[290], 0.1);
}

static void test_top_p(void **state)
{
    (void)state;
    uint32_t counts[VOCAB];
    // 0.4 alone is not enough for 0.5; the token that passes it stays.
    count((facet_sampler){.temperature = 1.0f, .top_p = 0.5f, .state = 6}, counts);
    assert_int_equal(counts[10] + counts[200], DRAWS);
    near(counts[10], 4.0 / 7);
    count((facet_sampler){.temperature = 1.0f, .top_p = 0.001f, .state = 7}, counts);
    assert_int_equal(counts[10], DRAWS);
    // Of the three that top-k leaves (4/9, 3/9, 2/9), two reach 0.7.
    count((facet_sampler){.temperature = 1.0f, .top_k = 3, .top_p = 0.7f, .state = 8}, counts);
    assert_int_equal(counts[10] + counts[200], DRAWS);
}

static void test_seed(void **state)
{
    (void)state;
    facet_sampler a = {.temperature = 1.0f, .top_k = 4, .state = 77}, b = a;
    for (int i = 0; i < 100; i++)
        assert_int_equal(draw(&a), draw(&b));
    assert_int_equal(a.state, b.state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy), cmocka_unit_test(test_temperature),
        cmocka_unit_test(test_top_k), cmocka_unit_test(test_top_p), cmocka_unit_test(test_seed)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
