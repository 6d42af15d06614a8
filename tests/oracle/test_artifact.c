// SPDX-License-Identifier: Apache-2.0
// Loading object code: the reference compiled into a shared object under a target's name must give
// the same bits as the built-in one; an object of another shape, ABI or family is not used.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/process.h"
#include "runtime/eval.h"
#include "runtime/isa.h"
#include "tests/support/tiny.h"

static char dir[4096];
static tiny_opts opts;
static tiny *model;

static int set_up(void **state)
{
    (void)state;
    opts = tiny_plain;
    opts.n_layers = 2;
    tiny_dir(dir, sizeof dir);
    model = tiny_new(&opts);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tiny_free(model);
    tiny_remove(dir);
    return 0;
}

// What the object claims; by default the truth about family "dense".
typedef struct claim {
    unsigned abi, tiles, d_ff;
    const char *target;
} claim;

static void write_source(const char *path, const claim *c)
{
    facet_text text;
    facet_err err;
    facet_text_init(&text, NULL);
    facet_text_puts(&text,
                    "#include \"kernels/reference.h\"\n"
                    "static facet_stage stages[2][5];\n"
                    "__attribute__((constructor)) static void fill(void)\n{\n"
                    "    for (int l = 0; l < 2; l++)\n        for (int s = 0; s < 5; s++) {\n"
                    "            stages[l][s] = facet_reference_stages[s];\n");
    facet_text_add(&text,
                   "            static const unsigned n[5] = {%u, %u, %u, %u, %u};\n"
                   "            stages[l][s].n_units = n[s];\n        }\n",
                   opts.n_heads + 2 * opts.n_kv_heads, opts.n_heads, (opts.d_model + 15) / 16,
                   c->tiles, (opts.d_model + 15) / 16);
    // Tables of another file are no constants: stages are copied at load, the head is wrapped.
    facet_text_puts(&text,
                    "}\nstatic void head_in(const facet_step *s, uint32_t l, const facet_lane *n,\n"
                    "    facet_range r) { facet_reference_head.prologue(s, l, n, r); }\n"
                    "static void head(const facet_step *s, uint32_t l, const facet_lane *n,\n"
                    "    facet_range r) { facet_reference_head.body(s, l, n, r); }\n");
    facet_text_add(&text,
                   "__attribute__((visibility(\"default"
                   "\"))) const facet_artifact facet_artifact_table = {\n"
                   "    %u, sizeof(facet_artifact), \"%s\", \"0123456789abcdef0123456789abcdef\",\n"
                   "    {%u, %u, %u, %u, %u, %u, %u, %u, %u, %u, 1e-5f, %af},\n"
                   "    (const facet_stage(*)[5])stages, {head_in, head, %u}};\n",
                   c->abi, c->target, opts.n_layers, opts.d_model, c->d_ff, opts.n_heads,
                   opts.n_kv_heads, opts.head_dim, model->n_vocab, opts.rope_dims, opts.rope_style,
                   opts.act, 0x1.6a09e6p-2, (model->n_vocab + 15) / 16);
    assert_int_equal(facet_text_status(&text, &err), FACET_OK);
    assert_int_equal(facet_file_write(path, text.data, text.length, true, &err), FACET_OK);
    facet_text_fini(&text);
}

// false when there is no compiler or no source tree.
static bool compile(const claim *c, const char *object)
{
    char source[4200], include[4200], files[6][4200];
    static const char *const names[] = {"reference", "dot", "unpack", "half", "activation"};
    const char *tree = getenv("FACET_SOURCE");
    if (!tree) return false;
    snprintf(source, sizeof source, "%s/table.c", dir);
    snprintf(include, sizeof include, "-I%s", tree);
    write_source(source, c);
    const char *argv[20] = {"cc",    "-std=c17", "-O1",  "-shared", "-fPIC",
                            include, "-o",       object, source};
    size_t n = 9;
    for (size_t i = 0; i < FACET_COUNT_OF(names); i++) {
        snprintf(files[i], sizeof files[i], "%s/kernels/%s.c", tree, names[i]);
        argv[n++] = files[i];
    }
    argv[n++] = "-lm";
    facet_text words;
    facet_process_result result = {0};
    facet_text_init(&words, NULL);
    const facet_status status = facet_process_run(argv, NULL, &words, &result, NULL);
    if (status == FACET_OK && result.exit_status != 0) fail_msg("%s", facet_text_str(&words));
    facet_text_fini(&words);
    return status == FACET_OK;
}

