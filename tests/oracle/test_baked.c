// SPDX-License-Identifier: Apache-2.0
// Generated code against the scalar reference: every packing, both rope styles, masks of every
// kind, biases, norms and windows, on every target that this CPU can run and with both compilers.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "compiler/plan.h"
#include "compiler/target.h"
#include "runtime/check.h"
#include "runtime/isa.h"
#include "tests/support/plans.h"

static char dir[4096];

static facet_status compile(const char *cc_name, const char *target, const char *source, char *path,
                            size_t capacity, facet_err *err)
{
    facet_cc cc;
    FACET_TRY(facet_cc_find(cc_name, &cc, err));
    FACET_TRY(facet_path_join(path, capacity, dir, "artifact.so", err));
    return facet_cc_compile(&cc, facet_target_find(target), source, dir, path, err);
}

static facet_status check(const test_plan *p, const char *path, facet_err *err)
{
    const facet_digest digest = facet_plan_digest(&p->plan, NULL);
    const facet_check_spec spec = {.shape = p->plan.shape,
                                   .layers = p->checked,
                                   .head = p->head,
                                   .plan = digest.hex,
                                   .seed = 7};
    facet_check_result result;
    FACET_TRY(facet_check_artifact(path, &spec, NULL, &result, err));
    print_message("%s: %llu outputs, largest error %.3g of the largest output\n", result.target,
                  (unsigned long long)result.n_outputs, result.max_rel_error);
    assert_true(result.n_outputs > 1000);
    return FACET_OK;
}

// Emits, compiles (with the flags of another target, if given) and checks one plan; `patch` may
// spoil the source in between.
static facet_status prove(test_plan *p, const char *cc_name, const char *flags,
                          void (*patch)(char *), facet_err *err)
{
    facet_text source;
    facet_text_init(&source, NULL);
    char path[4096];
    facet_status status = facet_emit(&p->plan, &source, err);
    if (status == FACET_OK && patch) patch(source.data);
    if (status == FACET_OK)
        status = compile(cc_name, flags ? flags : p->plan.target, facet_text_str(&source), path,
                         sizeof path, err);
    if (status == FACET_OK) status = check(p, path, err);
    facet_text_fini(&source);
    return status;
}

static void expect_good(test_shape shape, const char *target, bool dense, const char *cc_name)
{
    assert_non_null(facet_target_find(target));
    test_plan p;
    facet_err err = {.message = ""};
    test_plan_init(&p, shape, target, dense, 11);
    const facet_status status = prove(&p, cc_name, NULL, NULL, &err);
    if (status != FACET_OK) print_error("%s %s: %s\n", target, cc_name, err.message);
    assert_int_equal(status, FACET_OK);
}

// ---- tests --------------------------------------------------------------------------------------

static void every_target_agrees_with_the_reference(void **state)
{
    (void)state;
    const char *const *names = facet_target_names();
    unsigned n = 0;
    for (; *names; names++) {
        if (!facet_isa_runs(*names, NULL)) {
            print_message("%s: not on this CPU\n", *names);
            continue;
        }
        // Odd ones dense, even ones a family. avx512-bf16 has the code of avx512-vnni.
        const bool again = strcmp(*names, "avx512-bf16") == 0;
        expect_good(again ? TEST_SHAPE_TINY : TEST_SHAPE_PACKS, *names, n % 2 == 1, "");
        n++;
    }
    if (n == 0) skip();
}

// The 256-bit dot product of avx-vnni is also an instruction of AVX-512, in another encoding: this
// runs that code where the target itself does not.
static void half_width_dot_products_agree(void **state)
{
    (void)state;
    if (!facet_isa_runs("avx512-vnni", NULL)) skip();
    static test_plan p;
    facet_err err = {.message = ""};
    test_plan_init(&p, TEST_SHAPE_PACKS, "x86-64-v3", true, 11);
    p.plan.shape.n_layers = 4;
    const facet_status status = prove(&p, "", "avx512-vnni", NULL, &err);
    if (status != FACET_OK) print_error("%s\n", err.message);
    assert_int_equal(status, FACET_OK);
}

static void clang_agrees_too(void **state)
{
    (void)state;
    facet_cc cc;
    if (facet_cc_find("clang", &cc, NULL) != FACET_OK) skip();
    if (strcmp(facet_isa_best(NULL), "generic") == 0) skip();
    expect_good(TEST_SHAPE_PACKS, facet_isa_best(NULL), true, "clang");
    expect_good(TEST_SHAPE_UNEVEN, facet_isa_best(NULL), false, "clang");
}

