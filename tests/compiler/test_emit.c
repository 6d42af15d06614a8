// SPDX-License-Identifier: Apache-2.0
// The code generator without running its code: same plan, same bytes; sources that both compilers
// take without a warning; refusals; templates whose holes are wrong; recipes; the host compiler.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/process.h"
#include "compiler/plan.h"
#include "compiler/target.h"
#include "compiler/template.h"
#include "tests/support/failing.h"
#include "tests/support/plans.h"

static char dir[4096];

static char *emit(const facet_plan *plan)
{
    facet_err err = {.message = ""};
    facet_text text;
    facet_text_init(&text, NULL);
    if (facet_emit(plan, &text, &err) != FACET_OK) fail_msg("%s", err.message);
    return facet_text_take(&text);
}

static void same_plan_same_bytes(void **state)
{
    (void)state;
    static test_plan a, b;
    test_plan_init(&a, TEST_SHAPE_PACKS, "avx512-vnni", true, 5);
    test_plan_init(&b, TEST_SHAPE_PACKS, "avx512-vnni", true, 5);
    char *x = emit(&a.plan), *y = emit(&b.plan);
    assert_string_equal(x, y);
    assert_non_null(strstr(x, "facet_artifact_table"));
    assert_null(strstr(x, "@{"));
    facet_mem_free(NULL, y);
    // Every fact of a plan reaches its digest, and the digest the source.
    const facet_digest before = facet_plan_digest(&a.plan, NULL);
    b.layers[2].window++;
    assert_string_not_equal(before.hex, facet_plan_digest(&b.plan, NULL).hex);
    b.layers[2].window--;
    const uint32_t first = b.order[4][0];
    b.order[4][0] = b.order[4][1];
    b.order[4][1] = first;
    assert_string_not_equal(before.hex, facet_plan_digest(&b.plan, NULL).hex);
    y = emit(&b.plan);
    assert_string_not_equal(x, y);
    facet_mem_free(NULL, x);
    facet_mem_free(NULL, y);
}

// Compiles nothing, but parses and types everything, with warnings as errors.
static void expect_no_warning(const char *cc, const char *target, const char *path)
{
    const char *argv[24] = {cc, "-std=c17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-O1"};
    size_t n = 7;
    for (const char *const *flag = facet_target_find(target)->flags; *flag; flag++)
        argv[n++] = *flag;
    argv[n++] = path;
    argv[n] = NULL;
    facet_text words;
    facet_text_init(&words, NULL);
    facet_process_result result;
    facet_err err;
    assert_int_equal(facet_process_run(argv, NULL, &words, &result, &err), FACET_OK);
    if (result.exit_status != 0) print_error("%s %s: %s\n", cc, target, facet_text_str(&words));
    assert_int_equal(result.exit_status, 0);
    facet_text_fini(&words);
}

static void sources_have_no_warnings(void **state)
{
    (void)state;
    static test_plan p;
    char path[4096];
    static const char *const compilers[] = {"gcc", "clang"};
    static const char *const targets[] = {"generic",   "x86-64-v3",   "avx-vnni",
                                          "x86-64-v4", "avx512-vnni", "avx512-bf16"};
    assert_int_equal(facet_path_join(path, sizeof path, dir, "w.c", NULL), FACET_OK);
    for (size_t c = 0; c < 2; c++) {
        facet_cc cc;
        if (facet_cc_find(compilers[c], &cc, NULL) != FACET_OK) continue;
        for (size_t i = 0; i < FACET_COUNT_OF(targets); i++) {
#if !defined(__x86_64__)
            if (i > 0) continue;
#endif
            test_plan_init(&p, i % 2 ? TEST_SHAPE_PACKS : TEST_SHAPE_UNEVEN, targets[i], i % 3 == 0,
                           5);
            char *source = emit(&p.plan);
            assert_int_equal(facet_file_write(path, source, strlen(source), true, NULL), FACET_OK);
            facet_mem_free(NULL, source);
            expect_no_warning(compilers[c], targets[i], path);
        }
    }
}

static void expect_refused(const test_plan *p, facet_status code)
{
    facet_err err = {.message = ""};
    facet_text text;
    facet_text_init(&text, NULL);
    assert_int_equal(facet_emit(&p->plan, &text, &err), code);
    assert_int_equal(strncmp(err.message, "plan: ", 6), 0);
    facet_text_fini(&text);
}

static void impossible_plans_are_refused(void **state)
{
    (void)state;
    static test_plan good, p;
#define FRESH (test_plan_init(&p, TEST_SHAPE_TINY, "x86-64-v3", false, 5))
    test_plan_init(&good, TEST_SHAPE_TINY, "x86-64-v3", false, 5);
    FRESH;
    p.plan.target = "z80";
    expect_refused(&p, FACET_BAD_INPUT);
    FRESH;
    p.plan.shape.n_kv_heads = 3;
    expect_refused(&p, FACET_BAD_INPUT);
    FRESH;
    p.plan.shape.rope_dims = 18;
    expect_refused(&p, FACET_BAD_INPUT);
    FRESH;
    p.plan.shape.act = 9;
    expect_refused(&p, FACET_UNSUPPORTED);
    FRESH;
    p.layers[1].q = FACET_PACK_Q4_K; // 64 columns
    expect_refused(&p, FACET_UNSUPPORTED);
    FRESH;
    p.tiles[0][1] = p.tiles[0][0];
    expect_refused(&p, FACET_BAD_INPUT);
    FRESH;
    p.layers[0].down_cols += 32;
    expect_refused(&p, FACET_BAD_INPUT);
    FRESH;
    p.layers[0].rope = 2;
    expect_refused(&p, FACET_BAD_INPUT);
#undef FRESH
}

