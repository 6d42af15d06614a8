// SPDX-License-Identifier: Apache-2.0
// --compensate tune: the rows that tuning is given are the refit's, those that it leaves are what
// is stored, channel for channel, as are the vectors, which the second walk computes with; when it
// finds nothing better no vectors are stored, and when it fails nothing is left behind.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "compiler/build_parts.h"
#include "tests/support/failing.h"
#include "tests/support/fake_build.h"

static char box[64];

// What the fake tuning does: nothing, the model's rows, those and other vectors, fail.
enum { LEAVE, ORIGINAL, VECTORS, FAIL };

typedef struct tuner {
    facet_fake_build fake; // first: the ops' context
    int what;
    uint32_t calls;
    facet_failing *failing; // counts allocations, or NULL
    long calls_before;      // allocations when tuning began
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

static float factor(uint32_t i)
{
    return 0.75f + 0.125f * (float)(i % 5);
}

static void change_vectors(const facet_model *model, facet_vectors *own)
{
    for (uint32_t layer = 0; layer < model->hp.n_layers; layer++)
        for (uint32_t role = 0; role < FACET_ROLE_COUNT; role++) {
            const facet_vector vector = facet_vectors_get(own, role, layer);
            const bool once = role < FACET_ROLE_ATTN_NORM && layer > 0;
            for (uint32_t i = 0; i < vector.n && !once; i++)
                vector.data[i] *= factor(i);
        }
}

static facet_status tune(void *ctx, const facet_model *model, facet_build_tuning *tuning,
                         facet_err *err)
{
    tuner *t = ctx;
    t->calls++;
    if (t->failing && t->calls == 1) t->calls_before = atomic_load(&t->failing->calls);
    assert_true(tuning->fit.n > 0 && tuning->judge.n > 0);
    assert_ptr_equal(tuning->judge.tokens, tuning->fit.tokens + tuning->fit.n_tokens);
    assert_in_range(tuning->passes, 1, 4);
    for (uint32_t l = 0; l < model->hp.n_layers; l++) {
        facet_build_rows *rows = &tuning->layers[l];
        assert_in_range(rows->n_kept, 1, model->hp.d_ff - 1);
        for (uint32_t i = 1; i < rows->n_kept; i++)
            assert_true(rows->kept[i] > rows->kept[i - 1]);
        if (t->what == ORIGINAL || t->what == VECTORS) write_original(model, l, rows);
    }
    if (t->what == VECTORS) change_vectors(model, tuning->own);
    if (t->what == FAIL) return facet_fail(err, FACET_INTERRUPTED, "tune: asked to fail");
    tuning->changed = t->what != LEAVE;
    tuning->loss_before = 0.5;
    tuning->loss_after = t->what == LEAVE ? 0.5 : 0.25; // left as it is: nothing gained
    tuning->tokens = 77;
    return FACET_OK;
}

// A bundle built so, in `out`.
static void build(const facet_model *model, facet_compensation compensate, int what, char out[96])
{
    tuner t = {.what = what};
    facet_build_ops ops = facet_fake_ops(&t.fake);
    ops.tune = tune;
    facet_family_set families = facet_fake_families(model, 0.5);
    const facet_build_opts opts = {.compensate = compensate};
    facet_build_result result;
    facet_err err;
    snprintf(out, 96, "%s/x.facet", box);
    if (facet_build_bundle(model, &families, &opts, &ops, out, &result, &err) != FACET_OK)
        fail_msg("%s", err.message);
    const bool tuned = compensate == FACET_COMPENSATE_TUNE;
    assert_int_equal(t.calls, tuned ? 2 : 0);
    assert_int_equal(result.families[0].tune_tokens, tuned ? 77 : 0);
    assert_true(result.families[0].loss_tuned <= result.families[0].loss_refit);
    facet_build_result_fini(&result);
    facet_family_set_fini(&families);
}

// The bytes of a file of a bundle. Caller frees.
static char *file_of(const char *bundle, const char *name, size_t *n_bytes)
{
    char path[256], *data;
    facet_err err;
    snprintf(path, sizeof path, "%s/%s", bundle, name);
    assert_int_equal(facet_file_read(path, 1 << 24, NULL, &data, n_bytes, &err), FACET_OK);
    return data;
}

// The bytes of the first family's down projections in a bundle built so, joined. Caller frees.
static char *build_down(const facet_model *model, facet_compensation compensate, int what,
                        size_t *n_bytes)
{
    char out[96];
    size_t length;
    build(model, compensate, what, out);
    facet_manifest manifest = facet_fake_manifest(out);
    const facet_manifest_family *family = &manifest.families[1];
    char *data = file_of(out, family->file, &length), *joined = calloc(1, length);
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
    facet_dir_remove(out, NULL);
    return joined;
}

// Rows of 172 hold no whole blocks, so only those of 192 are ever quantised.
static facet_model *model_or_skip(const char *arch, const char *type)
{
    const char *d_ff = strcmp(type, "F32") == 0 ? "172" : "192";
    facet_model *model = facet_fake_model_of(arch, box, type, d_ff);
    if (model) return model;
    print_message("skipped: python3 with numpy cannot make a tiny model\n");
    skip();
    return NULL;
}

// Float sources round nothing, so the stored bytes are the rows.
static void test_rows(void **state)
{
    (void)state;
    facet_model *model = model_or_skip("llama", "F32");
    size_t n[4];
    char *refit = build_down(model, FACET_COMPENSATE_REFIT, LEAVE, &n[0]);
    char *left = build_down(model, FACET_COMPENSATE_TUNE, LEAVE, &n[1]);
    char *none = build_down(model, FACET_COMPENSATE_NONE, LEAVE, &n[2]);
    char *original = build_down(model, FACET_COMPENSATE_TUNE, ORIGINAL, &n[3]);
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

// Rounded rows: the second walk calibrates on what the rounded layers below produce, and on what
// the family's vectors make of it, so the same rows are rounded otherwise with other vectors.
static void test_rounded(void **state)
{
    (void)state;
    facet_model *model = model_or_skip("llama", "Q8_0");
    size_t n[3];
    char *a = build_down(model, FACET_COMPENSATE_TUNE, ORIGINAL, &n[0]);
    char *b = build_down(model, FACET_COMPENSATE_TUNE, ORIGINAL, &n[1]);
    char *c = build_down(model, FACET_COMPENSATE_TUNE, VECTORS, &n[2]);
    assert_int_equal(n[0], n[1]);
    assert_int_equal(n[0], n[2]);
    assert_memory_equal(a, b, n[0]);
    assert_memory_not_equal(a, c, n[0]);
    free(a);
    free(b);
    free(c);
    facet_model_close(model);
}

// ---- vectors ------------------------------------------------------------------------------------

// What a bundle says of the shared vectors and of the first family's.
typedef struct opened {
    facet_manifest manifest;
    char *shared, *own;
} opened;

static opened open_built(const facet_model *model, facet_compensation compensate, int what)
{
    char out[96];
    size_t n_bytes;
    build(model, compensate, what, out);
    opened o = {.manifest = facet_fake_manifest(out)};
    o.shared = file_of(out, "weights.bin", &n_bytes);
    o.own = file_of(out, o.manifest.families[1].file, &n_bytes);
    facet_dir_remove(out, NULL);
    return o;
}

static void opened_fini(opened *o)
{
    facet_manifest_fini(&o->manifest);
    free(o->shared);
    free(o->own);
}

// The family's vector is the shared one of the same name, changed as tuning changed it. Gains of
// both are complete, whatever the source leaves out.
static void check_vector(const opened *o, const char *name, uint32_t layer)
{
    const facet_manifest_family *family = &o->manifest.families[1];
    const facet_entry *shared =
        facet_manifest_entry(o->manifest.entries, o->manifest.n_entries, layer, name);
    const facet_entry *own = facet_manifest_entry(family->entries, family->n_entries, layer, name);
    if (!shared || !own) fail_msg("layer %u has no %s", layer, name);
    assert_int_equal(own->bytes, shared->bytes);
    for (uint32_t i = 0; i < own->n_cols; i++) {
        float a, b;
        memcpy(&a, o->shared + shared->offset + i * sizeof a, sizeof a);
        memcpy(&b, o->own + own->offset + i * sizeof b, sizeof b);
        assert_true(b == a * factor(i));
    }
}

static uint32_t count_own(const opened *o)
{
    const facet_manifest_family *family = &o->manifest.families[1];
    uint32_t n = 0;
    for (uint32_t i = 0; i < family->n_entries; i++)
        n += facet_manifest_own_vector(family->entries[i].name);
    return n;
}

static void check_arch(const char *arch, const char *const *names, uint32_t n_names)
{
    facet_model *model = model_or_skip(arch, "F32");
    const uint32_t n_layers = model->hp.n_layers;
    opened tuned = open_built(model, FACET_COMPENSATE_TUNE, VECTORS);
    opened undone = open_built(model, FACET_COMPENSATE_TUNE, LEAVE);
    for (uint32_t layer = 0; layer < n_layers; layer++)
        for (uint32_t i = 0; i < n_names; i++)
            check_vector(&tuned, names[i], layer);
    check_vector(&tuned, FACET_ENTRY_OUT_NORM, n_layers);
    assert_int_equal(count_own(&tuned), n_names * n_layers + 1);
    assert_int_equal(count_own(&undone), 0);
    // They are read in place of the shared ones, and lie beside them.
    const facet_manifest_family *a = &tuned.manifest.families[1], *b = &undone.manifest.families[1];
    assert_int_equal(a->token_bytes, b->token_bytes);
    assert_int_equal(a->packed_token_bytes, b->packed_token_bytes);
    assert_true(a->extra_bytes > b->extra_bytes);
    opened_fini(&tuned);
    opened_fini(&undone);
    facet_model_close(model);
}

static void test_vectors(void **state)
{
    (void)state;
    static const char *const names[] = {
        FACET_ENTRY_ATTN_NORM, FACET_ENTRY_FFN_NORM,  FACET_ENTRY_Q_BIAS,
        FACET_ENTRY_K_BIAS,    FACET_ENTRY_V_BIAS,    FACET_ENTRY_ATTN_NORM,
        FACET_ENTRY_FFN_NORM,  FACET_ENTRY_ATTN_POST, FACET_ENTRY_FFN_POST};
    check_arch("llama", names, 2);
    check_arch("qwen2", names, 5);
    check_arch("gemma3", names + 5, 4);
}

// Allocations from the end of the first walk on, one after another.
static void test_memory(void **state)
{
    (void)state;
    enum { before = 30, after = 60 };
    facet_model *model = model_or_skip("llama", "F32");
    facet_family_set families = facet_fake_families(model, 0.5);
    char out[96];
    long begin = 0;
    snprintf(out, sizeof out, "%s/x.facet", box);
    for (long n = -1; n < before + after; n++) {
        facet_failing failing;
        facet_failing_init(&failing, n < 0 ? 0 : begin - before + n);
        tuner t = {.what = VECTORS, .failing = &failing};
        facet_build_ops ops = facet_fake_ops(&t.fake);
        ops.tune = tune;
        const facet_build_opts opts = {.compensate = FACET_COMPENSATE_TUNE,
                                       .alloc = &failing.alloc};
        facet_build_result result = {0};
        const facet_status status =
            facet_build_bundle(model, &families, &opts, &ops, out, &result, NULL);
        facet_build_result_fini(&result);
        assert_int_equal(atomic_load(&failing.alive), 0);
        assert_int_equal(status, n < 0 ? FACET_OK : FACET_NO_MEMORY);
        if (n < 0) begin = t.calls_before;
        assert_int_equal(facet_path_exists(out), n < 0);
        facet_dir_remove(out, NULL);
    }
    facet_family_set_fini(&families);
    facet_model_close(model);
}

// What fits and what judges are views of one list, answers and all.
static void test_parts(void **state)
{
    (void)state;
    uint32_t tokens[12] = {0}, lengths[] = {3, 4, 5}, answers[] = {1, 4, 2};
    const facet_samples all = {
        .tokens = tokens, .lengths = lengths, .answers = answers, .n = 3, .n_tokens = 12};
    facet_samples fit, judge;
    facet_build_samples_part(&all, 7, &fit, &judge);
    assert_int_equal(fit.n, 2);
    assert_int_equal(judge.n_tokens, 5);
    assert_ptr_equal(fit.answers, answers);
    assert_ptr_equal(judge.answers, answers + 2);
    assert_ptr_equal(judge.tokens, tokens + 7);
}

static void test_failure(void **state)
{
    (void)state;
    facet_model *model = model_or_skip("llama", "F32");
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),    cmocka_unit_test(test_rounded),
        cmocka_unit_test(test_vectors), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_parts),   cmocka_unit_test(test_failure)};
    snprintf(box, sizeof box, "/tmp/facet-test-tune.XXXXXX");
    if (!mkdtemp(box)) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    facet_dir_remove(box, NULL);
    return failed;
}
