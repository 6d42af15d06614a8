// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_build.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/process.h"
#include "base/random.h"

// ---- streams ------------------------------------------------------------------------------------

typedef struct stream {
    const facet_model *model;
    const facet_samples *samples;
    float *x; // (n_tokens, d)
    uint32_t layer;
    const facet_vectors *own; // of which the gain in front of the FFN counts, the model's do not
} stream;

static facet_status stream_new(void *ctx, const facet_model *model, const facet_samples *samples,
                               void **out, facet_err *err)
{
    (void)ctx, (void)err;
    stream *s = calloc(1, sizeof *s);
    const uint32_t d = model->hp.d_model;
    *s = (stream){model, samples, calloc(samples->n_tokens * d, sizeof(float)), 0, NULL};
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

static void stream_own(void *ctx, void *ptr, const facet_vectors *own, bool answers_only)
{
    (void)ctx;
    assert_false(answers_only);
    ((stream *)ptr)->own = own;
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
    const float *gain =
        s->own ? facet_vectors_get(s->own, FACET_ROLE_FFN_NORM, s->layer).data : NULL;
    for (uint32_t i = 0; i < d; i++)
        xn[i] = s->x[t * d + i] / (float)sqrt(sum) * (gain ? gain[i] : 1);
    for (uint32_t j = 0; j < s->model->hp.d_ff; j++) {
        const float g = dot_row(facet_model_tensor(s->model, FACET_ROLE_GATE, s->layer), j, xn);
        const float u = dot_row(facet_model_tensor(s->model, FACET_ROLE_UP, s->layer), j, xn);
        z[j] = g / (1 + expf(-g)) * u;
    }
}

static facet_status stream_look(void *ctx, void *ptr, facet_build_tap *tap, void *tap_ctx,
                                facet_err *err)
{
    facet_fake_build *f = ctx;
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
    facet_fake_build *f = ctx;
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
                         const facet_samples *samples, bool dense_prompts, double *nats,
                         uint64_t *scored, facet_err *err)
{
    assert_false(dense_prompts);
    facet_fake_build *f = ctx;
    char manifest[4200];
    (void)err;
    snprintf(manifest, sizeof manifest, "%s/%s", path, FACET_MANIFEST_FILE);
    assert_true(facet_path_exists(manifest));
    *scored = samples->n_tokens - samples->n;
    *nats = (strcmp(family, "dense") == 0 ? 1.0 : 2.0) * (double)*scored;
    f->losses++;
    return FACET_OK;
}

facet_build_ops facet_fake_ops(facet_fake_build *f)
{
    return (facet_build_ops){.ctx = f,
                             .stream_new = stream_new,
                             .stream_free = stream_free,
                             .stream_copy = stream_copy,
                             .stream_own = stream_own,
                             .stream_attn = stream_attn,
                             .stream_ffn = stream_ffn,
                             .stream_look = stream_look,
                             .stream_look_kept = stream_look_kept,
                             .stream_add = stream_add,
                             .stream_custom = stream_custom,
                             .stream_x = stream_x,
                             .stream_nll = stream_nll,
                             .check = no_check,
                             .loss = loss};
}

// ---- models and families ------------------------------------------------------------------------

facet_model *facet_fake_model(const char *box, const char *type, const char *f)
{
    return facet_fake_model_of("llama", box, type, f);
}

facet_model *facet_fake_model_of(const char *arch, const char *box, const char *type, const char *f)
{
    char script[4096], path[128];
    const char *source = getenv("FACET_SOURCE");
    snprintf(script, sizeof script, "%s/tests/support/gen_model.py", source ? source : ".");
    const bool directory = strcmp(arch, "gemma3") == 0;
    const char *format = directory ? "safetensors" : "gguf";
    snprintf(path, sizeof path, "%s/%s-%s-%s.%s", box, arch, type, f, format);
    const char *const argv[] = {
        "/usr/bin/python3", script, "--arch",   arch,   "--type", type, "--f", f,
        "--layers",         "2",    "--format", format, "-o",     path, NULL};
    facet_process_result result;
    facet_err err;
    facet_model *model = NULL;
    if (facet_process_run(argv, NULL, NULL, &result, &err) != FACET_OK || result.exit_status != 0)
        return NULL;
    assert_int_equal(facet_model_open(path, NULL, &model, &err), FACET_OK);
    return model;
}

facet_family_set facet_fake_families(const facet_model *model, double keep)
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
    set.samples = (facet_samples){calloc(n * length, 4), calloc(n, 4), n, n * length, NULL, NULL};
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

// ---- bundles ----

facet_manifest facet_fake_manifest(const char *bundle)
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
