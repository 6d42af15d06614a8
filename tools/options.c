// SPDX-License-Identifier: Apache-2.0
#include "tools/options.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

facet_status facet_strings_add(facet_strings *strings, const char *item, facet_err *err)
{
    const char **items = facet_mem_resize(NULL, strings->items, strings->n + 1, sizeof *items);
    if (items == NULL) return facet_fail_memory(err, (strings->n + 1) * sizeof *items);
    items[strings->n++] = item;
    strings->items = items;
    return FACET_OK;
}

void facet_strings_fini(facet_strings *strings)
{
    facet_mem_free(NULL, strings->items);
    *strings = (facet_strings){0};
}

// Are the first `n` bytes of `value` one of the words of `list`, which end at '|', '/' or the end?
static bool has_word(const char *list, const char *value, size_t n)
{
    for (const char *word = list; n > 0 && word != NULL && *word != '\0';) {
        size_t length = strcspn(word, "|/");
        if (length == n && memcmp(word, value, n) == 0) return true;
        word += length;
        if (*word != '\0') word++;
    }
    return false;
}

static facet_status set_choice(const facet_option *option, const char *command, const char *value,
                               facet_err *err)
{
    const char *later = strchr(option->choices, '/');
    // "cuda:1" is as little built as "cuda".
    if (later != NULL && has_word(later + 1, value, strcspn(value, ":")))
        return facet_fail(err, FACET_USAGE, "%s %s: is not built yet; see facet %s --help",
                          option->name, value, command);
    if (!has_word(option->choices, value, strlen(value)))
        return facet_fail(err, FACET_USAGE, "%s %s: is none of %.*s; see facet %s --help",
                          option->name, value, (int)strcspn(option->choices, "/"), option->choices,
                          command);
    return FACET_OK;
}

static facet_status set_number(const facet_option *option, const char *command, const char *value,
                               void *field, facet_err *err)
{
    uint64_t count = 0;
    double real = 0;
    bool whole = option->kind == FACET_OPTION_COUNT;
    bool ok = whole ? facet_parse_u64(value, &count) : facet_parse_double(value, &real);
    if (whole) real = (double)count;
    // Written so that NaN is refused as well.
    ok = ok && (option->above ? real > option->min : real >= option->min) && real <= option->max;
    if (!ok)
        return facet_fail(err, FACET_USAGE,
                          "%s %s: must be a %snumber %s %.9g and at most %.9g; see facet %s --help",
                          option->name, value, whole ? "whole " : "",
                          option->above ? "above" : "from", option->min, option->max, command);
    if (whole)
        *(uint64_t *)field = count;
    else
        *(double *)field = real;
    return FACET_OK;
}

static facet_status set(const facet_option *option, const char *command, void *opts,
                        const char *value, facet_err *err)
{
    void *field = (char *)opts + option->offset;
    switch (option->kind) {
    case FACET_OPTION_FLAG:
        *(bool *)field = true;
        return FACET_OK;
    case FACET_OPTION_COUNT:
    case FACET_OPTION_REAL:
        return set_number(option, command, value, field, err);
    case FACET_OPTION_LIST:
        return facet_strings_add(field, value, err);
    case FACET_OPTION_CHOICE:
        FACET_TRY(set_choice(option, command, value, err));
        break;
    case FACET_OPTION_TEXT:
        break;
    case FACET_OPTION_LATER:
        return facet_fail(err, FACET_USAGE, "%s: is not built yet; see facet %s --help",
                          option->name, command);
    }
    *(const char **)field = value;
    return FACET_OK;
}

static bool spelled(const char *name, const char *word, size_t length)
{
    return name != NULL && strlen(name) == length && memcmp(name, word, length) == 0;
}

// The option that the first `length` bytes of a word spell, and the struct it belongs to.
static const facet_option *find(const facet_option_group groups[2], const char *word, size_t length,
                                void **opts)
{
    for (int i = 0; i < 2; i++) {
        for (const facet_option *o = groups[i].options; o->name != NULL; o++) {
            if (!spelled(o->name, word, length) && !spelled(o->alias, word, length)) continue;
            *opts = groups[i].opts;
            return o;
        }
    }
    return NULL;
}

static bool takes_value(const facet_option *option)
{
    return option->kind != FACET_OPTION_FLAG && option->kind != FACET_OPTION_LATER;
}

facet_status facet_options_parse(const facet_option_group groups[2], const char *command, int argc,
                                 char **argv, facet_strings *args, facet_err *err)
{
    bool ended = false;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        // A lone "-" is standard input, an argument.
        if (ended || word[0] != '-' || word[1] == '\0') {
            FACET_TRY(facet_strings_add(args, word, err));
            continue;
        }
        if (strcmp(word, "--") == 0) {
            ended = true;
            continue;
        }
        const char *equals = word[1] == '-' ? strchr(word, '=') : NULL;
        size_t length = equals != NULL ? (size_t)(equals - word) : strlen(word);
        void *opts = NULL;
        const facet_option *option = find(groups, word, length, &opts);
        if (option == NULL)
            return facet_fail(err, FACET_USAGE, "%.*s: is no option of %s; see facet %s --help",
                              (int)(length < 80 ? length : 80), word, command, command);
        const char *value = equals != NULL ? equals + 1 : NULL;
        if (value != NULL && option->kind == FACET_OPTION_FLAG)
            return facet_fail(err, FACET_USAGE, "%s: takes no value; see facet %s --help",
                              option->name, command);
        if (value == NULL && takes_value(option)) {
            if (i + 1 >= argc)
                return facet_fail(err, FACET_USAGE, "%s: needs a value %s; see facet %s --help",
                                  option->name, option->value, command);
            value = argv[++i];
        }
        FACET_TRY(set(option, command, opts, value, err));
    }
    return FACET_OK;
}

void facet_options_fini(const facet_option *options, void *opts)
{
    for (const facet_option *o = options; o->name != NULL; o++) {
        if (o->kind != FACET_OPTION_LIST) continue;
        facet_strings_fini((facet_strings *)(void *)((char *)opts + o->offset));
    }
}

void facet_options_help(const facet_option *options, facet_text *out)
{
    enum { COLUMN = 26 };
    for (const facet_option *o = options; o->name != NULL; o++) {
        size_t begin = out->length;
        facet_text_add(out, "  %s", o->name);
        if (o->alias != NULL) facet_text_add(out, ", %s", o->alias);
        if (o->kind == FACET_OPTION_CHOICE)
            facet_text_add(out, " %.*s", (int)strcspn(o->choices, "/"), o->choices);
        else if (o->value != NULL)
            facet_text_add(out, " %s", o->value);
        size_t width = out->length - begin;
        if (width >= COLUMN) {
            facet_text_puts(out, "\n");
            width = 0;
        }
        facet_text_add(out, "%*s%s%s\n", (int)(COLUMN - width), "", o->help,
                       o->kind == FACET_OPTION_LATER ? " (not built yet)" : "");
    }
}
