// SPDX-License-Identifier: Apache-2.0
// Whole builds of tiny models without kernels: what is published, what a failure leaves behind, and
// that the same inputs give the same bytes. The streams are the test's own: the FFNs of the model
// without attention, which is all that compensation needs.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/file.h"
#include "base/process.h"
#include "base/random.h"
#include "cache/manifest.h"
#include "compiler/build.h"
#include "compiler/family.h"
#include "tests/support/failing.h"
#include "tests/support/fake_build.h"

static char box[64];

static facet_status count_entry(void *ctx, const char *name, facet_err *err)
{
    (void)name, (void)err;
    ++*(int *)ctx;
    return FACET_OK;
}

static int entries_of_box(void)
{
    int n = 0;
    assert_int_equal(facet_dir_each(box, count_entry, &n, NULL), FACET_OK);
    return n;
}

// ---- tests --------------------------------------------------------------------------------------

// What a family's file holds; free.
static char *read_family(const char *bundle, const facet_manifest_family *family)
{
    char path[256], *data;
    size_t bytes;
    snprintf(path, sizeof path, "%s/%s", bundle, family->file);
    assert_int_equal(facet_file_read(path, 1 << 24, NULL, &data, &bytes, NULL), FACET_OK);
    assert_int_equal(bytes, family->extra_bytes);
    return data;
}

// The family's scores as they were clustered, scaled to length 1, at the place the manifest says.
static void check_scores(const char *bundle, const facet_manifest *m, uint32_t family,
                         const facet_family_set *families)
{
    const facet_manifest_family *f = &m->families[1 + family];
    char *data = read_family(bundle, f);
    for (uint32_t layer = 0; layer < families->n_layers; layer++) {
        const facet_entry *entry =
            facet_manifest_entry(f->entries, f->n_entries, layer, FACET_ENTRY_SCORES);
        assert_non_null(entry);
        const float *want =
            families->scores + ((size_t)family * families->n_layers + layer) * families->d_ff;
        double sum = 0, norm = 0;
        for (uint32_t j = 0; j < families->d_ff; j++)
            sum += (double)want[j] * (double)want[j];
        for (uint32_t j = 0; j < families->d_ff; j++) {
            float got;
            memcpy(&got, data + entry->offset + j * sizeof got, sizeof got);
            norm += (double)got * (double)got;
            assert_true(fabs((double)got - (double)want[j] / sqrt(sum)) < 1e-6);
        }
        assert_true(fabs(norm - 1) < 1e-5);
    }
    free(data);
}

static void build_one(const char *type, const char *f, double keep, facet_compensation compensate)
{
    facet_model *model = facet_fake_model(box, type, f);
    if (!model) {
        print_message("skipped: python3 with numpy cannot make a tiny model\n");
        skip();
    }
    facet_family_set families = facet_fake_families(model, keep);
    facet_fake_build state = {0};
    const facet_build_ops ops = facet_fake_ops(&state);
    facet_build_opts opts = {.compensate = compensate, .prove = true};
    char a[96], b[96];
    snprintf(a, sizeof a, "%s/a.facet", box);
    snprintf(b, sizeof b, "%s/b.facet", box);
    facet_build_result result;
    facet_err err;
    const char *const outs[] = {a, b};
    for (int i = 0; i < 2; i++) {
        if (facet_build_bundle(model, &families, &opts, &ops, outs[i], &result, &err) != FACET_OK)
            fail_msg("%s", err.message);
        assert_int_equal(result.n_families, 2);
        for (int k = 0; k < 2; k++) {
            assert_true(fabs(result.families[k].ppl_dense - exp(1)) < 1e-9);
            assert_true(fabs(result.families[k].ppl_own - exp(2)) < 1e-9);
            assert_int_equal(result.families[k].ppl_random > 0, keep < 1);
            assert_int_equal(result.families[k].held_samples, 2);
            assert_true(result.families[k].recall > 0.6);
        }
        facet_build_result_fini(&result);
    }
    assert_int_equal(state.losses, 2 * 2 * 3);
    // Files: weights, tokenizer, proof, two families. The same bytes both times.
    facet_manifest one = facet_fake_manifest(a), two = facet_fake_manifest(b);
    assert_int_equal(one.n_files, 5);
    for (uint32_t i = 0; i < one.n_files; i++)
        assert_string_equal(one.files[i].xxh3, two.files[i].xxh3);
    assert_true(one.families[1].token_bytes < one.families[0].token_bytes || keep >= 1);
    assert_true(one.families[0].token_bytes == one.model.token_bytes);
    for (uint32_t k = 0; k < 2; k++)
        check_scores(a, &one, k, &families);
    facet_manifest_fini(&one);
    facet_manifest_fini(&two);

    // An existing bundle is refused, then replaced.
    assert_int_equal(facet_build_bundle(model, &families, &opts, &ops, a, &result, &err),
                     FACET_REFUSED);
    opts.force = true;
    assert_int_equal(facet_build_bundle(model, &families, &opts, &ops, a, &result, &err), FACET_OK);
    facet_build_result_fini(&result);
    facet_dir_remove(a, NULL);
    facet_dir_remove(b, NULL);
    facet_family_set_fini(&families);
    facet_model_close(model);
}

