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

static char box[64];

// ---- streams ------------------------------------------------------------------------------------

typedef struct stream {
    const facet_model *model;
    const facet_samples *samples;
    float *x; // (n_tokens, d)
    uint32_t layer;
} stream;

// Which op fails, when; counts calls of stream_look.
typedef struct fake {
    facet_status fail;
    int looks_left;
    uint64_t losses;
} fake;

static facet_status stream_new(void *ctx, const facet_model *model, const facet_samples *samples,
                               void **out, facet_err *err)
{
    (void)ctx, (void)err;
    stream *s = calloc(1, sizeof *s);
    const uint32_t d = model->hp.d_model;
    *s = (stream){model, samples, calloc(samples->n_tokens * d, sizeof(float)), 0};
    for (uint64_t t = 0; t < samples->n_tokens; t++)
        facet_tensor_row(facet_model_tensor(model, FACET_ROLE_TOKEN_EMBD, 0), samples->tokens[t],
                         s->x + t * d);
    *out = s;
    return FACET_OK;
}

static void stream_free(void *ctx, void *ptr)
{
    (void)ctx;
    stream *s = ptr;
    if (!s) return;
    free(s->x);
    free(s);
}

static facet_status stream_copy(void *ctx, const void *ptr, void **out, facet_err *err)
{
    const stream *from = ptr;
    stream *s = NULL;
    FACET_TRY(stream_new(ctx, from->model, from->samples, out, err));
    s = *out;
    memcpy(s->x, from->x, s->samples->n_tokens * s->model->hp.d_model * sizeof(float));
    s->layer = from->layer;
    return FACET_OK;
}

static facet_status stream_attn(void *ctx, void *ptr, facet_err *err)
{
    (void)ctx, (void)ptr, (void)err;
    return FACET_OK;
}

static float dot_row(const facet_tensor *tensor, uint32_t row, const float *x)
{
    float weights[256], sum = 0;
    facet_tensor_row(tensor, row, weights);
    for (uint64_t i = 0; i < tensor->dims[0]; i++)
        sum += weights[i] * x[i];
    return sum;
}

static void ffn_in(const stream *s, uint64_t t, float *xn, float *z)
{
    const uint32_t d = s->model->hp.d_model;
    double sum = 1e-6;
    for (uint32_t i = 0; i < d; i++)
        sum += (double)(s->x[t * d + i] * s->x[t * d + i]) / d;
    for (uint32_t i = 0; i < d; i++)
        xn[i] = s->x[t * d + i] / (float)sqrt(sum);
    for (uint32_t j = 0; j < s->model->hp.d_ff; j++) {
        const float g = dot_row(facet_model_tensor(s->model, FACET_ROLE_GATE, s->layer), j, xn);
        const float u = dot_row(facet_model_tensor(s->model, FACET_ROLE_UP, s->layer), j, xn);
        z[j] = g / (1 + expf(-g)) * u;
    }
}

static facet_status stream_look(void *ctx, void *ptr, facet_build_tap *tap, void *tap_ctx,
                                facet_err *err)
{
    fake *f = ctx;
    const stream *s = ptr;
    const uint32_t d = s->model->hp.d_model;
    if (f->fail != FACET_OK && f->looks_left-- == 0)
        return facet_fail(err, f->fail, "stream: asked to fail");
    float xn[256], z[256], y[256];
    for (uint64_t t = 0; t < s->samples->n_tokens; t++) {
        ffn_in(s, t, xn, z);
        for (uint32_t r = 0; r < d; r++)
            y[r] = dot_row(facet_model_tensor(s->model, FACET_ROLE_DOWN, s->layer), r, z);
        const facet_build_chunk chunk = {t, 1, xn, z, y, s->x + t * d};
        FACET_TRY(tap(tap_ctx, &chunk, err));
    }
    return FACET_OK;
}

