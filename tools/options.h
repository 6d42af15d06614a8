// SPDX-License-Identifier: Apache-2.0
// Options as tables: one row says how an option is spelled, parsed, checked and explained, so that
// --help, the parser and the man pages cannot drift apart. In: argv. Out: a struct filled.
#ifndef FACET_TOOLS_OPTIONS_H
#define FACET_TOOLS_OPTIONS_H

#include <stddef.h>

#include "base/text.h"

typedef struct facet_strings {
    const char **items; // borrowed texts; the array is freed with facet_strings_fini
    size_t n;
} facet_strings;

facet_status facet_strings_add(facet_strings *strings, const char *item, facet_err *err);
void facet_strings_fini(facet_strings *strings);

typedef enum facet_option_kind {
    FACET_OPTION_FLAG,   // bool
    FACET_OPTION_COUNT,  // uint64_t from min to max
    FACET_OPTION_REAL,   // double from min to max (above min when `above`)
    FACET_OPTION_TEXT,   // const char *
    FACET_OPTION_CHOICE, // const char *, one of `choices`
    FACET_OPTION_LIST,   // facet_strings, one a use
    FACET_OPTION_LATER,  // known, but not built yet: always wrong usage
} facet_option_kind;

typedef struct facet_option {
    const char *name;  // "--keep", "-n"
    const char *alias; // another spelling, or NULL
    facet_option_kind kind;
    size_t offset;       // of the field in the command's struct
    const char *value;   // how the value is called in the help, NULL for a flag
    const char *help;    // one sentence
    const char *choices; // CHOICE: "auto|strict"; values that are not built yet follow: "/cuda"
    double min, max;
    bool above;
} facet_option;

// Rows of a table. `field` is an offset; `choices` are shown as they stand up to the first '/'.
#define FACET_OPT_FLAG(name_, alias_, field, help_)                                                \
    {                                                                                              \
        .name = name_, .alias = alias_, .kind = FACET_OPTION_FLAG, .offset = field, .help = help_  \
    }
#define FACET_OPT_COUNT(name_, alias_, field, value_, help_, min_, max_)                           \
    {                                                                                              \
        .name = name_, .alias = alias_, .kind = FACET_OPTION_COUNT, .offset = field,               \
        .value = value_, .help = help_, .min = min_, .max = max_                                   \
    }
#define FACET_OPT_REAL(name_, field, value_, help_, min_, max_, above_)                            \
    {                                                                                              \
        .name = name_, .kind = FACET_OPTION_REAL, .offset = field, .value = value_, .help = help_, \
        .min = min_, .max = max_, .above = above_                                                  \
    }
#define FACET_OPT_TEXT(name_, alias_, field, value_, help_)                                        \
    {                                                                                              \
        .name = name_, .alias = alias_, .kind = FACET_OPTION_TEXT, .offset = field,                \
        .value = value_, .help = help_                                                             \
    }
#define FACET_OPT_CHOICE(name_, field, choices_, help_)                                            \
    {                                                                                              \
        .name = name_, .kind = FACET_OPTION_CHOICE, .offset = field, .value = "one",               \
        .help = help_, .choices = choices_                                                         \
    }
#define FACET_OPT_LIST(name_, field, value_, help_)                                                \
    {                                                                                              \
        .name = name_, .kind = FACET_OPTION_LIST, .offset = field, .value = value_, .help = help_  \
    }
#define FACET_OPT_LATER(name_, help_)                                                              \
    {                                                                                              \
        .name = name_, .kind = FACET_OPTION_LATER, .help = help_                                   \
    }
#define FACET_OPT_END                                                                              \
    {                                                                                              \
        .name = NULL                                                                               \
    }

// Parses `argc` words after the command into `opts` by two tables (the command's and the common
// one) and collects the rest in `args`. --name=value works for long options; "--" ends options.
typedef struct facet_option_group {
    const facet_option *options; // ends with a NULL name
    void *opts;
} facet_option_group;
facet_status facet_options_parse(const facet_option_group groups[2], const char *command, int argc,
                                 char **argv, facet_strings *args, facet_err *err);
// Frees the lists of a struct that was parsed.
void facet_options_fini(const facet_option *options, void *opts);
// Appends one line an option.
void facet_options_help(const facet_option *options, facet_text *out);

#endif
