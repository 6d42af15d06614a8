// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "runtime/isa.h"

static const char *const names[] = {"x86-64-v3", "avx-vnni", "x86-64-v4", "avx512-vnni",
                                    "avx512-bf16"};
enum { N = sizeof names / sizeof *names };

static void test_order(void **state)
{
    (void)state;
    for (int i = 0; i < N; i++) {
        assert_int_equal(facet_isa_rank(names[i]), i);
        assert_true(facet_isa_known(names[i]));
    }
    assert_true(facet_isa_known("generic"));
    assert_true(facet_isa_rank("generic") < 0);
    assert_false(facet_isa_known("avx9"));
    assert_false(facet_isa_runs("avx9", NULL));
    assert_false(facet_isa_runs("generic", NULL));
}

// A limit masks what is better, and nothing else.
static void test_limits(void **state)
{
    (void)state;
    for (int limit = 0; limit < N; limit++) {
        for (int i = 0; i < N; i++) {
            const bool masked = i > limit;
            assert_int_equal(facet_isa_runs(names[i], names[limit]),
                             !masked && facet_isa_runs(names[i], NULL));
        }
        const char *best = facet_isa_best(names[limit]);
        assert_true(facet_isa_rank(best) <= limit);
        assert_true(strcmp(best, "generic") == 0 || facet_isa_runs(best, NULL));
    }
    assert_string_equal(facet_isa_best("generic"), "generic");
    const char *best = facet_isa_best(NULL);
    for (int i = facet_isa_rank(best) + 1; i < N; i++)
        assert_false(facet_isa_runs(names[i], NULL));
}

static void test_features(void **state)
{
    (void)state;
    char all[256], some[8];
    facet_cpu_name(all, sizeof all);
    if (facet_isa_runs("x86-64-v3", NULL)) assert_non_null(strstr(all, "avx2 fma"));
    facet_cpu_name(some, sizeof some);
    assert_true(strlen(some) < sizeof some);
    assert_string_equal(facet_cpu_name(some, 0), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order), cmocka_unit_test(test_limits),
                                       cmocka_unit_test(test_features)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