static facet_status stream_look_kept(void *ctx, void *ptr, const uint32_t *kept, uint32_t n_kept,
                                     facet_build_tap *tap, void *tap_ctx, facet_err *err)
{
    fake *f = ctx;
    const stream *s = ptr;
    if (f->fail != FACET_OK && f->looks_left-- == 0)
        return facet_fail(err, f->fail, "stream: asked to fail");
    float xn[256], z[256];
    for (uint64_t t = 0; t < s->samples->n_tokens; t++) {
        ffn_in(s, t, xn, z);
        for (uint32_t i = 0; i < n_kept; i++) {
            assert_true(i == 0 || kept[i] > kept[i - 1]);
            z[i] = z[kept[i]];
        }
        const facet_build_chunk chunk = {t, 1, xn, z, NULL, s->x + t * s->model->hp.d_model};
        FACET_TRY(tap(tap_ctx, &chunk, err));
    }
    return FACET_OK;
}

static facet_status stream_add(void *ctx, void *ptr, float *y, facet_err *err)
{
    (void)ctx, (void)err;
    stream *s = ptr;
    for (uint64_t i = 0; i < s->samples->n_tokens * s->model->hp.d_model; i++)
        s->x[i] += y[i];
    s->layer++;
    return FACET_OK;
}

static facet_status stream_ffn(void *ctx, void *ptr, facet_build_tap *tap, void *tap_ctx,
                               facet_err *err)
{
    (void)ctx;
    stream *s = ptr;
    const uint32_t d = s->model->hp.d_model;
    float xn[256], z[256], y[256];
    for (uint64_t t = 0; t < s->samples->n_tokens; t++) {
        ffn_in(s, t, xn, z);
        for (uint32_t r = 0; r < d; r++)
            y[r] = dot_row(facet_model_tensor(s->model, FACET_ROLE_DOWN, s->layer), r, z);
        const facet_build_chunk chunk = {t, 1, xn, z, y, s->x + t * d};
        if (tap) FACET_TRY(tap(tap_ctx, &chunk, err));
        for (uint32_t r = 0; r < d; r++)
            s->x[t * d + r] += y[r];
    }
    s->layer++;
    return FACET_OK;
}

static facet_status stream_custom(void *ctx, void *ptr, const facet_build_custom *custom,
                                  facet_err *err)
{
    (void)ctx, (void)err;
    stream *s = ptr;
    const uint32_t d = s->model->hp.d_model;
    float xn[256], z[256];
    for (uint32_t i = 1; i < custom->n_kept; i++)
        assert_true(custom->kept[i] > custom->kept[i - 1]);
    for (uint64_t t = 0; t < s->samples->n_tokens; t++) {
        ffn_in(s, t, xn, z);
        for (uint32_t r = 0; r < d; r++) {
            float sum = custom->bias ? custom->bias[r] : 0;
            for (uint32_t i = 0; i < custom->n_kept; i++)
                sum += z[custom->kept[i]] * custom->down[(size_t)i * d + r];
            s->x[t * d + r] += sum;
        }
    }
    s->layer++;
    return FACET_OK;
}

static const float *stream_x(void *ctx, const void *ptr)
{
    (void)ctx;
    return ((const stream *)ptr)->x;
}

static facet_status stream_nll(void *ctx, void *ptr, double *nats, uint64_t *scored, facet_err *err)
{
    (void)ctx, (void)err;
    const stream *s = ptr;
    assert_int_equal(s->layer, s->model->hp.n_layers);
    *scored = s->samples->n_tokens - s->samples->n;
    *nats = 3.0 * (double)*scored;
    return FACET_OK;
}

static facet_status no_check(void *ctx, const char *path, const facet_plan *plan, facet_err *err)
{
    (void)ctx, (void)path, (void)plan, (void)err;
    return FACET_OK;
}