static void test_refit(void **state)
{
    (void)state;
    build_one("Q8_0", "192", 0.5, FACET_COMPENSATE_REFIT);
}

static void test_ragged_float(void **state)
{
    (void)state;
    build_one("F32", "172", 0.4, FACET_COMPENSATE_BIAS);
}

static void test_none(void **state)
{
    (void)state;
    build_one("Q4_0", "192", 0.33, FACET_COMPENSATE_NONE);
}

// A bundle of the fakes at OUT, which must come about. Its result: free with
// facet_build_result_fini.
static facet_build_result built(const facet_model *model, const facet_family_set *families,
                                const facet_build_opts *opts, const char *out)
{
    const facet_build_ops ops = facet_fake_ops(&(facet_fake_build){0});
    facet_build_result result;
    facet_err err;
    if (facet_build_bundle(model, families, opts, &ops, out, &result, &err) != FACET_OK)
        fail_msg("%s", err.message);
    return result;
}

// Moved between layers, a family's tiles are as many as with uniform shares; a layer keeps some.
static void test_global_budget(void **state)
{
    (void)state;
    facet_model *model = facet_fake_model(box, "F32", "256");
    assert_non_null(model);
    facet_family_set families = facet_fake_families(model, 0.5);
    const facet_build_opts opts = {.budget_global = true};
    char out[96];
    snprintf(out, sizeof out, "%s/global.facet", box);
    facet_build_result result = built(model, &families, &opts, out);
    facet_manifest manifest = facet_fake_manifest(out);
    for (uint32_t k = 1; k < manifest.n_families; k++) {
        uint32_t tiles = 0;
        for (uint32_t l = 0; l < model->hp.n_layers; l++) {
            uint32_t layer = 0;
            const uint32_t *runs = facet_manifest_runs(&manifest.families[k], l);
            for (uint32_t i = 0; i < manifest.families[k].n_runs[l]; i++)
                layer += runs[2 * i + 1];
            assert_in_range(layer, 1, 8);
            tiles += layer;
        }
        assert_int_equal(tiles, 4 * model->hp.n_layers);
        const facet_build_family *family = &result.families[k - 1];
        assert_true(family->loss_uniform > 0);
        assert_true(family->loss_chosen <= family->loss_uniform);
    }
    facet_manifest_fini(&manifest);
    facet_build_result_fini(&result);
    facet_dir_remove(out, NULL);
    facet_family_set_fini(&families);
    facet_model_close(model);
}

// What is tried is told, the least loss wins, and a choice that was not asked for is not made.
static void check_choices(const facet_build_opts *opts, const facet_build_family *family)
{
    const bool target = opts->refit_target == FACET_REFIT_BEST;
    const bool select = opts->select == FACET_SELECT_BEST;
    double least = INFINITY;
    const char *best = "";
    assert_int_equal(family->n_rehearsed, (target ? 3 : 0) + (select ? target ? 1 : 2 : 0));
    for (uint32_t i = 0; i < family->n_rehearsed; i++) {
        const facet_build_rehearsed *one = &family->rehearsed[i];
        assert_true(isfinite(one->loss) && one->loss > 0);
        if (one->loss < least) best = one->name;
        least = fmin(least, one->loss);
    }
    if (select) assert_int_equal(family->eliminated, strcmp(best, "eliminate") == 0);
    if (target && !select) assert_string_equal(best, facet_refit_target_name(family->target));
    if (!target) assert_int_equal(family->target, FACET_REFIT_HALF);
    if (!select) assert_int_equal(family->eliminated, opts->select == FACET_SELECT_ELIMINATE);
}

