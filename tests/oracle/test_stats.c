// SPDX-License-Identifier: Apache-2.0
// Channel statistics of a session against the STATS of predict/, which runs the model in float32
// with code of its own; and that neither threads nor chunks change a bit of them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "predict/predict.h"
#include "runtime/eval.h"
#include "tests/support/tiny.h"

enum { TOKENS = 90, ZERO = 299 }; // ZERO: a token whose embedding is all zero

typedef struct fixture {
    char dir[4096], path[4096 + 16];
    tiny *t;
    facet_bundle *bundle;
    uint32_t tokens[TOKENS];
    size_t n; // statistics
} fixture;

static void ok(facet_status status, const facet_err *err)
{
    if (status != FACET_OK) fail_msg("%s", err->message);
}

static void make(fixture *f, const tiny_opts *opts, bool attention)
{
    const facet_open_opts generic = {.mode = FACET_MODE_GENERIC};
    facet_err err;
    tiny_dir(f->dir, sizeof f->dir);
    snprintf(f->path, sizeof f->path, "%s/tiny.facet", f->dir);
    f->t = tiny_new(opts);
    if (opts->embed == FACET_DTYPE_F32) {
        const size_t row = f->t->embed.cols * sizeof(float);
        memset(f->t->embed.data + ZERO * row, 0, row);
    }
    for (uint32_t layer = 0; !attention && layer < opts->n_layers; layer++) {
        tiny_mat *o = &f->t->layers[layer].o;
        memset(o->data, 0, (size_t)o->rows * o->cols * sizeof(float));
    }
    tiny_write(f->t, f->path, NULL, NULL);
    ok(facet_open(f->path, &generic, &f->bundle, &err), &err);
    for (uint32_t i = 0; i < TOKENS; i++)
        f->tokens[i] = (i * i * 7 + i * 13 + 5) % ZERO;
    f->n = (size_t)opts->n_layers * opts->d_ff;
}

static void drop(fixture *f)
{
    facet_close(f->bundle);
    tiny_free(f->t);
    tiny_remove(f->dir);
}

static facet_session *session(const fixture *f, const char *family, unsigned threads,
                              const char *prefill)
{
    const facet_session_opts opts = {.n_ctx = 128, .n_threads = threads, .prefill = prefill};
    facet_session *s = NULL;
    facet_err err;
    ok(facet_session_new(f->bundle, family, &opts, &s, &err), &err);
    ok(facet_session_stats_begin(s, &err), &err);
    return s;
}

static float *take(const fixture *f, facet_session *s)
{
    float *scores = malloc(f->n * sizeof *scores);
    facet_err err;
    assert_non_null(scores);
    ok(facet_session_stats(s, scores, &err), &err);
    return scores;
}

// The largest relative error of a layer's vector of statistics.
static double distance_from_predict(bool attention)
{
    fixture f;
    make(&f, &tiny_plain, attention);
    uint32_t length = TOKENS;
    const facet_samples samples = {f.tokens, &length, 1, TOKENS, NULL, NULL};
    facet_model *model = tiny_wrap(f.t);
    float *want = malloc(f.n * sizeof *want);
    facet_err err;
    assert_non_null(want);
    ok(facet_predict(model, &samples, NULL, want, &err), &err);
    facet_session *s = session(&f, "dense", 2, NULL);
    // 65 leaves a chunk of one token, which takes the single-token path.
    ok(facet_session_prefill(s, f.tokens, 65, NULL, &err), &err);
    ok(facet_session_prefill(s, f.tokens + 65, TOKENS - 65, NULL, &err), &err);
    float *got = take(&f, s);
    double worst = 0;
    for (uint32_t layer = 0; layer < f.t->opts.n_layers; layer++) {
        const uint32_t d_ff = f.t->opts.d_ff;
        const float *a = got + (size_t)layer * d_ff, *b = want + (size_t)layer * d_ff;
        double norm = 0, error = 0, sum = 0;
        for (uint32_t j = 0; j < d_ff; j++) {
            norm += (double)b[j] * (double)b[j];
            error += pow((double)a[j] - (double)b[j], 2);
            sum += (double)a[j] * (double)a[j];
        }
        assert_true(fabs(sum - TOKENS) < 1e-3); // each token adds one
        worst = fmax(worst, sqrt(error / norm));
    }
    facet_session_free(s);
    free(got);
    free(want);
    free(model);
    drop(&f);
    return worst;
}