static void bad_templates_name_the_place(void **state)
{
    (void)state;
    facet_err err;
    facet_text out;
    facet_holes holes;
    facet_arena arena;
    facet_arena_init(&arena, NULL);
    facet_holes_init(&holes, &arena);
    facet_holes_put(&holes, "a", "%d", 7);
    facet_text_init(&out, NULL);
    assert_int_equal(facet_template_fill_text("t.in", "x @{a} y\n", &holes, &out, &err), FACET_OK);
    assert_string_equal(facet_text_str(&out), "x 7 y\n");
    assert_int_equal(facet_template_fill_text("t.in", "x\n  @{b}\n", &holes, &out, &err),
                     FACET_FAILED);
    assert_non_null(strstr(err.message, "t.in:2:3: the hole 'b' has no value"));
    assert_int_equal(facet_template_fill_text("t.in", "\n\n@{a\n}", &holes, &out, &err),
                     FACET_FAILED);
    assert_non_null(strstr(err.message, "t.in:3:1: the hole does not close"));
    assert_int_equal(facet_template_fill("no.in", &holes, &out, &err), FACET_FAILED);
    facet_text_fini(&out);
    facet_arena_fini(&arena);
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    static test_plan p;
    test_plan_init(&p, TEST_SHAPE_TINY, "x86-64-v3", false, 5);
    for (long n = 1; n < 100000; n++) {
        facet_failing failing;
        facet_failing_init(&failing, n);
        facet_text text;
        facet_text_init(&text, &failing.alloc);
        facet_err err;
        const facet_status status = facet_emit(&p.plan, &text, &err);
        facet_text_fini(&text);
        assert_int_equal(failing.alive, 0);
        if (status == FACET_OK) return;
        assert_int_equal(status, FACET_NO_MEMORY);
    }
    fail_msg("it never succeeded");
}

static void recipes_are_canonical(void **state)
{
    (void)state;
    facet_cc cc;
    facet_err err;
    if (facet_cc_find("", &cc, &err) != FACET_OK) skip();
    assert_null(strchr(cc.identity, '/'));
    facet_text a, b;
    facet_text_init(&a, NULL);
    facet_text_init(&b, NULL);
    const facet_target *target = facet_target_find("avx512-vnni");
    facet_cc_recipe(&cc, target, "int x;\n", "facet plan 1\n", &a);
    assert_int_equal(strncmp(facet_text_str(&a), "facet artifact code avx512-vnni\n", 32), 0);
    assert_non_null(strstr(facet_text_str(&a), "-mavx512vnni"));
    assert_null(strchr(facet_text_str(&a), '/'));
    facet_cc_recipe(&cc, target, "int y;\n", "facet plan 1\n", &b);
    assert_string_not_equal(facet_text_str(&a), facet_text_str(&b));
    facet_text_fini(&a);
    facet_text_fini(&b);
}

static void the_compiler_is_found_or_named(void **state)
{
    (void)state;
    facet_cc cc;
    facet_err err = {.message = ""};
    assert_int_equal(facet_cc_find("no-such-compiler", &cc, &err), FACET_NO_COMPILER);
    assert_non_null(strstr(err.message, "no-such-compiler"));
    assert_int_equal(facet_cc_find("false", &cc, &err), FACET_NO_COMPILER);
    if (facet_cc_find(NULL, &cc, &err) != FACET_OK) skip();
    char path[4096];
    assert_int_equal(facet_path_join(path, sizeof path, dir, "bad.so", NULL), FACET_OK);
    assert_int_equal(facet_cc_compile(&cc, facet_target_find("generic"),
                                      "int f(void) { return x; }\n", dir, path, &err),
                     FACET_FAILED);
    assert_non_null(strstr(err.message, "error"));
    assert_non_null(strstr(err.message, "x"));
    assert_false(facet_path_exists(path));
}

static int make_dir(void **state)
{
    (void)state;
    return facet_dir_temp("/tmp", "facet-emit", dir, sizeof dir, NULL) == FACET_OK ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return facet_dir_remove(dir, NULL) == FACET_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_plan_same_bytes),
        cmocka_unit_test(sources_have_no_warnings),
        cmocka_unit_test(impossible_plans_are_refused),
        cmocka_unit_test(bad_templates_name_the_place),
        cmocka_unit_test(memory_may_run_out_anywhere),
        cmocka_unit_test(recipes_are_canonical),
        cmocka_unit_test(the_compiler_is_found_or_named),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
