// SPDX-License-Identifier: Apache-2.0
// Options as tables: spellings, ranges, and what is refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tools/options.h"

typedef struct some_opts {
    bool flag;
    uint64_t count;
    double real;
    const char *text, *choice;
    facet_strings list;
} some_opts;

#define FIELD(field) offsetof(some_opts, field)
static const facet_option table[] = {
    FACET_OPT_FLAG("--flag", "-g", FIELD(flag), "A flag."),
    FACET_OPT_COUNT("--count", "-n", FIELD(count), "N", "A count.", 1, 10),
    FACET_OPT_REAL("--real", FIELD(real), "R", "A share.", 0, 1, true),
    FACET_OPT_TEXT("--text", NULL, FIELD(text), "T", "A text."),
    FACET_OPT_CHOICE("--choice", FIELD(choice), "one|two/three|four", "A choice."),
    FACET_OPT_LIST("--item", FIELD(list), "I", "An item."),
    FACET_OPT_LATER("--later", "Some day."),
    FACET_OPT_END,
};
static const facet_option none[] = {FACET_OPT_END};

enum { WORDS_MAX = 8 };

// Parses the words of a line; the caller frees lists.
static facet_status parse(const char *line, some_opts *opts, facet_strings *args, facet_err *err)
{
    static char copy[256];
    char *words[WORDS_MAX];
    int n = 0;
    *opts = (some_opts){0};
    *args = (facet_strings){0};
    (void)snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word != NULL && n < WORDS_MAX; word = strtok(NULL, " "))
        words[n++] = word;
    int unused = 0;
    const facet_option_group groups[2] = {{table, opts}, {none, &unused}};
    return facet_options_parse(groups, "test", n, words, args, err);
}

static void fini(some_opts *opts, facet_strings *args)
{
    facet_options_fini(table, opts);
    facet_strings_fini(args);
}

static void reads_every_kind(void **state)
{
    (void)state;
    some_opts opts;
    facet_strings args;
    assert_int_equal(parse("-g --count=7 a --real 0.5 -- --text", &opts, &args, NULL), FACET_OK);
    assert_true(opts.flag);
    assert_int_equal(opts.count, 7);
    assert_true(opts.real > 0.49 && opts.real < 0.51);
    assert_int_equal(args.n, 2);
    assert_string_equal(args.items[1], "--text");
    fini(&opts, &args);
    assert_int_equal(parse("--item a --item b=c --choice two - --text=", &opts, &args, NULL),
                     FACET_OK);
    assert_int_equal(opts.list.n, 2);
    assert_string_equal(opts.list.items[1], "b=c");
    assert_string_equal(opts.choice, "two");
    assert_string_equal(opts.text, "");
    assert_string_equal(args.items[0], "-");
    fini(&opts, &args);
}

static void refuses(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "--nothing",  "-x",         "--count 0",        "--count 11",  "--count 1.5",
        "--count -1", "--count",    "--real 0",         "--real 1.01", "--real nan",
        "--flag=yes", "--choice",   "--choice three",   "--choice tw", "--later",
        "--count=",   "--real 1e9", "--choice one|two", "--real 0,5",  "--choice four:1",
    };
    for (size_t i = 0; i < FACET_COUNT_OF(lines); i++) {
        some_opts opts;
        facet_strings args;
        facet_err err = {0};
        if (parse(lines[i], &opts, &args, &err) != FACET_USAGE) fail_msg("%s passed", lines[i]);
        assert_non_null(strstr(err.message, "facet test --help"));
        fini(&opts, &args);
    }
}

static void says_what_is_not_built(void **state)
{
    (void)state;
    some_opts opts;
    facet_strings args;
    facet_err err = {0};
    assert_int_equal(parse("--choice four", &opts, &args, &err), FACET_USAGE);
    assert_non_null(strstr(err.message, "not built yet"));
    fini(&opts, &args);
}

static void explains_every_option(void **state)
{
    (void)state;
    facet_text text;
    facet_text_init(&text, NULL);
    facet_options_help(table, &text);
    for (const facet_option *o = table; o->name != NULL; o++) {
        assert_non_null(strstr(text.data, o->name));
        assert_non_null(strstr(text.data, o->help));
    }
    assert_null(strstr(text.data, "three"));
    facet_text_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_kind),
        cmocka_unit_test(refuses),
        cmocka_unit_test(says_what_is_not_built),
        cmocka_unit_test(explains_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