static void test_choices(void **state)
{
    (void)state;
    facet_model *model = facet_fake_model(box, "F32", "256");
    assert_non_null(model);
    facet_family_set families = facet_fake_families(model, 0.5);
    char out[96];
    snprintf(out, sizeof out, "%s/choices.facet", box);
    for (int target = 0; target < 2; target++)
        for (int select = 0; select < FACET_SELECT_COUNT; select++) {
            const facet_build_opts opts = {.refit_target =
                                               target ? FACET_REFIT_BEST : FACET_REFIT_AUTO,
                                           .select = (facet_selection)select,
                                           .force = true};
            facet_build_result result = built(model, &families, &opts, out);
            for (uint32_t k = 0; k < result.n_families; k++)
                check_choices(&opts, &result.families[k]);
            facet_build_result_fini(&result);
            facet_dir_remove(out, NULL);
        }
    facet_family_set_fini(&families);
    facet_model_close(model);
}

// Behind a norm of the FFN's output there is one target, so none is tried.
static void test_choices_behind_a_norm(void **state)
{
    (void)state;
    facet_model *model = facet_fake_model_of("gemma3", box, "F32", "128");
    assert_non_null(model);
    facet_family_set families = facet_fake_families(model, 0.5);
    const facet_build_opts opts = {.refit_target = FACET_REFIT_BEST};
    char out[96];
    snprintf(out, sizeof out, "%s/norm.facet", box);
    facet_build_result result = built(model, &families, &opts, out);
    assert_int_equal(result.families[0].target, FACET_REFIT_LAYER);
    assert_int_equal(result.families[0].n_rehearsed, 0);
    facet_build_result_fini(&result);
    facet_dir_remove(out, NULL);
    facet_family_set_fini(&families);
    facet_model_close(model);
}

// The first family's down projections, one after another, and where each begins.
typedef struct downs {
    char *data;
    size_t at[2], bytes[2];
} downs;

static downs downs_of(const facet_model *model, const facet_family_set *families,
                      facet_refit_target target)
{
    const facet_build_opts opts = {.refit_target = target};
    char out[96];
    snprintf(out, sizeof out, "%s/downs.facet", box);
    facet_build_result result = built(model, families, &opts, out);
    assert_int_equal(result.families[0].target, target);
    facet_build_result_fini(&result);
    facet_manifest manifest = facet_fake_manifest(out);
    const facet_manifest_family *f = &manifest.families[1];
    downs read = {.data = read_family(out, f)};
    for (uint32_t layer = 0; layer < 2; layer++) {
        const facet_entry *entry =
            facet_manifest_entry(f->entries, f->n_entries, layer, FACET_ENTRY_DOWN);
        assert_non_null(entry);
        read.at[layer] = entry->offset;
        read.bytes[layer] = entry->bytes;
    }
    facet_manifest_fini(&manifest);
    facet_dir_remove(out, NULL);
    return read;
}

// Nothing lies below the first layer; above it, one shot sees dense's inputs, the others see what
// the pruned layers made of them.
static void test_oneshot(void **state)
{
    (void)state;
    facet_model *model = facet_fake_model(box, "F32", "256");
    assert_non_null(model);
    facet_family_set families = facet_fake_families(model, 0.5);
    const downs layer = downs_of(model, &families, FACET_REFIT_LAYER);
    const downs oneshot = downs_of(model, &families, FACET_REFIT_ONESHOT);
    for (int i = 0; i < 2; i++) {
        assert_true(layer.bytes[i] > 0 && layer.bytes[i] == oneshot.bytes[i]);
        assert_int_equal(
            memcmp(layer.data + layer.at[i], oneshot.data + oneshot.at[i], layer.bytes[i]) == 0,
            i == 0);
    }
    free(layer.data);
    free(oneshot.data);
    facet_family_set_fini(&families);
    facet_model_close(model);
}

static void test_everything_kept(void **state)
{
    (void)state;
    build_one("F32", "172", 1.0, FACET_COMPENSATE_REFIT);
}

static void expect_failure(const facet_model *model, const facet_family_set *families,
                           const facet_build_opts *opts, facet_fake_build *f, facet_status want)
{
    char out[96];
    facet_err err;
    facet_build_result result = {0};
    const int before = entries_of_box();
    const facet_build_ops ops = facet_fake_ops(f);
    snprintf(out, sizeof out, "%s/never.facet", box);
    assert_int_equal(facet_build_bundle(model, families, opts, &ops, out, &result, &err), want);
    assert_true(strlen(err.message) > 10);
    assert_null(strchr(err.message, '\n'));
    assert_int_equal(entries_of_box(), before); // no output, no temporary directory
    assert_null(result.families);
}

