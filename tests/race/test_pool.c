// SPDX-License-Identifier: Apache-2.0
// The pool: every thread runs once a run, barriers order memory, for more threads than cores too.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/threads.h"

#define ROUNDS  300
#define THREADS 7

typedef struct shared {
    facet_pool *pool;
    uint32_t cells[2][THREADS];
    uint32_t bad;
} shared;

// Each round every thread reads what all wrote in the round before: a missed barrier shows at once.
static void rounds(void *ctx, uint32_t thread, uint32_t n_threads)
{
    shared *s = ctx;
    uint32_t bad = 0;
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        s->cells[round % 2][thread] = round;
        facet_pool_barrier(s->pool);
        for (uint32_t i = 0; i < n_threads; i++)
            bad += s->cells[round % 2][i] != round;
    }
    facet_pool_barrier(s->pool);
    if (thread == 0) s->bad += bad;
}

static void barriers_hold(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= THREADS; n++) {
        shared s = {0};
        assert_int_equal(facet_pool_new(n, NULL, &s.pool, NULL), FACET_OK);
        assert_int_equal(facet_pool_threads(s.pool), n);
        for (int run = 0; run < 5; run++)
            facet_pool_run(s.pool, rounds, &s);
        assert_int_equal(s.bad, 0);
        facet_pool_free(s.pool);
    }
}

static void sizes_are_checked(void **state)
{
    (void)state;
    facet_pool *pool = NULL;
    facet_err err;
    assert_int_equal(facet_pool_new(0, NULL, &pool, &err), FACET_BAD_INPUT);
    assert_int_equal(facet_pool_new(5000, NULL, &pool, &err), FACET_BAD_INPUT);
    assert_null(pool);
    facet_pool_free(NULL);
    assert_true(facet_cores() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(barriers_hold),
        cmocka_unit_test(sizes_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
