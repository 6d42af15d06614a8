// SPDX-License-Identifier: Apache-2.0
// --compensate tune: the rows that tuning is given are the refit's, those that it leaves are what
// is stored, channel for channel, and when it fails nothing is left behind.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "tests/support/fake_build.h"

static char box[64];

// What the fake tuning does to the rows.
enum { LEAVE, ORIGINAL, FAIL };

typedef struct tuner {
    facet_fake_build fake; // first: the ops' context
    int what;
    uint32_t calls;
} tuner;

static void write_original(const facet_model *model, uint32_t layer, facet_build_rows *rows)
{
    const facet_tensor *down = facet_model_tensor(model, FACET_ROLE_DOWN, layer);
    const uint32_t d = model->hp.d_model;
    float source[512];
    assert_true(model->hp.d_ff <= 512);
    for (uint32_t r = 0; r < d; r++) {
        facet_tensor_row(down, r, source);
        for (uint32_t i = 0; i < rows->n_kept; i++)
            rows->down[(size_t)i * d + r] = source[rows->kept[i]];
    }
    memset(rows->bias, 0, d * sizeof *rows->bias);
}

static facet_status tune(void *ctx, const facet_model *model, facet_build_tuning *tuning,
                         facet_err *err)
{
    tuner *t = ctx;
    t->calls++;
    assert_true(tuning->fit.n > 0 && tuning->judge.n > 0);
    assert_ptr_equal(tuning->judge.tokens, tuning->fit.tokens + tuning->fit.n_tokens);
    assert_in_range(tuning->passes, 1, 4);
    for (uint32_t l = 0; l < model->hp.n_layers; l++) {
        facet_build_rows *rows = &tuning->layers[l];
        assert_in_range(rows->n_kept, 1, model->hp.d_ff - 1);
        for (uint32_t i = 1; i < rows->n_kept; i++)
            assert_true(rows->kept[i] > rows->kept[i - 1]);
        if (t->what == ORIGINAL) write_original(model, l, rows);
    }
    if (t->what == FAIL) return facet_fail(err, FACET_INTERRUPTED, "tune: asked to fail");
    tuning->kl_before = 0.5;
    tuning->kl_after = t->what == LEAVE ? 0.5 : 0.25; // left as it is: nothing gained
    tuning->tokens = 77;
    return FACET_OK;
}

// The bytes of the first family's down projections in a bundle built so, joined. Caller frees.
static char *build(const facet_model *model, facet_compensation compensate, int what,
                   size_t *n_bytes)
{
    char out[96], path[256], *data, *joined;
    size_t length;
    tuner t = {.what = what};
    facet_build_ops ops = facet_fake_ops(&t.fake);
    ops.tune = tune;
    facet_family_set families = facet_fake_families(model, 0.5);
    const facet_build_opts opts = {.compensate = compensate};
    facet_build_result result;
    facet_err err;
    snprintf(out, sizeof out, "%s/x.facet", box);
    if (facet_build_bundle(model, &families, &opts, &ops, out, &result, &err) != FACET_OK)
        fail_msg("%s", err.message);
    const bool tuned = compensate == FACET_COMPENSATE_TUNE;
    assert_int_equal(t.calls, tuned ? 2 : 0);
    assert_int_equal(result.families[0].tune_tokens, tuned ? 77 : 0);
    assert_true(result.families[0].kl_tuned <= result.families[0].kl_refit);
    facet_build_result_fini(&result);
    facet_manifest manifest = facet_fake_manifest(out);
    const facet_manifest_family *family = &manifest.families[1];
    snprintf(path, sizeof path, "%s/%s", out, family->file);
    assert_int_equal(facet_file_read(path, 1 << 24, NULL, &data, &length, &err), FACET_OK);
    joined = calloc(1, length);
    *n_bytes = 0;
    for (uint32_t i = 0; i < family->n_entries; i++) {
        const facet_entry *entry = &family->entries[i];
        if (strcmp(entry->name, FACET_ENTRY_DOWN) != 0) continue;
        memcpy(joined + *n_bytes, data + entry->offset, entry->bytes);
        *n_bytes += entry->bytes;
    }
    assert_true(*n_bytes > 0);
    free(data);
    facet_manifest_fini(&manifest);
    facet_family_set_fini(&families);
    facet_dir_remove(out, NULL);
    return joined;
}

static facet_model *model_or_skip(const char *type)
{
    facet_model *model = facet_fake_model(box, type, "172");
    if (model) return model;
    print_message("skipped: python3 with numpy cannot make a tiny model\n");
    skip();
    return NULL;
}

// Float sources round nothing, so the stored bytes are the rows.
static void test_rows(void **state)
{
    (void)state;
    facet_model *model = model_or_skip("F32");
    size_t n[4];
    char *refit = build(model, FACET_COMPENSATE_REFIT, LEAVE, &n[0]);
    char *left = build(model, FACET_COMPENSATE_TUNE, LEAVE, &n[1]);
    char *none = build(model, FACET_COMPENSATE_NONE, LEAVE, &n[2]);
    char *original = build(model, FACET_COMPENSATE_TUNE, ORIGINAL, &n[3]);
    for (int i = 1; i < 4; i++)
        assert_int_equal(n[i], n[0]);
    assert_memory_equal(left, refit, n[0]);
    assert_memory_equal(original, none, n[0]);
    assert_memory_not_equal(refit, none, n[0]);
    free(refit);
    free(left);
    free(none);
    free(original);
    facet_model_close(model);
}

// Rounded rows: the second walk calibrates on what the rounded layers below produce.
static void test_rounded(void **state)
{
    (void)state;
    facet_model *model = model_or_skip("Q8_0");
    size_t n[2];
    char *a = build(model, FACET_COMPENSATE_TUNE, ORIGINAL, &n[0]);
    char *b = build(model, FACET_COMPENSATE_TUNE, ORIGINAL, &n[1]);
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(a, b, n[0]);
    free(a);
    free(b);
    facet_model_close(model);
}

static void test_failure(void **state)
{
    (void)state;
    facet_model *model = model_or_skip("F32");
    tuner t = {.what = FAIL};
    facet_build_ops ops = facet_fake_ops(&t.fake);
    ops.tune = tune;
    facet_family_set families = facet_fake_families(model, 0.5);
    const facet_build_opts opts = {.compensate = FACET_COMPENSATE_TUNE};
    facet_build_result result = {0};
    char out[96];
    snprintf(out, sizeof out, "%s/x.facet", box);
    assert_int_equal(facet_build_bundle(model, &families, &opts, &ops, out, &result, NULL),
                     FACET_INTERRUPTED);
    assert_int_equal(t.calls, 1);
    assert_false(facet_path_exists(out));
    facet_build_result_fini(&result);
    facet_family_set_fini(&families);
    facet_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_rounded),
                                       cmocka_unit_test(test_failure)};
    snprintf(box, sizeof box, "/tmp/facet-test-tune.XXXXXX");
    if (!mkdtemp(box)) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    facet_dir_remove(box, NULL);
    return failed;
}
