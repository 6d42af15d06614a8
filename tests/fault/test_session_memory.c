// SPDX-License-Identifier: Apache-2.0
// Memory: opening and making a session survive a failure of every single allocation, and nothing is
// allocated per token.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/eval.h"
#include "tests/support/tiny.h"

static char dir[4096], path[4200];

static int make(void **state)
{
    (void)state;
    tiny_opts opts = tiny_plain;
    opts.n_layers = 1;
    tiny_dir(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/tiny.facet", dir);
    tiny *t = tiny_new(&opts);
    tiny_write(t, path, NULL, NULL);
    tiny_free(t);
    return 0;
}

static int drop(void **state)
{
    (void)state;
    tiny_remove(dir);
    return 0;
}

typedef struct counter {
    unsigned long calls, fail_at, live; // fail_at 0: never
} counter;

static void *count_resize(void *ctx, void *ptr, size_t bytes)
{
    counter *c = ctx;
    if (bytes == 0) {
        if (ptr) c->live--;
        free(ptr);
        return NULL;
    }
    if (++c->calls == c->fail_at) return NULL;
    void *result = realloc(ptr, bytes);
    if (result && !ptr) c->live++;
    return result;
}

static const facet_session_opts several = {.n_sequences = 3};

static void test_every_allocation(void **state)
{
    (void)state;
    for (unsigned long n = 1;; n++) {
        counter c = {.fail_at = n};
        const facet_alloc alloc = {&c, count_resize};
        const facet_open_opts opts = {.alloc = &alloc, .mode = FACET_MODE_GENERIC, .n_threads = 2};
        facet_bundle *bundle = NULL;
        facet_session *session = NULL;
        facet_err err;
        facet_status status = facet_open(path, &opts, &bundle, &err);
        if (status == FACET_OK)
            status = facet_session_new(bundle, "some", &several, &session, &err);
        if (status == FACET_OK) status = facet_session_stats_begin(session, &err);
        facet_session_free(session);
        facet_close(bundle);
        assert_int_equal(c.live, 0);
        if (status == FACET_OK) {
            assert_true(c.calls < n);
            assert_true(n > 10);
            break;
        }
        assert_int_equal(status, FACET_NO_MEMORY);
        assert_int_equal(err.code, FACET_NO_MEMORY);
    }
}

static void test_none_per_token(void **state)
{
    (void)state;
    counter c = {0};
    const facet_alloc alloc = {&c, count_resize};
    const facet_open_opts opts = {.alloc = &alloc, .mode = FACET_MODE_GENERIC, .n_threads = 2};
    static const uint32_t tokens[80] = {5, 6, 7};
    facet_bundle *bundle = NULL;
    facet_session *session = NULL;
    float logits[900];
    assert_int_equal(facet_open(path, &opts, &bundle, NULL), FACET_OK);
    assert_int_equal(facet_session_new(bundle, "some", &several, &session, NULL), FACET_OK);
    assert_int_equal(facet_session_stats_begin(session, NULL), FACET_OK);
    const unsigned long before = c.calls;
    assert_int_equal(facet_session_prefill(session, tokens, 80, logits, NULL), FACET_OK);
    facet_sampler sampler = {.temperature = 1.0f, .top_k = 20, .top_p = 0.9f, .state = 3};
    facet_sampler samplers[3] = {sampler, sampler, sampler};
    static const uint32_t all[3] = {1, 0, 2};
    uint32_t id = 1, ids[3] = {1, 2, 3};
    for (int i = 0; i < 40; i++) {
        assert_int_equal(facet_session_step_batch(session, 3, all, ids, logits, NULL), FACET_OK);
        assert_int_equal(facet_session_next_batch(session, 3, all, ids, samplers, ids, NULL),
                         FACET_OK);
        assert_int_equal(facet_session_next(session, id, &sampler, &id, NULL), FACET_OK);
        assert_int_equal(facet_session_step(session, id, logits, NULL), FACET_OK);
        assert_int_equal(facet_session_family(session, i % 2 ? "dense" : "one", NULL), FACET_OK);
        assert_int_equal(facet_session_rewind(session, 80 + (uint32_t)i, NULL), FACET_OK);
    }
    assert_int_equal(c.calls, before);
    facet_session_free(session);
    facet_close(bundle);
    assert_int_equal(c.live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_allocation),
                                       cmocka_unit_test(test_none_per_token)};
    return cmocka_run_group_tests(tests, make, drop);
}
