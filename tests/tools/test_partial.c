// SPDX-License-Identifier: Apache-2.0
// Partial files: what a run put, the next one takes, in order; a file that is torn, damaged, of
// another command or somebody else's costs a warning and never a wrong record.
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

#include "base/memory.h"
#include "tools/partial.h"

enum { RECORDS = 3, MOST = 64 };
static const char *const records[RECORDS] = {"first", "second record", "x"};
static char folder[2048], path[2100];

typedef struct run {
    facet_tool tool;
    facet_partial partial;
    int warnings;
    char warning[512];
} run;

static void hear(void *ctx, facet_level level, const char *text)
{
    run *r = ctx;
    assert_int_equal(level, FACET_LOG_WARN);
    r->warnings++;
    snprintf(r->warning, sizeof r->warning, "%s", text);
}

static void run_begin(run *r, const char *work)
{
    memset(r, 0, sizeof *r);
    r->tool = (facet_tool){.quiet = true, .report = {.ctx = r, .log = hear}};
    r->partial.tool = &r->tool;
    snprintf(r->partial.path, sizeof r->partial.path, "%s", path);
    const facet_digest digest = facet_hash(work, strlen(work));
    facet_partial_begin(&r->partial, &digest);
}

// As the callers do: asks for every record, puts those that are not there. Returns how many were.
static int run_records(run *r, int n)
{
    int taken = 0;
    for (int i = 0; i < n; i++) {
        char data[MOST];
        size_t bytes = 0;
        if (facet_partial_take(&r->partial, data, 1, MOST, &bytes)) {
            assert_int_equal(taken, i); // none after one that was missing
            taken++;
            assert_int_equal(bytes, strlen(records[i]));
            assert_memory_equal(data, records[i], bytes);
        } else {
            facet_partial_put(&r->partial, records[i], strlen(records[i]));
        }
    }
    return taken;
}

// A whole run that ends early with n records done; returns how many it took from the one before.
static int run_all(run *r, const char *work, int n)
{
    run_begin(r, work);
    const int taken = run_records(r, n);
    facet_partial_end(&r->partial, true);
    return taken;
}

static int setup(void **state)
{
    (void)state;
    const char *temp = getenv("TMPDIR");
    if (facet_dir_temp(temp ? temp : "/tmp", "facet-partial", folder, sizeof folder, NULL))
        return 1;
    snprintf(path, sizeof path, "%s/x.masks.partial", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return facet_dir_remove(folder, NULL) != FACET_OK;
}

static void test_taken_up(void **state)
{
    (void)state;
    run r;
    assert_int_equal(run_all(&r, "work", 1), 0);
    assert_int_equal(run_all(&r, "work", 2), 1);
    assert_int_equal(run_all(&r, "work", 2), 2);
    // Ended while it still read: nothing of the rest is lost.
    assert_int_equal(run_all(&r, "work", 1), 1);
    assert_int_equal(run_all(&r, "work", 3), 2);
    assert_int_equal(r.warnings, 0);
    run_begin(&r, "work");
    assert_int_equal(run_records(&r, 3), 3);
    facet_partial_end(&r.partial, false);
    assert_false(facet_path_exists(path));
    size_t bytes;
    assert_false(facet_partial_take(NULL, NULL, 1, 1, &bytes));
    facet_partial_put(NULL, "x", 1);
}

static void test_torn_and_damaged(void **state)
{
    (void)state;
    run r;
    char *whole, *again;
    size_t n, n_again;
    run_all(&r, "work", 3);
    assert_int_equal(facet_file_read(path, 1 << 20, NULL, &whole, &n, NULL), FACET_OK);
    for (size_t i = 0; i < 2 * n; i++) {
        // Cut to i bytes, then the whole file with a flipped bit.
        char copy[1024];
        memcpy(copy, whole, n);
        if (i >= n) copy[i - n] ^= 4;
        assert_int_equal(facet_file_write(path, copy, i < n ? i : n, true, NULL), FACET_OK);
        const int taken = run_all(&r, "work", 3);
        assert_true(taken < 3);
        assert_true(r.warnings <= 1);
        if (i >= n && i < n + 16) { // the magic: somebody else's
            assert_int_equal(taken, 0);
            assert_non_null(strstr(r.warning, "let be"));
            continue;
        }
        assert_int_equal(facet_file_read(path, 1 << 20, NULL, &again, &n_again, NULL), FACET_OK);
        assert_int_equal(n_again, n);
        assert_memory_equal(again, whole, n);
        facet_mem_free(NULL, again);
    }
    facet_mem_free(NULL, whole);
    remove(path);
}

static void test_other_work(void **state)
{
    (void)state;
    run r;
    run_all(&r, "work", 3);
    assert_int_equal(run_all(&r, "another work", 2), 0);
    assert_int_equal(r.warnings, 1);
    assert_non_null(strstr(r.warning, "of another command"));
    assert_int_equal(run_all(&r, "another work", 2), 2);
    // A record of another size than the work wants is none.
    run_begin(&r, "another work");
    char data[MOST];
    size_t bytes;
    assert_false(facet_partial_take(&r.partial, data, 6, MOST, &bytes));
    facet_partial_end(&r.partial, false);
}

// What is none of ours is neither read nor written nor removed.
static void test_let_be(void **state)
{
    (void)state;
    run r;
    char *text;
    size_t n;
    assert_int_equal(facet_file_write(path, "my own notes", 12, true, NULL), FACET_OK);
    run_begin(&r, "work");
    assert_int_equal(run_records(&r, 2), 0);
    facet_partial_end(&r.partial, false);
    assert_int_equal(r.warnings, 1);
    assert_int_equal(facet_file_read(path, 100, NULL, &text, &n, NULL), FACET_OK);
    assert_string_equal(text, "my own notes");
    facet_mem_free(NULL, text);
    remove(path);
    char target[4300];
    snprintf(target, sizeof target, "%s/target", folder);
    assert_int_equal(symlink(target, path), 0);
    assert_int_equal(run_all(&r, "work", 2), 0);
    assert_int_equal(r.warnings, 1);
    assert_false(facet_path_exists(target));
    remove(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(run_all(&r, "work", 2), 0);
    assert_int_equal(r.warnings, 1);
    remove(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(run_all(&r, "work", 2), 0);
    assert_int_equal(r.warnings, 1);
    rmdir(path);
}

static void test_two_at_once(void **state)
{
    (void)state;
    run first, second;
    run_begin(&first, "work");
    run_records(&first, 1);
    assert_int_equal(run_all(&second, "work", 2), 0);
    assert_non_null(strstr(second.warning, "another process"));
    facet_partial_end(&first.partial, true);
    assert_int_equal(run_all(&second, "work", 2), 1);
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken_up),    cmocka_unit_test(test_torn_and_damaged),
        cmocka_unit_test(test_other_work),  cmocka_unit_test(test_let_be),
        cmocka_unit_test(test_two_at_once),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
