// SPDX-License-Identifier: Apache-2.0
// The cache law, one process: hits, misses, modes, counters, trees, cap, maintenance.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "tests/support/cache_box.h"
#include "tests/support/failing.h"

#define RECIPE "facet recipe 1\ntarget x\n"

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

static facet_cache *open_box(facet_cache_mode mode)
{
    facet_cache_opts opts = facet_box_opts(&box);
    facet_cache *cache;
    facet_err err;
    opts.mode = mode;
    if (facet_cache_open(&opts, &cache, &err) != FACET_OK) fail_msg("%s", err.message);
    return cache;
}

static facet_cache_hit get(facet_cache *cache, const char *recipe, facet_box_job *job)
{
    facet_cache_hit hit;
    facet_err err;
    if (facet_cache_get(cache, recipe, facet_box_build, job, &hit, &err) != FACET_OK)
        fail_msg("%s", err.message);
    return hit;
}

static facet_cache_stats stats_of(facet_cache *cache)
{
    facet_cache_stats stats;
    assert_int_equal(facet_cache_get_stats(cache, &stats, NULL), FACET_OK);
    return stats;
}

static void hit_and_miss(void **state)
{
    (void)state;
    facet_box_job job = {.text = "object code"};
    facet_cache *cache = open_box(FACET_CACHE_AUTO);
    facet_cache_hit hit = get(cache, RECIPE, &job);
    assert_false(hit.hit);
    assert_int_equal(hit.bytes, strlen(job.text));
    assert_string_equal(hit.key, facet_hash(RECIPE, strlen(RECIPE)).hex);
    assert_true(facet_box_same(hit.path, job.text));
    hit = get(cache, RECIPE, &job);
    assert_true(hit.hit);
    facet_cache_close(cache);
    cache = open_box(FACET_CACHE_AUTO);
    hit = get(cache, RECIPE, &job);
    assert_true(hit.hit);
    assert_string_equal(hit.sum.hex, facet_hash(job.text, strlen(job.text)).hex);
    assert_int_equal(job.builds, 1);
    const facet_cache_stats stats = stats_of(cache);
    assert_int_equal(stats.hits, 2);
    assert_int_equal(stats.misses, 1);
    assert_int_equal(stats.compiled, 1);
    assert_int_equal(stats.run_compiled, 0);
    assert_int_equal(stats.run_hits, 1);
    assert_int_equal(stats.entries, 1);
    assert_true(stats.bytes > 0);
    facet_cache_close(cache);
    char path[512];
    snprintf(path, sizeof path, "%s/tmp", box.root);
    assert_int_equal(facet_box_count(path), 0); // the builder's work files are gone
    snprintf(path, sizeof path, "%s/locks", box.root);
    assert_int_equal(facet_box_count(path), 0);
    struct stat info;
    assert_int_equal(stat(box.root, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    assert_int_equal(box.warnings, 0);
}

static void failures(void **state)
{
    (void)state;
    facet_box_job bad = {.text = "wrong", .answer = FACET_CHECK};
    facet_box_job broken = {.text = "none", .answer = FACET_NO_COMPILER}, empty = {.text = ""};
    facet_cache_hit hit = {.bytes = 77};
    facet_err err;
    facet_cache *cache = open_box(FACET_CACHE_AUTO);
    assert_int_equal(facet_cache_get(cache, RECIPE, facet_box_build, &bad, &hit, &err),
                     FACET_CHECK);
    assert_int_equal(facet_cache_get(cache, RECIPE, facet_box_build, &broken, &hit, &err),
                     FACET_NO_COMPILER);
    assert_string_equal(err.message, "the job says so");
    assert_int_equal(facet_cache_get(cache, RECIPE, facet_box_build, &empty, &hit, &err),
                     FACET_FAILED);
    assert_int_equal(facet_cache_get(cache, RECIPE, NULL, NULL, &hit, &err), FACET_NOT_FOUND);
    assert_int_equal(facet_cache_get(cache, "", facet_box_build, &bad, &hit, &err),
                     FACET_BAD_INPUT);
    assert_int_equal(hit.bytes, 77);
    const facet_cache_stats stats = stats_of(cache);
    assert_int_equal(stats.rejected, 1);
    assert_int_equal(stats.compiled, 0);
    assert_int_equal(stats.entries, 0);
    facet_cache_close(cache);
}

static void strict(void **state)
{
    (void)state;
    facet_box_job job = {.text = "object code"};
    facet_cache_hit hit;
    facet_err err;
    facet_cache *cache = open_box(FACET_CACHE_STRICT); // not even the directory is made
    assert_false(facet_path_exists(box.root));
    assert_int_equal(facet_cache_get(cache, RECIPE, facet_box_build, &job, &hit, &err),
                     FACET_REFUSED);
    assert_non_null(strstr(err.message, facet_hash(RECIPE, strlen(RECIPE)).hex));
    facet_cache_close(cache);
    cache = open_box(FACET_CACHE_AUTO);
    get(cache, RECIPE, &job);
    facet_cache_close(cache);
    cache = open_box(FACET_CACHE_STRICT);
    hit = get(cache, RECIPE, &job);
    assert_true(hit.hit);
    assert_int_equal(facet_cache_trim(cache, 0, NULL, NULL), FACET_REFUSED);
    assert_int_equal(facet_cache_clear(cache, NULL), FACET_REFUSED);
    facet_cache_close(cache);
    assert_int_equal(job.builds, 1);
}

static void rebuild(void **state)
{
    (void)state;
    facet_box_job old = {.text = "old"}, new = {.text = "new"};
    facet_cache *cache = open_box(FACET_CACHE_AUTO);
    get(cache, RECIPE, &old);
    facet_cache_close(cache);
    cache = open_box(FACET_CACHE_REBUILD);
    assert_false(get(cache, RECIPE, &new).hit);
    assert_true(get(cache, RECIPE, &new).hit); // once is enough
    facet_cache_close(cache);
    cache = open_box(FACET_CACHE_AUTO);
    assert_true(facet_box_same(get(cache, RECIPE, &old).path, "new"));
    assert_int_equal(stats_of(cache).entries, 1);
    facet_cache_close(cache);
    assert_int_equal(new.builds, 1);
}

static void trees(void **state)
{
    (void)state;
    facet_box_job job = {.text = "part", .big_bytes = 2u << 20};
    facet_cache_hit hit;
    facet_err err;
    facet_cache *cache = open_box(FACET_CACHE_AUTO);
    assert_int_equal(facet_cache_get_dir(cache, RECIPE, facet_box_build_dir, &job, &hit, &err),
                     FACET_OK);
    assert_int_equal(hit.bytes, 8 + (2u << 20));
    assert_int_equal(facet_cache_get_dir(cache, RECIPE, facet_box_build_dir, &job, &hit, &err),
                     FACET_OK);
    assert_true(hit.hit);
    facet_cache_close(cache);
    uint64_t good, bad;
    char path[1024];
    // A flipped byte in the big file is seen by verify only, one in a small file by every hit, and
    // a file too many, too few or of another size as well.
    facet_box_entry(&box, RECIPE, "payload/sub/b", path, sizeof path);
    facet_box_write(path, "pbrt", 4);
    cache = open_box(FACET_CACHE_AUTO);
    assert_int_equal(facet_cache_get_dir(cache, RECIPE, facet_box_build_dir, &job, &hit, &err),
                     FACET_OK);
    assert_int_equal(job.builds, 2);
    facet_cache_close(cache);
    facet_box_entry(&box, RECIPE, "payload/extra", path, sizeof path);
    facet_box_write(path, "x", 1);
    cache = open_box(FACET_CACHE_AUTO);
    assert_int_equal(facet_cache_get_dir(cache, RECIPE, facet_box_build_dir, &job, &hit, &err),
                     FACET_OK);
    assert_int_equal(job.builds, 3);
    facet_cache_close(cache);
    facet_box_entry(&box, RECIPE, "payload/big", path, sizeof path);
    char *big = calloc(1, 2u << 20);
    assert_non_null(big);
    big[12345] = 1;
    facet_box_write(path, big, 2u << 20);
    free(big);
    cache = open_box(FACET_CACHE_AUTO);
    assert_int_equal(facet_cache_get_dir(cache, RECIPE, facet_box_build_dir, &job, &hit, &err),
                     FACET_OK);
    assert_int_equal(job.builds, 3);
    facet_cache_close(cache); // what is in use would not be put into quarantine
    cache = open_box(FACET_CACHE_AUTO);
    assert_int_equal(facet_cache_verify(cache, &good, &bad, &err), FACET_OK);
    assert_int_equal(good, 0);
    assert_int_equal(bad, 1);
    assert_int_equal(stats_of(cache).quarantined, 3);
    // A file is no tree.
    assert_int_equal(facet_cache_get(cache, RECIPE, facet_box_build, &job, &hit, &err), FACET_OK);
    assert_int_equal(job.builds, 4);
    facet_cache_close(cache);
}

static void set_used(const char *recipe, int64_t seconds)
{
    char path[1024];
    const struct timespec times[2] = {{seconds, 0}, {seconds, 0}};
    facet_box_entry(&box, recipe, "sum", path, sizeof path);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void make_three(void)
{
    static const char *const recipes[] = {"a\n1\n3\n", "b\n1\n2\n3\n", "c\n"};
    facet_box_job job = {.text = "object code"};
    facet_cache *cache = open_box(FACET_CACHE_AUTO);
    for (int i = 0; i < 3; i++)
        get(cache, recipes[i], &job);
    facet_cache_close(cache);
    set_used(recipes[0], 2000);
    set_used(recipes[1], 1000);
    set_used(recipes[2], 3000);
}

static void maintenance(void **state)
{
    (void)state;
    make_three();
    facet_cache *cache = open_box(FACET_CACHE_AUTO);
    facet_cache_item *items;
    size_t n;
    uint64_t removed, good, bad;
    facet_err err;
    facet_text text;
    assert_int_equal(facet_cache_list(cache, &items, &n, &err), FACET_OK);
    assert_int_equal(n, 3);
    assert_string_equal(items[0].title, "c");
    assert_int_equal(items[1].used, 2000);
    facet_text_init(&text, NULL);
    assert_int_equal(facet_cache_explain(cache, items[1].key, items[2].key, &text, &err), FACET_OK);
    assert_string_equal(facet_text_str(&text), "- a\n+ b\n+ 2\n");
    assert_int_equal(facet_cache_explain(cache, items[1].key, "no", &text, &err), FACET_BAD_INPUT);
    assert_int_equal(facet_cache_explain(cache, items[1].key, facet_hash("", 0).hex, &text, &err),
                     FACET_NOT_FOUND);
    facet_text_fini(&text);
    assert_int_equal(facet_cache_verify(cache, &good, &bad, &err), FACET_OK);
    assert_int_equal(good, 3);
    assert_int_equal(bad, 0);
    assert_int_equal(facet_cache_trim(cache, 2 * items[0].bytes, &removed, &err), FACET_OK);
    assert_int_equal(removed, 1);
    facet_mem_free(NULL, items);
    facet_cache_hit hit; // "b" was the oldest
    assert_int_equal(facet_cache_get(cache, "b\n1\n2\n3\n", NULL, NULL, &hit, &err),
                     FACET_NOT_FOUND);
    assert_int_equal(facet_cache_get(cache, "a\n1\n3\n", NULL, NULL, &hit, &err), FACET_OK);
    // In use by this process now: stays.
    assert_int_equal(facet_cache_trim(cache, 0, &removed, &err), FACET_OK);
    assert_int_equal(removed, 1);
    assert_true(facet_path_exists(hit.path));
    assert_int_equal(stats_of(cache).evicted, 2);
    facet_cache_close(cache);
    cache = open_box(FACET_CACHE_AUTO);
    assert_int_equal(facet_cache_clear(cache, &err), FACET_OK);
    const facet_cache_stats stats = stats_of(cache);
    assert_int_equal(stats.entries + stats.bytes + stats.hits + stats.compiled, 0);
    facet_cache_close(cache);
}

static void cap(void **state)
{
    (void)state;
    facet_cache_opts opts = facet_box_opts(&box);
    opts.limit_bytes = 20 * 16384;
    for (int i = 0; i < 100; i++) {
        char recipe[32];
        facet_box_job job = {.text = "object code"};
        facet_cache *cache;
        assert_int_equal(facet_cache_open(&opts, &cache, NULL), FACET_OK);
        snprintf(recipe, sizeof recipe, "r%d\n", i);
        get(cache, recipe, &job);
        facet_cache_close(cache);
    }
    facet_cache *cache = open_box(FACET_CACHE_AUTO);
    const facet_cache_stats stats = stats_of(cache);
    assert_true(stats.bytes <= opts.limit_bytes);
    assert_true(stats.entries > 5 && stats.entries < 100);
    assert_int_equal(stats.entries + stats.evicted, 100);
    facet_cache_hit hit;
    assert_int_equal(facet_cache_get(cache, "r99\n", NULL, NULL, &hit, NULL), FACET_OK);
    facet_cache_close(cache);
}

// The allocator fails at call 1, 2, 3 ... until everything works; nothing leaks, nothing half-made
// is found afterwards.
static void failing_memory(void **state)
{
    (void)state;
    bool done = false;
    for (long n = 1; !done; n++) {
        facet_failing failing;
        facet_cache_opts opts = facet_box_opts(&box);
        facet_box_job job = {.text = "object code"};
        facet_cache *cache = NULL;
        facet_cache_hit hit;
        facet_cache_item *items = NULL;
        size_t n_items;
        uint64_t good, bad;
        char recipe[32];
        snprintf(recipe, sizeof recipe, "r%ld\n", n);
        facet_failing_init(&failing, n);
        opts.alloc = &failing.alloc;
        facet_status status = facet_cache_open(&opts, &cache, NULL);
        if (status == FACET_OK) {
            status = facet_cache_get(cache, recipe, facet_box_build, &job, &hit, NULL);
            if (status == FACET_OK)
                status = facet_cache_get(cache, recipe, facet_box_build, &job, &hit, NULL);
            if (status == FACET_OK)
                status =
                    facet_cache_get_dir(cache, "tree\n", facet_box_build_dir, &job, &hit, NULL);
            if (status == FACET_OK) status = facet_cache_verify(cache, &good, &bad, NULL);
            if (status == FACET_OK) status = facet_cache_list(cache, &items, &n_items, NULL);
            facet_mem_free(opts.alloc, items);
            facet_cache_close(cache);
        }
        assert_true(status == FACET_OK || status == FACET_NO_MEMORY);
        assert_int_equal(failing.alive, 0);
        assert_true(n < 1000);
        done = status == FACET_OK;
    }
    uint64_t good, bad;
    facet_cache *cache = open_box(FACET_CACHE_AUTO);
    assert_int_equal(facet_cache_verify(cache, &good, &bad, NULL), FACET_OK);
    assert_int_equal(bad, 0);
    facet_cache_close(cache);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(hit_and_miss), TEST(failures),    TEST(strict), TEST(rebuild),
        TEST(trees),        TEST(maintenance), TEST(cap),    TEST(failing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
