// SPDX-License-Identifier: Apache-2.0
// The runtime on tiny bundles against a forward pass that shares no code with it: every family,
// every type of weights, prefill in chunks and token by token, any number of threads.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/eval.h"
#include "tests/support/tiny.h"

enum { TOKENS = 90 };

typedef struct fixture {
    char dir[4096], path[4096 + 16];
    tiny *t;
    facet_bundle *bundle;
    uint32_t tokens[TOKENS];
} fixture;

static void ok(facet_status status, const facet_err *err)
{
    if (status != FACET_OK) fail_msg("%s", err->message);
}

static void make(fixture *f, const tiny_opts *opts)
{
    const facet_open_opts generic = {.mode = FACET_MODE_GENERIC, .n_threads = 2};
    facet_err err;
    tiny_dir(f->dir, sizeof f->dir);
    snprintf(f->path, sizeof f->path, "%s/tiny.facet", f->dir);
    f->t = tiny_new(opts);
    tiny_write(f->t, f->path, NULL, NULL);
    ok(facet_open(f->path, &generic, &f->bundle, &err), &err);
    for (uint32_t i = 0; i < TOKENS; i++)
        f->tokens[i] = (i * i * 7 + i * 13 + 5) % f->t->n_vocab;
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
    return s;
}

// Largest difference over the largest value.
static double distance(const float *a, const float *b, size_t n)
{
    double top = 0.0, worst = 0.0;
    for (size_t i = 0; i < n; i++) {
        assert_true(isfinite(a[i]));
        top = fmax(top, fabs((double)b[i]));
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    }
    return worst / top;
}

typedef struct rows {
    float *logits;
    uint32_t n_vocab;
    size_t next;
} rows;

static facet_status keep_rows(void *ctx, size_t first, uint32_t n, const float *logits,
                              facet_err *err)
{
    rows *r = ctx;
    (void)err;
    assert_int_equal(first, r->next);
    assert_in_range(n, 1, FACET_EVAL_ROWS);
    memcpy(r->logits + first * r->n_vocab, logits, (size_t)n * r->n_vocab * sizeof *logits);
    r->next += n;
    return FACET_OK;
}

static float *all_logits(const fixture *f, const char *family, unsigned threads)
{
    const uint32_t vocab = f->t->n_vocab;
    rows r = {malloc((size_t)TOKENS * vocab * sizeof(float)), vocab, 0};
    facet_err err;
    assert_non_null(r.logits);
    facet_session *s = session(f, family, threads, NULL);
    // 65 leaves a chunk of one token, which takes the single-token path.
    ok(facet_session_prefill_all(s, f->tokens, 65, keep_rows, &r, &err), &err);
    rows rest = {r.logits + (size_t)65 * vocab, vocab, 0};
    ok(facet_session_prefill_all(s, f->tokens + 65, TOKENS - 65, keep_rows, &rest, &err), &err);
    assert_int_equal(facet_session_length(s), TOKENS);
    facet_session_free(s);
    return r.logits;
}

static void check_model(const tiny_opts *opts)
{
    fixture f;
    make(&f, opts);
    const uint32_t vocab = f.t->n_vocab;
    float *want = malloc((size_t)TOKENS * vocab * sizeof *want);
    assert_non_null(want);
    for (uint32_t family = 0; family < TINY_FAMILIES; family++) {
        const char *name = tiny_family_names[family];
        assert_string_equal(facet_family_name(f.bundle, family), name);
        tiny_forward(f.t, family, family, 0, f.tokens, TOKENS, want);
        float *got = all_logits(&f, name, 2);
        // A value at the edge between two rounding steps may fall to either side, and every later
        // position sees it through the cache: rows are equal to the last places of a float or to
        // some steps of the rounding, and some are the former.
        double least = 1.0;
        for (uint32_t t = 0; t < TOKENS; t++) {
            const double d = distance(got + (size_t)t * vocab, want + (size_t)t * vocab, vocab);
            if (d > 4e-2) fail_msg("family %s, token %u: %g", name, t, d);
            least = fmin(least, d);
        }
        assert_true(least < 1e-5);
        free(got);
    }
    free(want);
    drop(&f);
}

static void test_plain(void **state)
{
    (void)state;
    fixture f;
    make(&f, &tiny_plain);
    const size_t n = (size_t)TOKENS * f.t->n_vocab;
    float *want = malloc(n * sizeof *want);
    assert_non_null(want);
    for (uint32_t family = 0; family < TINY_FAMILIES; family++) {
        tiny_forward(f.t, family, family, 0, f.tokens, TOKENS, want);
        float *got = all_logits(&f, tiny_family_names[family], 2);
        assert_true(distance(got, want, n) < 1e-4);
        free(got);
    }
    free(want);
    drop(&f);
}

