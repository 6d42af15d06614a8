// SPDX-License-Identifier: Apache-2.0
// Many processes and threads on one cache: all get the right bytes, nearly nobody builds twice.
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "tests/support/cache_box.h"

#define RECIPE "facet recipe 1\n"
#define TEXT   "object code of some length"
#define N_PROC 16

static facet_box box;

static int set_up(void **state)
{
    (void)state;
    facet_box_init(&box);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    facet_box_fini(&box);
    return 0;
}

// Starts N_PROC processes that wait for each other, then do `work`; returns the sum of what they
// answer (each at most 100, more is a failure).
static int in_processes(int (*work)(int process))
{
    int gate[2], sum = 0;
    assert_int_equal(pipe(gate), 0);
    pid_t pids[N_PROC];
    for (int i = 0; i < N_PROC; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] != 0) continue;
        char byte;
        close(gate[1]);
        if (read(gate[0], &byte, 1) != 0) _exit(101); // end of file: the gate opens
        _exit(work(i));
    }
    close(gate[0]);
    close(gate[1]);
    for (int i = 0; i < N_PROC; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) > 100) fail_msg("process %d answers %d", i, WEXITSTATUS(status));
        sum += WEXITSTATUS(status);
    }
    return sum;
}

static int ask(const facet_cache_opts *opts, const char *recipe, unsigned delay_us, bool tree)
{
    facet_box_job job = {.text = TEXT, .delay_us = delay_us};
    facet_cache *cache;
    facet_cache_hit hit;
    char path[4096 + 16];
    if (facet_cache_open(opts, &cache, NULL) != FACET_OK) return 102;
    const facet_status status =
        tree ? facet_cache_get_dir(cache, recipe, facet_box_build_dir, &job, &hit, NULL)
             : facet_cache_get(cache, recipe, facet_box_build, &job, &hit, NULL);
    if (status != FACET_OK) return 103;
    snprintf(path, sizeof path, "%s%s", hit.path, tree ? "/a" : "");
    const bool same = facet_box_same(path, TEXT);
    facet_cache_close(cache);
    return same ? job.builds : 104;
}

static int cold(int process)
{
    facet_cache_opts opts = facet_box_opts(&box);
    (void)process;
    return ask(&opts, RECIPE, 50000, false);
}

static int cold_tree(int process)
{
    facet_cache_opts opts = facet_box_opts(&box);
    (void)process;
    return ask(&opts, "tree\n", 50000, true);
}

// The root does not exist yet either: sixteen processes make it at once.
static void sixteen_cold(void **state)
{
    (void)state;
    assert_in_range(in_processes(cold), 1, 2);
    assert_int_equal(in_processes(cold), 0); // the second time compiles nothing
    assert_in_range(in_processes(cold_tree), 1, 2);
    assert_int_equal(in_processes(cold_tree), 0);
    facet_cache_opts opts = facet_box_opts(&box);
    facet_cache *cache;
    facet_cache_stats stats;
    assert_int_equal(facet_cache_open(&opts, &cache, NULL), FACET_OK);
    assert_int_equal(facet_cache_get_stats(cache, &stats, NULL), FACET_OK);
    assert_int_equal(stats.hits + stats.misses, 4 * N_PROC); // no count was lost
    assert_in_range(stats.compiled, 2, 4);
    assert_int_equal(stats.entries, 2);
    assert_int_equal(stats.run_compiled, 0);
    facet_cache_close(cache);
}

static int impatient(int process)
{
    facet_cache_opts opts = facet_box_opts(&box);
    (void)process;
    opts.lock_timeout_ms = 1;
    return ask(&opts, RECIPE, 30000, false);
}

// Without the lock all build, one publishes, the others run their own bytes.
static void without_locks(void **state)
{
    (void)state;
    assert_in_range(in_processes(impatient), 2, N_PROC);
    assert_int_equal(box.warnings, 0);
    assert_int_equal(in_processes(cold), 0);
}