static void test_failures(void **state)
{
    (void)state;
    facet_model *model = facet_fake_model(box, "F32", "96");
    facet_model *other = facet_fake_model(box, "F32", "128");
    if (!model || !other) skip();
    facet_family_set families = facet_fake_families(model, 0.5);
    facet_fake_build f = {0};
    facet_build_opts opts = {.compensate = FACET_COMPENSATE_REFIT};
    expect_failure(other, &families, &opts, &f, FACET_MISMATCH);
    const double keeps[] = {2, -1, (double)NAN};
    for (int i = 0; i < 3; i++) {
        opts.keep = keeps[i];
        expect_failure(model, &families, &opts, &f, FACET_BAD_INPUT);
    }
    opts.keep = 0;
    const char *const targets[] = {"x86-64-v3"};
    opts.targets = targets;
    opts.n_targets = 1;
    expect_failure(model, &families, &opts, &f, FACET_NO_COMPILER);
    opts.n_targets = 0;
    for (int looks = 0; looks < 4; looks++) { // interrupted in any layer of any family
        f = (facet_fake_build){.fail = FACET_INTERRUPTED, .looks_left = looks};
        expect_failure(model, &families, &opts, &f, FACET_INTERRUPTED);
    }
    f = (facet_fake_build){0};
    families.scores[5] = NAN;
    expect_failure(model, &families, &opts, &f, FACET_BAD_INPUT);
    families.scores[5] = 0.5f;
    facet_samples samples = families.samples;
    families.samples.tokens = NULL; // masks only: nothing to calibrate on
    expect_failure(model, &families, &opts, &f, FACET_BAD_INPUT);
    families.samples = samples;
    facet_family_set_fini(&families);
    facet_model_close(model);
    facet_model_close(other);
}

static void test_dense_only(void **state)
{
    (void)state;
    facet_model *model = facet_fake_model(box, "F32", "96");
    if (!model) skip();
    const facet_build_ops ops = facet_fake_ops(&(facet_fake_build){0});
    const facet_build_opts opts = {.prove = true};
    facet_build_result result;
    char out[96];
    snprintf(out, sizeof out, "%s/dense.facet", box);
    assert_int_equal(facet_build_bundle(model, NULL, &opts, &ops, out, &result, NULL), FACET_OK);
    facet_manifest manifest = facet_fake_manifest(out);
    assert_int_equal(manifest.n_families, 1);
    assert_string_equal(manifest.families[0].name, "dense");
    facet_manifest_fini(&manifest);
    facet_build_result_fini(&result);
    facet_dir_remove(out, NULL);
    facet_model_close(model);
}

// The first allocations one by one, then in strides: a build makes thousands.
static void test_out_of_memory(void **state)
{
    (void)state;
    facet_model *model = facet_fake_model(box, "F32", "96");
    if (!model) skip();
    facet_family_set families = facet_fake_families(model, 0.5);
    const facet_build_ops ops = facet_fake_ops(&(facet_fake_build){0});
    char out[96];
    snprintf(out, sizeof out, "%s/memory.facet", box);
    facet_status status = FACET_NO_MEMORY;
    for (long n = 1; status != FACET_OK; n += n < 40 ? 1 : n / 8) {
        facet_failing failing;
        facet_failing_init(&failing, n);
        const facet_build_opts opts = {.alloc = &failing.alloc};
        facet_build_result result = {0};
        status = facet_build_bundle(model, &families, &opts, &ops, out, &result, NULL);
        facet_build_result_fini(&result);
        assert_true(status == FACET_OK || status == FACET_NO_MEMORY);
        assert_int_equal(failing.alive, 0);
        assert_int_equal(facet_path_exists(out), status == FACET_OK);
    }
    facet_dir_remove(out, NULL);
    facet_family_set_fini(&families);
    facet_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refit),        cmocka_unit_test(test_ragged_float),
        cmocka_unit_test(test_none),         cmocka_unit_test(test_global_budget),
        cmocka_unit_test(test_choices),      cmocka_unit_test(test_choices_behind_a_norm),
        cmocka_unit_test(test_oneshot),      cmocka_unit_test(test_everything_kept),
        cmocka_unit_test(test_failures),     cmocka_unit_test(test_dense_only),
        cmocka_unit_test(test_out_of_memory)};
    snprintf(box, sizeof box, "/tmp/facet-test-build.XXXXXX");
    if (!mkdtemp(box)) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    facet_dir_remove(box, NULL);
    return failed;
}
