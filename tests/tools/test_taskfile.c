// SPDX-License-Identifier: Apache-2.0
// Task files: what is read, and what each fault says.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tools/output.h"
#include "tools/taskfile.h"

static facet_status parse(const char *text, const char *path, facet_task_file *file, facet_err *err)
{
    return facet_task_file_parse(text, strlen(text), path, file, err);
}

static void reads_records(void **state)
{
    (void)state;
    facet_task_file file = {0};
    facet_err err;
    const char *text = "{\"prompt\": \"a\", \"id\": 7}\n"
                       "\n"
                       "{\"prompt\": \"b\\\\u0000\", \"completion\": \"c\"}\r\n"
                       "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, "
                       "{\"role\": \"user\", \"content\": \"u\"}, "
                       "{\"role\": \"assistant\", \"content\": \"v\"}]}";
    assert_int_equal(parse(text, "x.jsonl", &file, &err), FACET_OK);
    assert_int_equal(file.n, 3);
    assert_null(file.text);
    assert_string_equal(file.records[0].messages[0].content, "a");
    assert_null(file.records[0].completion);
    assert_string_equal(file.records[1].messages[0].content, "b\\u0000");
    assert_string_equal(file.records[1].completion, "c");
    assert_int_equal(file.records[1].line, 3);
    assert_int_equal(file.records[2].n_messages, 2);
    assert_string_equal(file.records[2].completion, "v");
    assert_false(file.records[2].is_prompt);
    facet_task_file_fini(&file);
    assert_int_equal(parse("any text\n", "x.txt", &file, &err), FACET_OK);
    assert_int_equal(file.bytes, 9);
    facet_task_file_fini(&file);
}

static void names_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word;
    } faults[] = {
        {"{\"prompt\": 3}", "must be text"},
        {"nothing", "JSON"},
        {"[1]", "no JSON object"},
        {"{\"a\": 1}", "\"prompt\""},
        {"{\"prompt\": \"\"}", "empty"},
        {"{\"prompt\": \"a\", \"messages\": []}", "one of"},
        {"{\"messages\": []}", "messages"},
        {"{\"messages\": [{\"role\": \"user\"}]}", "lacks"},
        {"{\"messages\": [{\"role\": \"dog\", \"content\": \"x\"}]}", "role"},
        {"{\"messages\": [{\"role\": \"assistant\", \"content\": \"x\"}]}", "nobody"},
        {"{\"prompt\": \"a\\u0000b\"}", "zero"},
        {"{\"prompt\": \"\xff\"}", "UTF-8"},
    };
    for (size_t i = 0; i < FACET_COUNT_OF(faults); i++) {
        facet_task_file file = {0};
        facet_err err = {0};
        char text[256];
        (void)snprintf(text, sizeof text, "{\"prompt\": \"good\"}\n%s\n", faults[i].text);
        assert_int_equal(parse(text, "x.jsonl", &file, &err), FACET_BAD_INPUT);
        assert_int_equal(err.offset, 2);
        assert_string_equal(err.file, "x.jsonl");
        if (strstr(err.message, faults[i].word) == NULL) fail_msg("%s", err.message);
        assert_int_equal(file.n, 0);
    }
}

static void refuses_empty_files(void **state)
{
    (void)state;
    facet_task_file file = {0};
    assert_int_equal(parse("", "x.jsonl", &file, NULL), FACET_BAD_INPUT);
    assert_int_equal(parse(" \n\n", "x.jsonl", &file, NULL), FACET_BAD_INPUT);
    assert_int_equal(parse("", "x.txt", &file, NULL), FACET_BAD_INPUT);
    assert_int_equal(parse("x", "x.csv", &file, NULL), FACET_BAD_INPUT);
}

static void mends_utf8(void **state)
{
    (void)state;
    facet_text out;
    facet_text_init(&out, NULL);
    facet_utf8_clean("a\xff\xe2\x82z\xed\xa0\x80", 8, &out);
    assert_true(facet_utf8_valid(out.data, out.length));
    assert_int_equal(out.data[0], 'a');
    assert_non_null(strchr(out.data, 'z'));
    facet_text_fini(&out);
    assert_int_equal(facet_utf8_whole("ab\xe2\x82", 4), 2);
    assert_int_equal(facet_utf8_whole("ab\xe2\x82\xac", 5), 5);
    assert_int_equal(facet_utf8_whole("ab\xff", 3), 3);
    assert_int_equal(facet_utf8_whole("", 0), 0);
    assert_false(facet_utf8_valid("\xc0\x80", 2));
    assert_true(facet_utf8_valid("\xf4\x8f\xbf\xbf", 4));
    assert_false(facet_utf8_valid("\xf4\x90\x80\x80", 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_records),
        cmocka_unit_test(names_the_line),
        cmocka_unit_test(refuses_empty_files),
        cmocka_unit_test(mends_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