// Everybody reads a few keys, trims, replaces: what is held stays readable until it is let go.
static int churn(int process)
{
    for (int i = 0; i < 30; i++) {
        facet_cache_opts opts = facet_box_opts(&box);
        facet_box_job job = {.text = TEXT};
        facet_cache *cache;
        facet_cache_hit hit;
        char recipe[32];
        snprintf(recipe, sizeof recipe, "r%d\n", (process + i) % 5);
        if (process % 8 == 7) opts.mode = FACET_CACHE_REBUILD;
        if (facet_cache_open(&opts, &cache, NULL) != FACET_OK) return 102;
        if (facet_cache_get(cache, recipe, facet_box_build, &job, &hit, NULL) != FACET_OK)
            return 103;
        if (process % 4 == 0 && facet_cache_trim(cache, 0, NULL, NULL) != FACET_OK) return 105;
        if (!facet_box_same(hit.path, TEXT)) return 104;
        facet_cache_close(cache);
    }
    return 0;
}

static void evict_while_read(void **state)
{
    (void)state;
    assert_int_equal(in_processes(churn), 0);
    facet_cache_opts opts = facet_box_opts(&box);
    facet_cache *cache;
    uint64_t good, bad;
    assert_int_equal(facet_cache_open(&opts, &cache, NULL), FACET_OK);
    assert_int_equal(facet_cache_verify(cache, &good, &bad, NULL), FACET_OK);
    assert_int_equal(bad, 0);
    facet_cache_close(cache);
    char path[512];
    snprintf(path, sizeof path, "%s/tmp", box.root);
    assert_int_equal(facet_box_count(path), 0);
}

// A process that holds an entry keeps it from being evicted by another one.
static void held_by_another(void **state)
{
    (void)state;
    int ready[2], done[2];
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(done), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    facet_cache_opts opts = facet_box_opts(&box);
    facet_box_job job = {.text = TEXT};
    facet_cache *cache;
    facet_cache_hit hit;
    uint64_t removed;
    char byte = 0;
    if (pid == 0) {
        if (facet_cache_open(&opts, &cache, NULL) != FACET_OK ||
            facet_cache_get(cache, RECIPE, facet_box_build, &job, &hit, NULL) != FACET_OK ||
            write(ready[1], &byte, 1) != 1 || read(done[0], &byte, 1) != 1)
            _exit(101);
        _exit(facet_box_same(hit.path, TEXT) ? 0 : 102); // dies without letting go
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(facet_cache_open(&opts, &cache, NULL), FACET_OK);
    assert_int_equal(facet_cache_trim(cache, 0, &removed, NULL), FACET_OK);
    assert_int_equal(removed, 0);
    assert_int_equal(write(done[1], &byte, 1), 1);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(facet_cache_trim(cache, 0, &removed, NULL), FACET_OK);
    assert_int_equal(removed, 1);
    facet_cache_close(cache);
}

typedef struct shared {
    facet_cache *cache;
    int thread;
    int wrong;
} shared;

static void *thread_main(void *ctx)
{
    shared *s = ctx;
    for (int i = 0; i < 40; i++) {
        facet_box_job job = {.text = TEXT};
        facet_cache_hit hit;
        facet_cache_stats stats;
        char recipe[32];
        snprintf(recipe, sizeof recipe, "t%d\n", (s->thread + i) % 7);
        if (facet_cache_get(s->cache, recipe, facet_box_build, &job, &hit, NULL) != FACET_OK ||
            !facet_box_same(hit.path, TEXT) ||
            facet_cache_get_stats(s->cache, &stats, NULL) != FACET_OK)
            s->wrong++;
    }
    return NULL;
}

static void threads(void **state)
{
    (void)state;
    facet_cache_opts opts = facet_box_opts(&box);
    facet_cache *cache;
    facet_cache_stats stats;
    shared s[8];
    pthread_t ids[8];
    assert_int_equal(facet_cache_open(&opts, &cache, NULL), FACET_OK);
    for (int i = 0; i < 8; i++) {
        s[i] = (shared){cache, i, 0};
        assert_int_equal(pthread_create(&ids[i], NULL, thread_main, &s[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_join(ids[i], NULL), 0);
        assert_int_equal(s[i].wrong, 0);
    }
    assert_int_equal(facet_cache_get_stats(cache, &stats, NULL), FACET_OK);
    assert_int_equal(stats.run_hits + stats.run_misses, 8 * 40);
    assert_in_range(stats.run_compiled, 7, 14);
    facet_cache_close(cache);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {TEST(sixteen_cold), TEST(without_locks),
                                       TEST(evict_while_read), TEST(held_by_another),
                                       TEST(threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
