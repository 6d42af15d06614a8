// SPDX-License-Identifier: Apache-2.0
// Several sessions of one bundle, each with its own pool, from several threads at once: the same
// tokens as alone. Meant for TSAN; also a test of its own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "runtime/eval.h"
#include "tests/support/tiny.h"

enum { SESSIONS = 3, TOKENS = 24, PROMPT = 70 };

typedef struct job {
    facet_bundle *bundle;
    const char *family;
    unsigned threads;
    uint32_t ids[TOKENS];
    float stats[1024]; // layers times channels of the tiny model
    facet_status status;
} job;

static void *generate(void *ctx)
{
    job *j = ctx;
    const facet_session_opts opts = {.n_ctx = 128, .n_threads = j->threads};
    facet_session *session = NULL;
    facet_sampler sampler = {.temperature = 0.8f, .top_p = 0.95f, .state = 5};
    uint32_t prompt[PROMPT];
    for (uint32_t i = 0; i < PROMPT; i++)
        prompt[i] = (i * 31 + 3) % 300;
    j->status = facet_session_new(j->bundle, j->family, &opts, &session, NULL);
    if (j->status == FACET_OK)
        j->status = facet_session_prefill(session, prompt, PROMPT, NULL, NULL);
    uint32_t id = 9;
    for (uint32_t i = 0; j->status == FACET_OK && i < TOKENS; i++) {
        j->status = facet_session_next(session, id, &sampler, &id, NULL);
        j->ids[i] = id;
    }
    // Dense reads the prompt again and counts its channels.
    if (j->status == FACET_OK) j->status = facet_session_rewind(session, 0, NULL);
    if (j->status == FACET_OK) j->status = facet_session_family(session, "dense", NULL);
    if (j->status == FACET_OK) j->status = facet_session_stats_begin(session, NULL);
    if (j->status == FACET_OK)
        j->status = facet_session_prefill(session, prompt, PROMPT, NULL, NULL);
    if (j->status == FACET_OK) j->status = facet_session_stats(session, j->stats, NULL);
    facet_session_free(session);
    return NULL;
}

static void test_sessions(void **state)
{
    (void)state;
    char dir[4096], path[4200];
    const facet_open_opts opts = {.mode = FACET_MODE_GENERIC};
    tiny_dir(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/tiny.facet", dir);
    tiny *t = tiny_new(&tiny_quantised);
    tiny_write(t, path, NULL, NULL);
    facet_bundle *bundle = NULL;
    assert_int_equal(facet_open(path, &opts, &bundle, NULL), FACET_OK);
    job alone = {.bundle = bundle, .family = "some", .threads = 1};
    generate(&alone);
    assert_int_equal(alone.status, FACET_OK);
    job jobs[SESSIONS];
    pthread_t threads[SESSIONS];
    for (unsigned i = 0; i < SESSIONS; i++) {
        jobs[i] = (job){.bundle = bundle, .family = "some", .threads = i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, generate, &jobs[i]), 0);
    }
    for (unsigned i = 0; i < SESSIONS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (unsigned i = 0; i < SESSIONS; i++) {
        assert_int_equal(jobs[i].status, FACET_OK);
        assert_memory_equal(jobs[i].ids, alone.ids, sizeof alone.ids);
        assert_memory_equal(jobs[i].stats, alone.stats, sizeof alone.stats);
    }
    facet_close(bundle);
    tiny_free(t);
    tiny_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sessions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
