// SPDX-License-Identifier: Apache-2.0
// The float32 model when memory runs out, the user interrupts, or the caller errs.
#include <cblas.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "calib/stream.h"
#include "tests/support/failing.h"
#include "tests/support/memory_model.h"

static uint32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 4400, 9};
static uint32_t lengths[] = {4, 5};
static const facet_samples samples = {.tokens = tokens, .lengths = lengths, .n = 2, .n_tokens = 9};

static facet_status see(void *ctx, const facet_ffn_chunk *chunk, facet_err *err)
{
    (void)err;
    *(uint64_t *)ctx += chunk->n;
    return FACET_OK;
}

// Every public call once.
static facet_status tour(const facet_model *model, const facet_alloc *alloc,
                         const facet_report *report, facet_err *err)
{
    const facet_stream_opts opts = {.n_threads = 2, .alloc = alloc, .report = report};
    const uint32_t kept[] = {3, 70};
    const facet_ffn_custom custom = {.kept = kept, .n_kept = 2};
    static float down[72 * 40], logits[4500];
    facet_stream *stream = NULL, *copy = NULL;
    double nats;
    uint64_t scored, seen = 0;
    uint32_t ids[9];
    facet_status status;
    FACET_TRY_GOTO(facet_stream_new(model, &samples, &opts, &stream, err), done);
    FACET_TRY_GOTO(facet_stream_attn(stream, err), done);
    FACET_TRY_GOTO(facet_stream_copy(stream, &copy, err), done);
    FACET_TRY_GOTO(facet_stream_ffn_look(stream, see, &seen, err), done);
    FACET_TRY_GOTO(facet_stream_down(stream, 2, down, err), done);
    FACET_TRY_GOTO(facet_stream_ffn_custom(copy, &custom, err), done);
    FACET_TRY_GOTO(facet_stream_ffn(stream, NULL, NULL, err), done);
    for (int layer = 1; layer < 3; layer++) {
        FACET_TRY_GOTO(facet_stream_attn(stream, err), done);
        FACET_TRY_GOTO(facet_stream_ffn(stream, NULL, NULL, err), done);
    }
    FACET_TRY_GOTO(facet_stream_nll(stream, &nats, &scored, NULL, err), done);
    FACET_TRY_GOTO(facet_stream_argmax(stream, ids, err), done);
    FACET_TRY_GOTO(facet_stream_logits(stream, 8, logits, err), done);
    assert_int_equal(seen, 9);
done:
    facet_stream_free(stream);
    facet_stream_free(copy);
    return status;
}

static void test_memory(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_GEMMA, 1);
    facet_status status = FACET_NO_MEMORY;
    long n;
    for (n = 1; status != FACET_OK; n++) {
        facet_failing failing;
        facet_err err = {0};
        facet_failing_init(&failing, n);
        status = tour(model, &failing.alloc, NULL, &err);
        assert_int_equal(atomic_load(&failing.alive), 0);
        assert_true(status == FACET_OK || status == FACET_NO_MEMORY);
        assert_true(status == FACET_OK || err.message[0]);
        assert_true(n < 1000);
    }
    assert_true(n > 20);
    facet_memory_model_free(model);
}

typedef struct stopper {
    int asked, stop_at;
    uint64_t last;
} stopper;

static bool stopper_cancelled(void *ctx)
{
    stopper *s = ctx;
    return ++s->asked == s->stop_at;
}

static void stopper_progress(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    stopper *s = ctx;
    if (strcmp(what, "forward") == 0) s->last = done;
    assert_true(done <= total);
}

static void test_interrupt(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_LLAMA, 1);
    facet_status status = FACET_INTERRUPTED;
    int n;
    for (n = 1; status != FACET_OK; n++) {
        facet_failing failing;
        stopper stop = {.stop_at = n};
        const facet_report report = {
            .ctx = &stop, .progress = stopper_progress, .cancelled = stopper_cancelled};
        facet_failing_init(&failing, 0);
        status = tour(model, &failing.alloc, &report, NULL);
        assert_int_equal(atomic_load(&failing.alive), 0);
        assert_true(status == FACET_OK || status == FACET_INTERRUPTED);
        assert_true(n < 100);
    }
    assert_true(n > 8);
    facet_memory_model_free(model);
}

static facet_status refuse(void *ctx, const facet_ffn_chunk *chunk, facet_err *err)
{
    (void)ctx, (void)chunk;
    return facet_fail(err, FACET_CHECK, "tap: no; never");
}

