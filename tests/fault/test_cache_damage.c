// SPDX-License-Identifier: Apache-2.0
// Damaged files, hostile directories, odd clocks: a right result or a clear refusal, never damage.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "tests/support/cache_box.h"

#define RECIPE "facet recipe 1\ntarget x\nflags -O2\n"
#define TEXT   "object code of some length"

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

// Opens, asks, compares, closes; returns how often it had to build.
static int ask(bool tree)
{
    facet_cache_opts opts = facet_box_opts(&box);
    facet_box_job job = {.text = TEXT};
    facet_cache *cache;
    facet_cache_hit hit;
    facet_err err;
    char path[4096 + 16];
    if (facet_cache_open(&opts, &cache, &err) != FACET_OK) fail_msg("%s", err.message);
    const facet_status status =
        tree ? facet_cache_get_dir(cache, RECIPE, facet_box_build_dir, &job, &hit, &err)
             : facet_cache_get(cache, RECIPE, facet_box_build, &job, &hit, &err);
    if (status != FACET_OK) fail_msg("%s", err.message);
    snprintf(path, sizeof path, "%s%s", hit.path, tree ? "/sub/b" : "");
    assert_true(facet_box_same(path, TEXT));
    facet_cache_close(cache);
    return job.builds;
}

// Every cut, every byte zeroed, every bit flipped of one file of the entry: one build mends it.
static void damage_file(const char *name, bool tree)
{
    char path[1024], *text;
    size_t bytes;
    facet_box_entry(&box, RECIPE, name, path, sizeof path);
    assert_int_equal(facet_file_read(path, 1u << 20, NULL, &text, &bytes, NULL), FACET_OK);
    for (size_t cut = 0; cut < bytes; cut++) {
        facet_box_write(path, text, cut);
        assert_int_equal(ask(tree), 1);
    }
    for (size_t i = 0; i < 9 * bytes; i++) {
        char *byte = &text[i / 9];
        const char kept = *byte;
        *byte = i % 9 == 8 ? 0 : (char)(kept ^ (char)(1u << i % 9));
        facet_box_write(path, text, bytes);
        assert_int_equal(ask(tree), 1);
        *byte = kept;
    }
    facet_mem_free(NULL, text);
    assert_int_equal(ask(tree), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(ask(tree), 1);
    // Another kind of file in its place.
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(ask(tree), 1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(ask(tree), 1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("nowhere", path), 0);
    assert_int_equal(ask(tree), 1);
}

static void damaged_file_entry(void **state)
{
    (void)state;
    assert_int_equal(ask(false), 1);
    damage_file("recipe", false);
    damage_file("sum", false);
    damage_file("payload", false);
}

static void damaged_tree_entry(void **state)
{
    (void)state;
    assert_int_equal(ask(true), 1);
    damage_file("recipe", true);
    damage_file("sum", true);
    damage_file("payload/sub/b", true);
    char quarantine[512];
    snprintf(quarantine, sizeof quarantine, "%s/quarantine", box.root);
    assert_true(facet_box_count(quarantine) <= 16);
}

// The entry's own name may be a file, a dead link, an empty directory.
static void odd_entries(void **state)
{
    (void)state;
    char path[1024];
    ask(false);
    facet_box_entry(&box, RECIPE, "", path, sizeof path);
    for (int kind = 0; kind < 3; kind++) {
        assert_int_equal(facet_dir_remove(path, NULL), FACET_OK);
        if (kind == 0) facet_box_write(path, "x", 1);
        if (kind == 1) assert_int_equal(symlink("nowhere", path), 0);
        if (kind == 2) assert_int_equal(mkdir(path, 0700), 0);
        assert_int_equal(ask(false), 1);
        assert_int_equal(ask(false), 0);
    }
}

// Neither counters nor the version file may cost a hit, and both mend themselves.
static void damaged_side_files(void **state)
{
    static const char *const names[] = {"stats", "version"};
    (void)state;
    ask(false);
    for (size_t f = 0; f < FACET_COUNT_OF(names); f++) {
        char path[512], *text;
        size_t bytes;
        snprintf(path, sizeof path, "%s/%s", box.root, names[f]);
        assert_int_equal(facet_file_read(path, 4096, NULL, &text, &bytes, NULL), FACET_OK);
        for (size_t i = 0; i < 2 * bytes; i++) {
            // A flipped bit may turn the version's digit into another layout's: left out here.
            if (f == 1 && i >= bytes && i - bytes == bytes - 2) continue;
            char kept = 0;
            if (i >= bytes) {
                kept = text[i - bytes];
                text[i - bytes] = (char)(kept ^ 4);
            }
            facet_box_write(path, text, i < bytes ? i : bytes);
            if (i >= bytes) text[i - bytes] = kept;
            assert_int_equal(ask(false), 0);
        }
        facet_mem_free(NULL, text);
    }
    char huge[5000];
    char path[512];
    memset(huge, '9', sizeof huge);
    snprintf(path, sizeof path, "%s/stats", box.root);
    facet_box_write(path, huge, sizeof huge);
    assert_int_equal(ask(false), 0);
    facet_cache_opts opts = facet_box_opts(&box);
    facet_cache *cache;
    facet_cache_stats stats;
    assert_int_equal(facet_cache_open(&opts, &cache, NULL), FACET_OK);
    assert_int_equal(facet_cache_get_stats(cache, &stats, NULL), FACET_OK);
    assert_int_equal(stats.hits, 1);
    facet_cache_close(cache);
}

static void other_layout(void **state)
{
    (void)state;
    facet_cache_opts opts = facet_box_opts(&box);
    facet_cache *cache;
    facet_err err;
    char path[512];
    ask(false);
    snprintf(path, sizeof path, "%s/version", box.root);
    facet_box_write(path, "facet cache 2\n", 14);
    const facet_status status = facet_cache_open(&opts, &cache, &err);
    assert_int_equal(facet_status_exit(status), 5);
    assert_non_null(strstr(err.message, "layout 2"));
    assert_true(facet_box_same(path, "facet cache 2\n"));
}

static void lock_of_the_dead(void **state)
{
    (void)state;
    char path[600];
    assert_int_equal(ask(false), 1);
    facet_box_entry(&box, RECIPE, "", path, sizeof path);
    assert_int_equal(facet_dir_remove(path, NULL), FACET_OK);
    const facet_digest key = facet_hash(RECIPE, strlen(RECIPE));
    snprintf(path, sizeof path, "%s/locks/%s", box.root, key.hex);
    facet_box_write(path, "", 0); // nobody holds it
    assert_int_equal(ask(false), 1);
    // Somebody holds it and does nothing: after the timeout we build anyway.
    facet_box_entry(&box, RECIPE, "", path, sizeof path);
    assert_int_equal(facet_dir_remove(path, NULL), FACET_OK);
    snprintf(path, sizeof path, "%s/locks/%s", box.root, key.hex);
    const int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    facet_cache_opts opts = facet_box_opts(&box);
    facet_box_job job = {.text = TEXT};
    facet_cache *cache;
    facet_cache_hit hit;
    opts.lock_timeout_ms = 50;
    assert_int_equal(facet_cache_open(&opts, &cache, NULL), FACET_OK);
    assert_int_equal(facet_cache_get(cache, RECIPE, facet_box_build, &job, &hit, NULL), FACET_OK);
    assert_int_equal(job.builds, 1);
    facet_cache_close(cache);
    close(fd);
}

static facet_status try_open(const char *root, const char *fallback, facet_err *err)
{
    facet_cache_opts opts = facet_box_opts(&box);
    facet_box_job job = {.text = TEXT};
    facet_cache *cache;
    facet_cache_hit hit;
    opts.root = root;
    opts.fallback = fallback;
    FACET_TRY(facet_cache_open(&opts, &cache, err));
    const facet_status status = facet_cache_get(cache, RECIPE, facet_box_build, &job, &hit, err);
    if (status == FACET_OK) assert_true(facet_box_same(hit.path, TEXT));
    facet_cache_close(cache);
    return status;
}

// Unusable and explicit: refused with a remedy. Unusable and the default: one warning, and it
// works.
static void unusable(const char *path, const char *word)
{
    facet_err err = {0};
    const facet_status status = try_open(path, NULL, &err);
    assert_int_equal(facet_status_exit(status), 5);
    if (strstr(err.message, word) == NULL) fail_msg("%s", err.message);
    box.warnings = 0;
    if (try_open(NULL, path, &err) != FACET_OK) fail_msg("%s", err.message);
    assert_int_equal(box.warnings, 1);
    assert_int_equal(facet_box_count(box.temp), 0); // the private directory is gone
}

static void bad_directories(void **state)
{
    (void)state;
    char path[600], *longest = calloc(1, 5001);
    assert_int_equal(mkdir(box.root, 0777), 0);
    assert_int_equal(chmod(box.root, 0777), 0);
    unusable(box.root, "chmod 700");
    assert_int_equal(chmod(box.root, 0770), 0);
    unusable(box.root, "chmod 700");
    assert_int_equal(chmod(box.root, 0755), 0);
    assert_int_equal(try_open(box.root, NULL, NULL), FACET_OK);
    if (geteuid() == 0) {
        assert_int_equal(chown(box.root, 65534, 65534), 0);
        unusable(box.root, "belongs to user 65534");
        assert_int_equal(chown(box.root, 0, 0), 0);
    }
    snprintf(path, sizeof path, "%s/file", box.dir);
    facet_box_write(path, "x", 1);
    unusable(path, "not a directory");
    snprintf(path, sizeof path, "%s/file/below", box.dir);
    unusable(path, "/file: ");
    snprintf(path, sizeof path, "%s/link", box.dir);
    assert_int_equal(symlink("nowhere", path), 0);
    unusable(path, "/link: ");
    unusable("", "empty");
    memset(longest, 'a', 5000);
    unusable(longest, "too long");
    free(longest);
}

static void no_home(void **state)
{
    (void)state;
    assert_int_equal(try_open(NULL, NULL, NULL), FACET_OK);
    assert_int_equal(box.warnings, 1);
    assert_int_equal(facet_box_count(box.temp), 0);
    // Not even a place for temporary directories: a clear refusal.
    facet_cache_opts opts = facet_box_opts(&box);
    facet_cache *cache;
    facet_err err;
    opts.root = NULL;
    opts.temp_parent = "/nonexistent/place";
    assert_int_equal(facet_status_exit(facet_cache_open(&opts, &cache, &err)), 5);
}

// Parents of the default place are made, and a group-writable parent does no harm.
static void parents(void **state)
{
    (void)state;
    char path[600];
    snprintf(path, sizeof path, "%s/home/.cache/facet", box.dir);
    assert_int_equal(try_open(NULL, path, NULL), FACET_OK);
    assert_int_equal(box.warnings, 0);
    assert_true(facet_path_is_dir(path));
}

// A clock that was years ahead and went back: use stamps and temporary directories of the future.
static void future(void **state)
{
    (void)state;
    const struct timespec times[2] = {{4000000000, 0}, {4000000000, 0}};
    char path[1024], stale[600], fresh[600];
    ask(false);
    facet_box_entry(&box, RECIPE, "sum", path, sizeof path);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    snprintf(stale, sizeof stale, "%s/tmp/.old.XXXXXX", box.root);
    snprintf(fresh, sizeof fresh, "%s/tmp/.new.XXXXXX", box.root);
    assert_non_null(mkdtemp(stale));
    assert_non_null(mkdtemp(fresh));
    assert_int_equal(utimensat(AT_FDCWD, stale, times, 0), 0);
    assert_int_equal(ask(false), 0); // also stamps it with the clock of now
    assert_false(facet_path_exists(stale));
    assert_true(facet_path_exists(fresh));
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_true(info.st_mtim.tv_sec < 4000000000);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    facet_cache_opts opts = facet_box_opts(&box);
    facet_cache *cache;
    uint64_t removed;
    assert_int_equal(facet_cache_open(&opts, &cache, NULL), FACET_OK);
    assert_int_equal(facet_cache_trim(cache, 0, &removed, NULL), FACET_OK);
    assert_int_equal(removed, 1);
    facet_cache_close(cache);
}

// A directory in use is not swept, however old.
static void swept(void **state)
{
    (void)state;
    const struct timespec times[2] = {{1000, 0}, {1000, 0}};
    char used[600], unused[600];
    ask(false);
    snprintf(used, sizeof used, "%s/tmp/.a.XXXXXX", box.root);
    snprintf(unused, sizeof unused, "%s/tmp/.b.XXXXXX", box.root);
    assert_non_null(mkdtemp(used));
    assert_non_null(mkdtemp(unused));
    assert_int_equal(utimensat(AT_FDCWD, used, times, 0), 0);
    assert_int_equal(utimensat(AT_FDCWD, unused, times, 0), 0);
    const int fd = open(used, O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(fd, LOCK_SH), 0);
    ask(false);
    close(fd);
    assert_true(facet_path_exists(used));
    assert_false(facet_path_exists(unused));
}

// Ten thousand entries against a cap: it holds, counts stay right, nothing is quadratic.
static void many(void **state)
{
    (void)state;
    facet_cache_opts opts = facet_box_opts(&box);
    facet_cache_stats stats;
    facet_cache *cache;
    opts.limit_bytes = 1000 * 8192;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(facet_cache_open(&opts, &cache, NULL), FACET_OK);
        for (int j = 0; j < 100; j++) {
            facet_box_job job = {.text = TEXT};
            facet_cache_hit hit;
            char recipe[32];
            snprintf(recipe, sizeof recipe, "r%d\n", 100 * i + j);
            assert_int_equal(facet_cache_get(cache, recipe, facet_box_build, &job, &hit, NULL),
                             FACET_OK);
        }
        facet_cache_close(cache);
    }
    opts.limit_bytes = 0;
    assert_int_equal(facet_cache_open(&opts, &cache, NULL), FACET_OK);
    assert_int_equal(facet_cache_get_stats(cache, &stats, NULL), FACET_OK);
    assert_true(stats.bytes <= 1000 * 8192);
    assert_int_equal(stats.compiled, 10000);
    assert_int_equal(stats.entries + stats.evicted, 10000);
    assert_true(stats.entries >= 100);
    facet_cache_close(cache);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(damaged_file_entry),
        TEST(damaged_tree_entry),
        TEST(odd_entries),
        TEST(damaged_side_files),
        TEST(other_layout),
        TEST(lock_of_the_dead),
        TEST(bad_directories),
        TEST(no_home),
        TEST(parents),
        TEST(future),
        TEST(swept),
        TEST(many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
