// SPDX-License-Identifier: Apache-2.0
// A full disk and a read-only cache, as root too: small file systems mounted in a mount namespace
// of this process, so nothing is left behind. Skipped where that is not allowed.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "tests/support/cache_box.h"

#define NEW_MOUNT_NAMESPACE 0x00020000L // CLONE_NEWNS, which needs _GNU_SOURCE
#define TEXT                "object code of some length"

static facet_box box;

static int set_up(void **state)
{
    (void)state;
    facet_box_init(&box);
    if (mkdir(box.root, 0700) != 0) return 1;
    return mount("facet-test", box.root, "tmpfs", 0, "size=256k,mode=0700");
}

static int tear_down(void **state)
{
    (void)state;
    umount(box.root);
    facet_box_fini(&box);
    return 0;
}

static facet_cache *open_box(void)
{
    facet_cache_opts opts = facet_box_opts(&box);
    facet_cache *cache;
    facet_err err;
    if (facet_cache_open(&opts, &cache, &err) != FACET_OK) fail_msg("%s", err.message);
    return cache;
}

static facet_cache_hit get(facet_cache *cache, const char *recipe, facet_box_job *job)
{
    facet_cache_hit hit;
    facet_err err;
    if (facet_cache_get(cache, recipe, facet_box_build, job, &hit, &err) != FACET_OK)
        fail_msg("%s", err.message);
    assert_true(facet_box_same(hit.path, job->text));
    return hit;
}

static void read_only(void **state)
{
    (void)state;
    facet_box_job job = {.text = TEXT};
    facet_cache *cache = open_box();
    get(cache, "kept\n", &job);
    facet_cache_close(cache);
    assert_int_equal(mount("facet-test", box.root, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL), 0);
    cache = open_box();
    assert_true(get(cache, "kept\n", &job).hit);
    const facet_cache_hit own = get(cache, "new\n", &job);
    assert_false(own.hit);
    assert_true(strncmp(own.path, box.temp, strlen(box.temp)) == 0);
    assert_true(get(cache, "new\n", &job).hit); // built once, though it could not be kept
    get(cache, "newer\n", &job);
    assert_int_equal(box.warnings, 1);
    uint64_t good, bad;
    assert_int_equal(facet_cache_verify(cache, &good, &bad, NULL), FACET_OK);
    assert_int_equal(good, 1);
    facet_cache_close(cache);
    cache = open_box();
    assert_int_not_equal(facet_cache_trim(cache, 0, NULL, NULL), FACET_OK);
    facet_cache_close(cache);
    assert_int_equal(job.builds, 3);
    assert_int_equal(facet_box_count(box.temp), 0);
}

// An empty read-only directory of ours is a cache without entries.
static void read_only_and_empty(void **state)
{
    (void)state;
    facet_box_job job = {.text = TEXT};
    assert_int_equal(mount("facet-test", box.root, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL), 0);
    facet_cache *cache = open_box();
    get(cache, "new\n", &job);
    facet_cache_close(cache);
    assert_int_equal(box.warnings, 1);
}

// Fills the file system with a file until nothing more fits.
static void fill_disk(size_t leave)
{
    char path[600], block[4096] = "";
    snprintf(path, sizeof path, "%s/filler", box.root);
    const int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    off_t bytes = 0;
    for (ssize_t n; (n = write(fd, block, sizeof block)) > 0;)
        bytes += n;
    if (bytes > (off_t)leave) assert_int_equal(ftruncate(fd, bytes - (off_t)leave), 0);
    close(fd);
}

static void full_disk(void **state)
{
    (void)state;
    facet_box_job job = {.text = TEXT};
    // From nothing left to room for all: the build fails, the sealing fails, the rename fails.
    for (size_t pages = 0; pages < 12; pages++) {
        facet_cache *cache = open_box();
        char recipe[32], path[600];
        fill_disk(4096 * pages);
        snprintf(recipe, sizeof recipe, "page%d\n", (int)pages);
        box.warnings = 0;
        get(cache, recipe, &job);
        get(cache, recipe, &job);
        assert_true(box.warnings <= 1);
        facet_cache_close(cache);
        snprintf(path, sizeof path, "%s/filler", box.root);
        unlink(path);
        uint64_t good, bad;
        cache = open_box();
        assert_int_equal(facet_cache_verify(cache, &good, &bad, NULL), FACET_OK);
        assert_int_equal(bad, 0);
        facet_cache_close(cache);
    }
    assert_true(job.builds >= 12);
}

// A payload larger than the whole cache's disk.
static void large(void **state)
{
    (void)state;
    const size_t bytes = 600000;
    char *text = malloc(bytes + 1);
    assert_non_null(text);
    memset(text, 'x', bytes);
    text[bytes] = 0;
    facet_box_job job = {.text = text};
    facet_cache *cache = open_box();
    const facet_cache_hit hit = get(cache, "large\n", &job);
    assert_int_equal(hit.bytes, bytes);
    assert_true(strncmp(hit.path, box.temp, strlen(box.temp)) == 0);
    assert_int_equal(box.warnings, 1);
    facet_cache_close(cache);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(read_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(read_only_and_empty, set_up, tear_down),
        cmocka_unit_test_setup_teardown(full_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large, set_up, tear_down),
    };
    if (syscall(SYS_unshare, NEW_MOUNT_NAMESPACE) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        puts("skipped: no permission to mount (needs root)");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