// With attention the runtime's cache rounds keys and values to 11 bits, which predict/ does not;
// with its output taken out nothing is left but the order of float sums.
static void test_equals_predict(void **state)
{
    (void)state;
    const double bare = distance_from_predict(false);
    const double whole = distance_from_predict(true);
    print_message("error %.2g without and %.2g with attention\n", bare, whole);
    assert_true(bare < 1e-6);
    assert_true(whole < 5e-4);
}

// The same bits for every number of threads, and for prefill, chunks and single steps.
static void test_threads_and_chunks(void **state)
{
    (void)state;
    fixture f;
    make(&f, &tiny_quantised, true);
    float *want = NULL;
    for (unsigned threads = 1; threads <= 3; threads++) {
        for (uint32_t first = 1; first <= TOKENS; first += 89) {
            facet_err err;
            facet_session *s = session(&f, "dense", threads, NULL);
            ok(facet_session_prefill(s, f.tokens, first, NULL, &err), &err);
            if (first < TOKENS)
                ok(facet_session_prefill(s, f.tokens + first, 20, NULL, &err), &err);
            for (uint32_t t = first + 20; t < TOKENS; t++)
                ok(facet_session_step(s, f.tokens[t], NULL, &err), &err);
            float *got = take(&f, s);
            facet_session_free(s);
            if (want)
                assert_memory_equal(got, want, f.n * sizeof *got);
            else
                want = malloc(f.n * sizeof *want);
            assert_non_null(want);
            memcpy(want, got, f.n * sizeof *got);
            free(got);
        }
    }
    free(want);
    drop(&f);
}

static double total(const fixture *f, facet_session *s)
{
    double sum = 0;
    float *scores = take(f, s);
    for (size_t i = 0; i < f->n; i++) {
        assert_true(isfinite(scores[i]));
        sum += (double)scores[i] * (double)scores[i];
    }
    free(scores);
    return sum;
}

// Only dense's tokens count, a token without activations adds nothing, and begin starts again.
static void test_what_counts(void **state)
{
    (void)state;
    fixture f;
    make(&f, &tiny_plain, true);
    const double layers = f.t->opts.n_layers;
    const uint32_t zero = ZERO;
    facet_err err;
    facet_session *s = session(&f, "some", 2, NULL);
    ok(facet_session_prefill(s, f.tokens, 10, NULL, &err), &err);
    assert_true(total(&f, s) <= 0);
    ok(facet_session_family(s, "dense", &err), &err);
    ok(facet_session_prefill(s, f.tokens, 10, NULL, &err), &err);
    assert_true(fabs(total(&f, s) - 10 * layers) < 1e-3);
    ok(facet_session_family(s, "one", &err), &err);
    ok(facet_session_step(s, 3, NULL, &err), &err);
    assert_true(fabs(total(&f, s) - 10 * layers) < 1e-3);
    facet_session_free(s);
    s = session(&f, "some", 2, "dense");
    ok(facet_session_prefill(s, f.tokens, 7, NULL, &err), &err);
    assert_true(fabs(total(&f, s) - 7 * layers) < 1e-3);
    ok(facet_session_stats_begin(s, &err), &err);
    assert_true(total(&f, s) <= 0);
    ok(facet_session_rewind(s, 0, &err), &err);
    ok(facet_session_prefill(s, &zero, 1, NULL, &err), &err);
    assert_true(total(&f, s) <= 0);
    facet_session_stats_end(s);
    facet_session_stats_end(s);
    float one = 0;
    assert_int_equal(facet_session_stats(s, &one, &err), FACET_BAD_INPUT);
    ok(facet_session_prefill(s, f.tokens, 7, NULL, &err), &err);
    facet_session_free(s);
    drop(&f);
}

static void test_stored_scores(void **state)
{
    (void)state;
    fixture f;
    make(&f, &tiny_plain, true);
    for (uint32_t layer = 0; layer < f.t->opts.n_layers; layer++) {
        assert_null(facet_bundle_scores(f.bundle, 0, layer));
        const float *some = facet_bundle_scores(f.bundle, 2, layer);
        assert_non_null(some);
        for (uint32_t i = 0; i < f.t->n_tiles * FACET_TILE; i++) {
            const uint32_t channel = f.t->layers[layer].perm[i];
            if (channel < f.t->opts.d_ff)
                assert_int_equal((int)some[channel], f.t->kept[2][i / FACET_TILE]);
        }
    }
    assert_null(facet_bundle_scores(f.bundle, 1, f.t->opts.n_layers));
    drop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_predict), cmocka_unit_test(test_threads_and_chunks),
        cmocka_unit_test(test_what_counts), cmocka_unit_test(test_stored_scores)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