static void test_quantised(void **state)
{
    (void)state;
    check_model(&tiny_quantised);
}

// Each type takes a turn in each place.
static void test_every_type(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < FACET_DTYPE_COUNT; i++) {
        tiny_opts opts = tiny_quantised;
        opts.seed = 10 + i;
        opts.n_layers = 2;
        opts.attn = (facet_dtype)i;
        opts.gate = (facet_dtype)((i + 1) % FACET_DTYPE_COUNT);
        opts.up = (facet_dtype)((i + 2) % FACET_DTYPE_COUNT);
        opts.down = (facet_dtype)((i + 3) % FACET_DTYPE_COUNT);
        opts.embed = (facet_dtype)((i + 4) % FACET_DTYPE_COUNT);
        opts.separate_head = i % 2;
        opts.biases = i % 3 == 0;
        opts.head_norms = i % 3 == 1;
        opts.post_norms = i % 3 == 2;
        opts.permuted = i % 4 != 0;
        opts.family_down = i % 2 ? FACET_PACK_Q8_0 : FACET_PACK_Q6_0;
        opts.rope_style = i % 3;
        check_model(&opts);
    }
}

// The same bits for every number of threads, and for prefill and single steps.
static void test_threads_and_steps(void **state)
{
    (void)state;
    fixture f;
    make(&f, &tiny_quantised);
    static const unsigned threads[] = {2, 3, 5};
    const size_t bytes = (size_t)TOKENS * f.t->n_vocab * sizeof(float);
    float *one = all_logits(&f, "some", 1), *row = malloc(f.t->n_vocab * sizeof *row);
    assert_non_null(row);
    for (size_t i = 0; i < FACET_COUNT_OF(threads); i++) {
        float *more = all_logits(&f, "some", threads[i]);
        assert_memory_equal(one, more, bytes);
        free(more);
        facet_err err;
        facet_session *s = session(&f, "some", threads[i], NULL);
        for (uint32_t t = 0; t < 20; t++) {
            ok(facet_session_step(s, f.tokens[t], row, &err), &err);
            assert_memory_equal(row, one + (size_t)t * f.t->n_vocab, f.t->n_vocab * sizeof *row);
        }
        ok(facet_session_prefill(s, f.tokens + 20, 70, row, &err), &err);
        assert_memory_equal(row, one + (size_t)89 * f.t->n_vocab, f.t->n_vocab * sizeof *row);
        facet_session_free(s);
    }
    free(row);
    free(one);
    drop(&f);
}

static void test_prefill_dense(void **state)
{
    (void)state;
    fixture f;
    make(&f, &tiny_plain);
    float *want = malloc((size_t)40 * f.t->n_vocab * sizeof *want);
    float *row = malloc(f.t->n_vocab * sizeof *row);
    facet_err err;
    assert_non_null(want);
    assert_non_null(row);
    tiny_forward(f.t, 3, 0, 30, f.tokens, 40, want);
    facet_session *s = session(&f, "one", 2, "dense");
    ok(facet_session_prefill(s, f.tokens, 30, row, &err), &err);
    assert_true(distance(row, want + (size_t)29 * f.t->n_vocab, f.t->n_vocab) < 1e-4);
    for (uint32_t t = 30; t < 40; t++) {
        ok(facet_session_step(s, f.tokens[t], row, &err), &err);
        assert_true(distance(row, want + (size_t)t * f.t->n_vocab, f.t->n_vocab) < 1e-4);
    }
    facet_session_free(s);
    free(row);
    free(want);
    drop(&f);
}

// The family that keeps everything, with dense's own values, writes dense's tokens.
static void test_keep_all(void **state)
{
    (void)state;
    fixture f;
    make(&f, &tiny_plain);
    facet_sampler greedy = {0};
    facet_err err;
    facet_session *dense = session(&f, "dense", 2, NULL), *all = session(&f, "all", 3, NULL);
    uint32_t a = 7, b = 7;
    for (uint32_t i = 0; i < 100; i++) {
        ok(facet_session_next(dense, a, &greedy, &a, &err), &err);
        ok(facet_session_next(all, b, &greedy, &b, &err), &err);
        assert_int_equal(a, b);
    }
    facet_session_free(dense);
    facet_session_free(all);
    drop(&f);
}

