// SPDX-License-Identifier: Apache-2.0
// Files, directories and processes: whole or not at all, nothing left behind.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/process.h"

static char root[256];

static const char *in_root(const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

static int set_up(void **state)
{
    (void)state;
    return facet_dir_temp("/tmp", "test", root, sizeof root, NULL) == FACET_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return facet_dir_remove(root, NULL) == FACET_OK ? 0 : -1;
}

static facet_status count_entry(void *ctx, const char *name, facet_err *err)
{
    (void)name, (void)err;
    ++*(int *)ctx;
    return FACET_OK;
}

static int entries(void)
{
    int n = 0;
    assert_int_equal(facet_dir_each(root, count_entry, &n, NULL), FACET_OK);
    return n;
}

static void assert_content(const char *path, const char *expected)
{
    char *data;
    size_t bytes;
    assert_int_equal(facet_file_read(path, 100, NULL, &data, &bytes, NULL), FACET_OK);
    assert_string_equal(data, expected);
    facet_mem_free(NULL, data);
}

static void output_is_whole_or_absent(void **state)
{
    (void)state;
    facet_err err;
    const char *path = in_root("a");
    assert_int_equal(facet_file_write(path, "one", 3, false, &err), FACET_OK);
    assert_int_equal(facet_file_write(path, "two", 3, false, &err), FACET_REFUSED);
    assert_content(path, "one");
    assert_int_equal(facet_file_write(path, "two", 3, true, &err), FACET_OK);
    assert_content(path, "two");
    facet_out out;
    assert_int_equal(facet_out_open(&out, in_root("b"), false, &err), FACET_OK);
    assert_int_equal(facet_out_write(&out, "x", 1, &err), FACET_OK);
    assert_int_equal(facet_out_pad(&out, 8192, &err), FACET_OK);
    assert_int_equal(out.bytes, 8192);
    facet_out_abort(&out);
    assert_int_equal(entries(), 1);
    // The name appears while we write: it is not ours to replace.
    assert_int_equal(facet_out_open(&out, in_root("b"), false, &err), FACET_OK);
    assert_int_equal(facet_file_write(in_root("b"), "theirs", 6, false, &err), FACET_OK);
    assert_int_equal(facet_out_commit(&out, &err), FACET_REFUSED);
    facet_out_abort(&out);
    assert_content(in_root("b"), "theirs");
    assert_int_equal(entries(), 2);
}

static void reading_says_why_not(void **state)
{
    (void)state;
    facet_err err;
    facet_map map;
    char *data;
    size_t bytes;
    assert_int_equal(facet_map_open(in_root("gone"), &map, &err), FACET_NOT_FOUND);
    assert_non_null(strstr(err.message, "gone"));
    assert_int_equal(facet_map_open(root, &map, &err), FACET_BAD_INPUT);
    assert_int_equal(facet_file_read(in_root("b"), 2, NULL, &data, &bytes, &err), FACET_BAD_FILE);
    assert_int_equal(facet_file_write(in_root("empty"), "", 0, false, &err), FACET_OK);
    assert_int_equal(facet_map_open(in_root("empty"), &map, &err), FACET_OK);
    assert_int_equal(map.bytes, 0);
    facet_map_close(&map);
    assert_int_equal(facet_file_write(in_root("no/such/dir"), "", 0, false, &err), FACET_NOT_FOUND);
}

static void directories_are_published_whole(void **state)
{
    (void)state;
    facet_err err;
    char temp[512];
    for (int round = 0; round < 2; round++) {
        assert_int_equal(facet_dir_temp(root, "new", temp, sizeof temp, &err), FACET_OK);
        char inner[600];
        assert_int_equal(facet_path_join(inner, sizeof inner, temp, "f", &err), FACET_OK);
        assert_int_equal(facet_file_write(inner, round ? "new" : "old", 3, false, &err), FACET_OK);
        assert_int_equal(facet_dir_sync(temp, &err), FACET_OK);
        if (round == 1)
            assert_int_equal(facet_dir_publish(temp, in_root("dir"), false, &err), FACET_REFUSED);
        assert_int_equal(facet_dir_publish(temp, in_root("dir"), round == 1, &err), FACET_OK);
        assert_false(facet_path_exists(temp));
        assert_content(in_root("dir/f"), round ? "new" : "old");
    }
    assert_int_equal(facet_dir_make_all(in_root("p/q/r"), 0700, &err), FACET_OK);
    assert_int_equal(symlink(in_root("dir"), in_root("p/link")), 0);
    assert_int_equal(facet_dir_remove(in_root("p"), &err), FACET_OK);
    assert_content(in_root("dir/f"), "new"); // the link was removed, not followed
}

static bool is_there(void *path)
{
    return facet_path_exists(path);
}

static void errors_apart_and_interrupts(void **state)
{
    (void)state;
    facet_err err;
    facet_text output;
    facet_process_result result;
    facet_text_init(&output, NULL);
    const char *hello[] = {"sh", "-c", "echo hello; echo there >&2", NULL};
    const facet_process_opts drop = {.errors = FACET_PROCESS_ERRORS_DROP};
    assert_int_equal(facet_process_run(hello, &drop, &output, &result, &err), FACET_OK);
    assert_string_equal(facet_text_str(&output), "hello\n");
    assert_false(result.cut);
    // Asked to end when it is ready, one still says good-bye; the other does not listen.
    char ready[4096], bye[4096];
    assert_int_equal(facet_path_join(ready, sizeof ready, root, "ready", &err), FACET_OK);
    assert_int_equal(facet_path_join(bye, sizeof bye, root, "bye", &err), FACET_OK);
    const facet_report report = {.ctx = ready, .cancelled = is_there};
    const facet_process_opts asked = {.cwd = root, .report = &report};
    const char *polite[] = {"sh", "-c",
                            "trap 'echo > bye; exit' TERM; sleep 30 & echo > ready; wait", NULL};
    const char *deaf[] = {"sh", "-c", "trap '' TERM; echo > ready; while :; do sleep 30; done",
                          NULL};
    assert_int_equal(facet_process_run(polite, &asked, &output, &result, &err), FACET_INTERRUPTED);
    assert_true(facet_path_exists(bye));
    assert_int_equal(unlink(ready), 0);
    assert_int_equal(facet_process_run(deaf, &asked, NULL, &result, &err), FACET_INTERRUPTED);
    assert_int_equal(unlink(ready), 0);
    assert_int_equal(unlink(bye), 0);
    facet_text_fini(&output);
}

static void processes_end_and_are_heard(void **state)
{
    (void)state;
    facet_err err;
    facet_text output;
    facet_text_init(&output, NULL);
    facet_process_result result;
    const char *hello[] = {"sh", "-c", "echo hello; echo there >&2; exit 3", NULL};
    assert_int_equal(facet_process_run(hello, NULL, &output, &result, &err), FACET_OK);
    assert_int_equal(result.exit_status, 3);
    assert_string_equal(facet_text_str(&output), "hello\nthere\n");
    const char *slow[] = {"sleep", "30", NULL};
    const facet_process_opts opts = {.timeout_ms = 200};
    assert_int_equal(facet_process_run(slow, &opts, NULL, &result, &err), FACET_OK);
    assert_true(result.timed_out);
    const char *where[] = {"pwd", NULL};
    const facet_process_opts there = {.cwd = "/"};
    facet_text_clear(&output);
    assert_int_equal(facet_process_run(where, &there, &output, &result, &err), FACET_OK);
    assert_string_equal(facet_text_str(&output), "/\n");
    const char *gone[] = {"no-such-program-at-all", NULL};
    assert_int_equal(facet_process_run(gone, NULL, NULL, &result, &err), FACET_NOT_FOUND);
    const char *loud[] = {"sh", "-c", "yes | head -c 3000000", NULL};
    facet_text_clear(&output);
    assert_int_equal(facet_process_run(loud, NULL, &output, &result, &err), FACET_OK);
    assert_in_range(output.length, 1u << 20, (1u << 20) + 4096);
    assert_true(result.cut);
    facet_text_fini(&output);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_is_whole_or_absent),
        cmocka_unit_test(reading_says_why_not),
        cmocka_unit_test(directories_are_published_whole),
        cmocka_unit_test(processes_end_and_are_heard),
        cmocka_unit_test(errors_apart_and_interrupts),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