// Steps out of order are refused, and so is a stream whose layer was left halfway.
static void test_order(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_LLAMA, 1);
    facet_stream *stream = NULL;
    facet_err err;
    double nats = -1;
    uint64_t scored;
    assert_int_equal(facet_stream_new(model, &samples, NULL, &stream, &err), FACET_OK);
    assert_int_equal(facet_stream_ffn(stream, NULL, NULL, &err), FACET_FAILED);
    assert_int_equal(facet_stream_nll(stream, &nats, &scored, NULL, &err), FACET_FAILED);
    assert_true(nats == -1);
    assert_int_equal(facet_stream_attn(stream, &err), FACET_OK);
    assert_int_equal(facet_stream_attn(stream, &err), FACET_FAILED);
    assert_int_equal(facet_stream_ffn_look(stream, refuse, NULL, &err), FACET_CHECK);
    // A look that fails has changed nothing, a step that fails has.
    assert_int_equal(facet_stream_ffn(stream, refuse, NULL, &err), FACET_CHECK);
    assert_string_equal(err.message, "tap: no; never");
    assert_int_equal(facet_stream_ffn(stream, NULL, NULL, &err), FACET_FAILED);
    facet_stream_free(stream);
    facet_stream_free(NULL);
    facet_memory_model_free(model);
}

static void test_bad_input(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_LLAMA, 1);
    facet_stream *stream = NULL;
    facet_err err;
    facet_samples bad = samples;
    bad.n_tokens = 8;
    assert_int_equal(facet_stream_new(model, &bad, NULL, &stream, &err), FACET_BAD_INPUT);
    bad = (facet_samples){0};
    assert_int_equal(facet_stream_new(model, &bad, NULL, &stream, &err), FACET_BAD_INPUT);
    tokens[7] = 4500;
    assert_int_equal(facet_stream_new(model, &samples, NULL, &stream, &err), FACET_MISMATCH);
    tokens[7] = 4400;
    assert_null(stream);
    assert_int_equal(facet_stream_new(model, &samples, NULL, &stream, &err), FACET_OK);
    assert_int_equal(facet_stream_attn(stream, &err), FACET_OK);
    const uint32_t wrong[][2] = {{3, 3}, {4, 3}, {3, 72}};
    for (size_t i = 0; i < 3; i++) {
        const facet_ffn_custom custom = {.kept = wrong[i], .n_kept = 2};
        assert_int_equal(facet_stream_ffn_custom(stream, &custom, &err), FACET_BAD_INPUT);
    }
    assert_int_equal(facet_stream_ffn(stream, NULL, NULL, &err), FACET_OK);
    float logit;
    assert_int_equal(facet_stream_logits(stream, 9, &logit, &err), FACET_BAD_INPUT);
    facet_stream_free(stream);
    facet_memory_model_free(model);
}

// Weights that are not numbers show as an error, not as a perplexity.
static void test_damaged_weights(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_LLAMA, 1);
    facet_memory_model_data(model, FACET_ROLE_UP, 1)[5] = NAN;
    facet_stream *stream = NULL;
    facet_err err;
    double nats;
    uint64_t scored;
    assert_int_equal(facet_stream_new(model, &samples, NULL, &stream, &err), FACET_OK);
    for (int layer = 0; layer < 3; layer++) {
        assert_int_equal(facet_stream_attn(stream, &err), FACET_OK);
        assert_int_equal(facet_stream_ffn(stream, NULL, NULL, &err), FACET_OK);
    }
    assert_int_equal(facet_stream_nll(stream, &nats, &scored, NULL, &err), FACET_BAD_TENSOR);
    facet_stream_free(stream);
    facet_memory_model_free(model);
}

// The process's OpenBLAS setting is as it was, and a tap runs under it.
static facet_status count_threads(void *ctx, const facet_ffn_chunk *chunk, facet_err *err)
{
    (void)chunk, (void)err;
    *(int *)ctx = openblas_get_num_threads();
    return FACET_OK;
}

static void test_blas_threads(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_LLAMA, 1);
    facet_stream *stream = NULL;
    int in_tap = 0;
    const int before = openblas_get_num_threads();
    assert_int_equal(facet_stream_new(model, &samples, NULL, &stream, NULL), FACET_OK);
    assert_int_equal(facet_stream_attn(stream, NULL), FACET_OK);
    assert_int_equal(facet_stream_ffn(stream, count_threads, &in_tap, NULL), FACET_OK);
    assert_int_equal(in_tap, before);
    assert_int_equal(openblas_get_num_threads(), before);
    facet_stream_free(stream);
    facet_memory_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),          cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_order),           cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_damaged_weights), cmocka_unit_test(test_blas_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