// The bundle must be complete when it is measured.
static facet_status loss(void *ctx, const char *path, const char *family,
                         const facet_samples *samples, double *nats, uint64_t *scored,
                         facet_err *err)
{
    fake *f = ctx;
    char manifest[4200];
    (void)err;
    snprintf(manifest, sizeof manifest, "%s/%s", path, FACET_MANIFEST_FILE);
    assert_true(facet_path_exists(manifest));
    *scored = samples->n_tokens - samples->n;
    *nats = (strcmp(family, "dense") == 0 ? 1.0 : 2.0) * (double)*scored;
    f->losses++;
    return FACET_OK;
}

static facet_build_ops ops_of(fake *f)
{
    return (facet_build_ops){f,          stream_new,  stream_free,      stream_copy, stream_attn,
                             stream_ffn, stream_look, stream_look_kept, stream_add,  stream_custom,
                             stream_x,   stream_nll,  no_check,         loss};
}

// ---- models and families ------------------------------------------------------------------------

static facet_model *make_model(const char *type, const char *f)
{
    char script[4096], path[128];
    const char *source = getenv("FACET_SOURCE");
    snprintf(script, sizeof script, "%s/tests/support/gen_model.py", source ? source : ".");
    snprintf(path, sizeof path, "%s/%s-%s.gguf", box, type, f);
    const char *const argv[] = {"/usr/bin/python3", script, "--type", type, "--f", f,
                                "--layers",         "2",    "-o",     path, NULL};
    facet_process_result result;
    facet_err err;
    facet_model *model = NULL;
    if (facet_process_run(argv, NULL, NULL, &result, &err) != FACET_OK || result.exit_status != 0)
        return NULL;
    assert_int_equal(facet_model_open(path, NULL, &model, &err), FACET_OK);
    return model;
}

// Two tasks of ten texts; each task likes half of the channels.
static facet_family_set make_families(const facet_model *model, double keep)
{
    enum { n = 20, length = 24 };
    const facet_hparams *hp = &model->hp;
    facet_random random = facet_random_seed(17);
    facet_mask_set set = {.n = n, .n_layers = hp->n_layers, .d_ff = hp->d_ff, .keep = keep};
    char shape[80], first[] = "code", second[] = "prose", *labels[n], none[] = "";
    snprintf(shape, sizeof shape, "%s", facet_model_shape(model));
    set.shape = shape;
    set.model = none;
    set.labels = labels;
    set.scores = calloc((size_t)n * hp->n_layers * hp->d_ff, sizeof(float));
    set.samples = (facet_samples){calloc(n * length, 4), calloc(n, 4), n, n * length, NULL};
    for (uint32_t i = 0; i < n; i++) {
        labels[i] = i % 2 ? second : first;
        set.samples.lengths[i] = length;
        for (uint32_t t = 0; t < length; t++)
            set.samples.tokens[i * length + t] = (uint32_t)facet_random_below(&random, hp->n_vocab);
        for (uint32_t j = 0; j < hp->n_layers * hp->d_ff; j++)
            set.scores[(size_t)i * hp->n_layers * hp->d_ff + j] =
                (float)(facet_random_unit(&random) + (j % 3 == i % 2 ? 1 : 0));
    }
    const facet_family_opts opts = {.grouping = FACET_GROUP_LABEL};
    facet_family_set families;
    assert_int_equal(facet_family_cluster(&set, &opts, &families, NULL, NULL), FACET_OK);
    free(set.scores);
    free(set.samples.tokens);
    free(set.samples.lengths);
    return families;
}

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

static facet_manifest load_manifest(const char *bundle)
{
    char path[256], *text;
    size_t bytes;
    facet_manifest manifest;
    facet_err err;
    snprintf(path, sizeof path, "%s/manifest.json", bundle);
    assert_int_equal(facet_file_read(path, 1 << 24, NULL, &text, &bytes, &err), FACET_OK);
    if (facet_manifest_parse(text, bytes, path, NULL, &manifest, &err) != FACET_OK)
        fail_msg("%s", err.message);
    free(text);
    return manifest;
}

// ---- tests --------------------------------------------------------------------------------------