static void test_switch_and_rewind(void **state)
{
    (void)state;
    fixture f;
    make(&f, &tiny_plain);
    const uint32_t vocab = f.t->n_vocab;
    float *row = malloc(2 * vocab * sizeof *row), *again = row + vocab;
    facet_err err;
    assert_non_null(row);
    facet_session *s = session(&f, "some", 2, NULL);
    ok(facet_session_prefill(s, f.tokens, 10, NULL, &err), &err);
    ok(facet_session_step(s, 3, row, &err), &err);
    ok(facet_session_family(s, "one", &err), &err);
    ok(facet_session_step(s, 4, again, &err), &err);
    ok(facet_session_rewind(s, 10, &err), &err);
    ok(facet_session_family(s, "some", &err), &err);
    ok(facet_session_step(s, 3, again, &err), &err);
    assert_memory_equal(row, again, vocab * sizeof *row);
    assert_int_equal(facet_session_family(s, "none", &err), FACET_NOT_FOUND);
    assert_int_equal(facet_session_rewind(s, 12, &err), FACET_BAD_INPUT);
    assert_int_equal(facet_session_length(s), 11);
    facet_session_free(s);
    free(row);
    drop(&f);
}

static void test_bad_input(void **state)
{
    (void)state;
    fixture f;
    make(&f, &tiny_plain);
    facet_err err;
    facet_session *s = session(&f, "dense", 1, NULL);
    uint32_t many[129] = {0};
    assert_int_equal(facet_session_prefill(s, many, 129, NULL, &err), FACET_BAD_INPUT);
    assert_non_null(strstr(err.message, "context"));
    many[100] = 300;
    assert_int_equal(facet_session_prefill(s, many, 110, NULL, &err), FACET_BAD_INPUT);
    assert_int_equal(facet_session_prefill(s, many, 0, NULL, &err), FACET_BAD_INPUT);
    assert_int_equal(facet_session_length(s), 0);
    many[100] = 0;
    ok(facet_session_prefill(s, many, 128, NULL, &err), &err);
    assert_int_equal(facet_session_step(s, 0, NULL, &err), FACET_BAD_INPUT);
    assert_int_equal(facet_session_length(s), 128);
    facet_session_free(s);
    const facet_session_opts long_ctx = {.n_ctx = 161}, odd = {.prefill = "both"};
    s = NULL;
    assert_int_equal(facet_session_new(f.bundle, "dense", &long_ctx, &s, &err), FACET_BAD_INPUT);
    assert_int_equal(facet_session_new(f.bundle, "dense", &odd, &s, &err), FACET_BAD_INPUT);
    assert_int_equal(facet_session_new(f.bundle, "none", NULL, &s, &err), FACET_NOT_FOUND);
    assert_null(s);
    drop(&f);
}

static void test_text(void **state)
{
    (void)state;
    fixture f;
    make(&f, &tiny_plain);
    uint32_t ids[16];
    char text[32];
    size_t count = 0, bytes = 0;
    facet_err err;
    ok(facet_tokenize(f.bundle, "abc", 3, true, ids, 2, &count, &err), &err);
    assert_in_range(count, 3, 16); // more than the two that fit
    assert_int_equal(ids[0], 1);
    ok(facet_tokenize(f.bundle, "abc", 3, false, ids, 16, &count, &err), &err);
    ok(facet_detokenize(f.bundle, ids, count, text, sizeof text, &bytes, &err), &err);
    assert_in_range(bytes, 3, 4);
    assert_memory_equal(text + bytes - 3, "abc", 3);
    ok(facet_tokenize_chat(f.bundle, "abc", ids, 16, &count, &err), &err);
    assert_true(facet_token_is_end(f.bundle, 2));
    assert_false(facet_token_is_end(f.bundle, 270));
    assert_int_equal(facet_vocab(f.bundle), 300);
    assert_int_equal(facet_context(f.bundle), 160);
    assert_string_equal(facet_version(), FACET_VERSION);
    drop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_plain),
                                       cmocka_unit_test(test_quantised),
                                       cmocka_unit_test(test_every_type),
                                       cmocka_unit_test(test_threads_and_steps),
                                       cmocka_unit_test(test_prefill_dense),
                                       cmocka_unit_test(test_keep_all),
                                       cmocka_unit_test(test_switch_and_rewind),
                                       cmocka_unit_test(test_bad_input),
                                       cmocka_unit_test(test_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
