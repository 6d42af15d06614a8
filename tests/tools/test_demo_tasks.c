// SPDX-License-Identifier: Apache-2.0
// The task files under demo/: facet reads each of them; a narrow task has one instruction, enough
// records and no two inputs that are copies of each other.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <glob.h>

#include "base/memory.h"
#include "tools/taskfile.h"

// Two texts of one kind may share a phrase; more than a few sequences of 8 words are a template.
enum { narrow_records = 80, gram_words = 8, shared_max = 3, input_words = 512 };

// Positions of the words; words beyond the bound would go unseen and fail the test instead.
static size_t split_words(const char *text, const char **begin, const char **end)
{
    static const char blank[] = " \t\r\n";
    size_t n = 0;
    for (text += strspn(text, blank); *text != '\0'; text += strspn(text, blank)) {
        assert_true(n < input_words);
        begin[n] = text;
        text += strcspn(text, blank);
        end[n++] = text;
    }
    return n;
}

static bool same_words(const char *const *begin_a, const char *const *end_a,
                       const char *const *begin_b, const char *const *end_b)
{
    for (int i = 0; i < gram_words; i++) {
        const size_t length = (size_t)(end_a[i] - begin_a[i]);
        if (length != (size_t)(end_b[i] - begin_b[i])) return false;
        if (memcmp(begin_a[i], begin_b[i], length) != 0) return false;
    }
    return true;
}

// How many sequences of 8 words of `a` stand in `b` as well.
static size_t count_shared(const char *a, const char *b)
{
    const char *begin_a[input_words], *end_a[input_words];
    const char *begin_b[input_words], *end_b[input_words];
    const size_t n = split_words(a, begin_a, end_a), m = split_words(b, begin_b, end_b);
    size_t shared = 0;
    for (size_t i = 0; i + gram_words <= n; i++) {
        bool found = false;
        for (size_t j = 0; j + gram_words <= m && !found; j++)
            found = same_words(begin_a + i, end_a + i, begin_b + j, end_b + j);
        shared += found;
    }
    return shared;
}

static void load(const char *path, facet_task_file *file)
{
    facet_err err = {.offset = -1};
    if (facet_task_file_load(path, file, &err) != FACET_OK) fail_msg("%s", err.message);
}

// Paths of the task files that `pattern`, below demo/, names; globfree frees.
static void find_files(const char *pattern, glob_t *found)
{
    const char *source = getenv("FACET_SOURCE");
    if (source == NULL) fail_msg("FACET_SOURCE is not set; run the test through ctest");
    char path[4096];
    assert_true(snprintf(path, sizeof path, "%s/demo/%s", source, pattern) < (int)sizeof path);
    assert_int_equal(glob(path, 0, NULL, found), 0);
}

static void shared_sequences_are_counted(void **state)
{
    (void)state;
    assert_int_equal(count_shared("a b c d e f g h i", "x a b c d e f g h"), 1);
    assert_int_equal(count_shared("a b c d e f g h i", "a b  c d\ne f g h i"), 2);
    assert_int_equal(count_shared("a b c d e f g h", "a b c d e f g hh"), 0);
    assert_int_equal(count_shared("a b c", "a b c"), 0);
}

static void every_file_is_read(void **state)
{
    (void)state;
    glob_t found;
    find_files("*/*.jsonl", &found);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        facet_task_file file = {0};
        load(found.gl_pathv[i], &file);
        for (size_t k = 0; k < file.n; k++)
            if (file.records[k].completion != NULL)
                fail_msg("%s: record %zu has a completion; the dense model's answers calibrate",
                         file.path, k + 1);
        facet_task_file_fini(&file);
    }
    globfree(&found);
}

// The input of a record: what follows the first empty line; checks that `head` precedes it.
static const char *find_input(const facet_task_file *file, size_t record, const char *head,
                              size_t head_bytes)
{
    const facet_task_record *r = &file->records[record];
    if (r->n_messages != 1 || strcmp(r->messages[0].role, "user") != 0)
        fail_msg("%s: record %zu is not one message of the user", file->path, record + 1);
    const char *text = r->messages[0].content;
    if (strncmp(text, head, head_bytes) != 0)
        fail_msg("%s: record %zu has another instruction", file->path, record + 1);
    if (text[head_bytes] == '\0') fail_msg("%s: record %zu has no input", file->path, record + 1);
    return text + head_bytes;
}

static void check_narrow(const facet_task_file *file)
{
    if (file->n < narrow_records)
        fail_msg("%s: has %zu records, fewer than %d", file->path, file->n, narrow_records);
    const char *head = file->records[0].messages[0].content, *gap = strstr(head, "\n\n");
    if (gap == NULL) fail_msg("%s: no empty line ends the instruction", file->path);
    const size_t head_bytes = (size_t)(gap - head) + 2;
    const char **inputs = facet_mem_new(NULL, file->n, sizeof *inputs);
    assert_non_null(inputs);
    for (size_t i = 0; i < file->n; i++) {
        inputs[i] = find_input(file, i, head, head_bytes);
        for (size_t k = 0; k < i; k++) {
            if (strcmp(inputs[i], inputs[k]) == 0)
                fail_msg("%s: records %zu and %zu are equal", file->path, k + 1, i + 1);
            const size_t shared = count_shared(inputs[i], inputs[k]);
            if (shared > shared_max)
                fail_msg("%s: records %zu and %zu share %zu sequences of %d words", file->path,
                         k + 1, i + 1, shared, gram_words);
        }
    }
    facet_mem_free(NULL, inputs);
}

static void narrow_tasks_are_narrow(void **state)
{
    (void)state;
    glob_t found;
    find_files("narrow/*.jsonl", &found);
    assert_true(found.gl_pathc >= 5);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        facet_task_file file = {0};
        load(found.gl_pathv[i], &file);
        check_narrow(&file);
        facet_task_file_fini(&file);
    }
    globfree(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_sequences_are_counted),
        cmocka_unit_test(every_file_is_read),
        cmocka_unit_test(narrow_tasks_are_narrow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