// The family's scores as they were clustered, scaled to length 1, at the place the manifest says.
static void check_scores(const char *bundle, const facet_manifest *m, uint32_t family,
                         const facet_family_set *families)
{
    const facet_manifest_family *f = &m->families[1 + family];
    char path[256], *data;
    size_t bytes;
    snprintf(path, sizeof path, "%s/%s", bundle, f->file);
    assert_int_equal(facet_file_read(path, 1 << 24, NULL, &data, &bytes, NULL), FACET_OK);
    assert_int_equal(bytes, f->extra_bytes);
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
    facet_model *model = make_model(type, f);
    if (!model) {
        print_message("skipped: python3 with numpy cannot make a tiny model\n");
        skip();
    }
    facet_family_set families = make_families(model, keep);
    fake state = {0};
    const facet_build_ops ops = ops_of(&state);
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
    facet_manifest one = load_manifest(a), two = load_manifest(b);
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

// Moved between layers, a family's tiles are as many as with uniform shares; a layer keeps some.
static void test_global_budget(void **state)
{
    (void)state;
    facet_model *model = make_model("F32", "256");
    assert_non_null(model);
    facet_family_set families = make_families(model, 0.5);
    fake f = {0};
    const facet_build_ops ops = ops_of(&f);
    const facet_build_opts opts = {.budget_global = true};
    facet_build_result result;
    facet_err err;
    char out[96];
    snprintf(out, sizeof out, "%s/global.facet", box);
    if (facet_build_bundle(model, &families, &opts, &ops, out, &result, &err) != FACET_OK)
        fail_msg("%s", err.message);
    facet_manifest manifest = load_manifest(out);
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

static void test_everything_kept(void **state)
{
    (void)state;
    build_one("F32", "172", 1.0, FACET_COMPENSATE_REFIT);
}

static void expect_failure(const facet_model *model, const facet_family_set *families,
                           const facet_build_opts *opts, fake *f, facet_status want)
{
    char out[96];
    facet_err err;
    facet_build_result result = {0};
    const int before = entries_of_box();
    const facet_build_ops ops = ops_of(f);
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
    facet_model *model = make_model("F32", "96");
    facet_model *other = make_model("F32", "128");
    if (!model || !other) skip();
    facet_family_set families = make_families(model, 0.5);
    fake f = {0};
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
        f = (fake){.fail = FACET_INTERRUPTED, .looks_left = looks};
        expect_failure(model, &families, &opts, &f, FACET_INTERRUPTED);
    }
    f = (fake){0};
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
    facet_model *model = make_model("F32", "96");
    if (!model) skip();
    fake f = {0};
    const facet_build_ops ops = ops_of(&f);
    const facet_build_opts opts = {.prove = true};
    facet_build_result result;
    char out[96];
    snprintf(out, sizeof out, "%s/dense.facet", box);
    assert_int_equal(facet_build_bundle(model, NULL, &opts, &ops, out, &result, NULL), FACET_OK);
    facet_manifest manifest = load_manifest(out);
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
    facet_model *model = make_model("F32", "96");
    if (!model) skip();
    facet_family_set families = make_families(model, 0.5);
    fake f = {0};
    const facet_build_ops ops = ops_of(&f);
    char out[96];
    snprintf(out, sizeof out, "%s/memory.facet", box);
    facet_status status = FACET_NO_MEMORY;
    for (long n = 1; status != FACET_OK; n += n < 40 ? 1 : n / 8) {
        facet_failing failing;
        facet_failing_init(&failing, n);
        const facet_build_opts opts = {.compensate = FACET_COMPENSATE_REFIT,
                                       .alloc = &failing.alloc};
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
        cmocka_unit_test(test_refit),
        cmocka_unit_test(test_ragged_float),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_global_budget),
        cmocka_unit_test(test_everything_kept),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_dense_only),
        cmocka_unit_test(test_out_of_memory),
    };
    snprintf(box, sizeof box, "/tmp/facet-test-build.XXXXXX");
    if (!mkdtemp(box)) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    facet_dir_remove(box, NULL);
    return failed;
}