// Opens a bundle whose every family claims the object; returns the target in use for `family`.
static facet_bundle *open_with(const claim *c, facet_mode mode)
{
    char object[4200], path[4200];
    static int serial;
    snprintf(object, sizeof object, "%s/kernel%d.so", dir, serial);
    snprintf(path, sizeof path, "%s/tiny%d.facet", dir, serial++);
    if (!compile(c, object)) {
        print_message("skipped: no C compiler or FACET_SOURCE is not set\n");
        skip();
    }
    tiny_write(model, path, object, "x86-64-v3");
    const facet_open_opts open_opts = {.mode = mode, .n_threads = 2};
    facet_bundle *bundle = NULL;
    facet_err err;
    if (facet_open(path, &open_opts, &bundle, &err)) {
        assert_int_equal(mode, FACET_MODE_STRICT);
        assert_int_equal(err.code, FACET_REFUSED);
        return NULL;
    }
    return bundle;
}

static claim truth(void)
{
    return (claim){FACET_ABI_VERSION, model->n_tiles, opts.d_ff, "x86-64-v3"};
}

static void needs_v3(void)
{
    if (facet_isa_runs("x86-64-v3", NULL)) return;
    print_message("skipped: this CPU does not run x86-64-v3\n");
    skip();
}

static void test_runs(void **state)
{
    (void)state;
    needs_v3();
    const claim c = truth();
    facet_bundle *bundle = open_with(&c, FACET_MODE_AUTO);
    assert_string_equal(facet_bundle_target(bundle, 0), "x86-64-v3");
    assert_string_equal(facet_bundle_target(bundle, 1), "x86-64-v3"); // "all" has as many tiles
    assert_string_equal(facet_bundle_target(bundle, 2), "generic");   // "some" has not
    float baked[300], generic[300];
    const uint32_t tokens[] = {4, 50, 9, 33, 271};
    facet_session *session = NULL;
    assert_int_equal(facet_session_new(bundle, "dense", NULL, &session, NULL), FACET_OK);
    assert_int_equal(facet_session_prefill(session, tokens, 5, baked, NULL), FACET_OK);
    facet_session_free(session);
    facet_check_spec spec;
    facet_bundle_check_spec(bundle, 2, &spec);
    assert_int_equal(spec.shape.d_ff, opts.d_ff);
    assert_int_equal(spec.layers[0].n_tiles, (model->n_tiles + 1) / 2);
    assert_string_equal(facet_bundle_manifest(bundle)->families[2].name, "some");
    assert_non_null(facet_bundle_tokenizer(bundle));
    facet_close(bundle);
    char path[4200];
    snprintf(path, sizeof path, "%s/tiny0.facet", dir);
    const facet_open_opts portable = {.mode = FACET_MODE_GENERIC};
    assert_int_equal(facet_open(path, &portable, &bundle, NULL), FACET_OK);
    assert_int_equal(facet_session_new(bundle, "dense", NULL, &session, NULL), FACET_OK);
    assert_int_equal(facet_session_prefill(session, tokens, 5, generic, NULL), FACET_OK);
    assert_memory_equal(baked, generic, sizeof baked);
    facet_session_free(session);
    facet_close(bundle);
}

static void test_wrong(void **state)
{
    (void)state;
    needs_v3();
    claim wrong[4] = {truth(), truth(), truth(), truth()};
    wrong[0].abi++;
    wrong[1].d_ff++;
    wrong[2].tiles++;
    wrong[3].target = "avx512-vnni";
    for (size_t i = 0; i < FACET_COUNT_OF(wrong); i++) {
        facet_bundle *bundle = open_with(&wrong[i], FACET_MODE_AUTO);
        assert_string_equal(facet_bundle_target(bundle, 0), "generic");
        facet_close(bundle);
        assert_null(open_with(&wrong[i], FACET_MODE_STRICT));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_runs), cmocka_unit_test(test_wrong)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