static void odd_shapes_agree(void **state)
{
    (void)state;
    const char *best = facet_isa_best(NULL);
    if (strcmp(best, "generic") == 0) skip();
    expect_good(TEST_SHAPE_TINY, best, true, "");
    expect_good(TEST_SHAPE_TINY, best, false, "");
    expect_good(TEST_SHAPE_UNEVEN, best, true, "");
    expect_good(TEST_SHAPE_UNEVEN, best, false, "");
    expect_good(TEST_SHAPE_TINY, "x86-64-v3", false, "");
    expect_good(TEST_SHAPE_UNEVEN, "x86-64-v3", true, "");
}

static void portable_code_agrees(void **state)
{
    (void)state;
    expect_good(TEST_SHAPE_TINY, "generic", true, "");
    expect_good(TEST_SHAPE_UNEVEN, "generic", false, "");
}

// Replaces one place of a text by another of the same length.
static void replace(char *text, const char *from, const char *to)
{
    char *at = strstr(text, from);
    assert_non_null(at);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(at, to, strlen(to));
}

static void shift_run(char *source)
{
    replace(source, "runs_1[] = {{2, 1, 0}", "runs_1[] = {{3, 1, 0}");
}
static void swap_order(char *source)
{
    char *at = strstr(source, "order_2[] = {\n    ");
    assert_non_null(at);
    at += strlen("order_2[] = {\n    ");
    // The first two numbers change places when they have the same length, else a digit changes.
    *at = *at == '1' ? '2' : '1';
}
static void wrong_offset(char *source)
{
    replace(source, "return 16;", "return 15;");
}
static void wrong_scale(char *source)
{
    replace(source, "ATTN_SCALE 0.125f", "ATTN_SCALE 0.124f");
}

static void expect_caught(void (*patch)(char *), bool dense)
{
    test_plan p;
    facet_err err = {.message = ""};
    const char *best = facet_isa_best(NULL);
    test_plan_init(&p, TEST_SHAPE_PACKS, best, dense, 11);
    p.plan.shape.n_layers = 3; // less to compile
    const facet_status status = prove(&p, "", NULL, patch, &err);
    print_message("%s\n", err.message);
    assert_int_equal(status, FACET_CHECK);
}

static void wrong_code_is_caught(void **state)
{
    (void)state;
    if (strcmp(facet_isa_best(NULL), "generic") == 0) skip();
    expect_caught(shift_run, false);
    expect_caught(swap_order, true);
    expect_caught(wrong_offset, true);
    expect_caught(wrong_scale, true);
}

static void wrong_files_are_refused(void **state)
{
    (void)state;
    test_plan p;
    facet_err err;
    char path[4096];
    test_plan_init(&p, TEST_SHAPE_TINY, facet_isa_best(NULL), true, 3);
    if (strcmp(p.plan.target, "generic") == 0) skip();
    assert_int_equal(
        compile("", p.plan.target, "int facet_artifact_other = 1;\n", path, sizeof path, &err),
        FACET_OK);
    assert_int_equal(check(&p, path, &err), FACET_BAD_FILE);
    assert_int_equal(facet_file_write(path, "not an object", 13, true, &err), FACET_OK);
    assert_int_equal(check(&p, path, &err), FACET_BAD_FILE);
    // Another plan's code: the digest tells.
    test_plan other;
    test_plan_init(&other, TEST_SHAPE_TINY, p.plan.target, false, 3);
    facet_text source;
    facet_text_init(&source, NULL);
    assert_int_equal(facet_emit(&other.plan, &source, &err), FACET_OK);
    assert_int_equal(compile("", p.plan.target, facet_text_str(&source), path, sizeof path, &err),
                     FACET_OK);
    facet_text_fini(&source);
    assert_int_equal(check(&p, path, &err), FACET_CHECK);
    assert_int_equal(check(&other, path, &err), FACET_OK);
}

static int make_dir(void **state)
{
    (void)state;
    return facet_dir_temp("/tmp", "facet-baked", dir, sizeof dir, NULL) == FACET_OK ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return facet_dir_remove(dir, NULL) == FACET_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_target_agrees_with_the_reference),
        cmocka_unit_test(half_width_dot_products_agree),
        cmocka_unit_test(clang_agrees_too),
        cmocka_unit_test(odd_shapes_agree),
        cmocka_unit_test(portable_code_agrees),
        cmocka_unit_test(wrong_code_is_caught),
        cmocka_unit_test(wrong_files_are_refused),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
