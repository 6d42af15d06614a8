// SPDX-License-Identifier: Apache-2.0
// The facet command: what every command gets (facet_tool) and what every command is
// (facet_command). tools/ is the only room that prints, exits or reads the environment; it joins
// rooms that must not know each other (runtime and compiler) by tables of callbacks.
#ifndef FACET_TOOLS_TOOL_H
#define FACET_TOOLS_TOOL_H

#include "base/report.h"
#include "products/product.h"
#include "tools/options.h"

typedef enum facet_tool_mode {
    FACET_TOOL_AUTO,
    FACET_TOOL_STRICT,
    FACET_TOOL_GENERIC,
    FACET_TOOL_REBUILD,
} facet_tool_mode;

// What the environment says; read once, in main. NULL: unset or empty.
typedef struct facet_tool_env {
    const char *cache;    // FACET_CACHE: the cache directory
    const char *xdg;      // XDG_CACHE_HOME: parent of the default cache directory
    const char *home;     // HOME: the same, by way of .cache
    const char *temp;     // TMPDIR: parent of a private cache when the default one is unusable
    const char *compiler; // CC: the C compiler
    const char *isa;      // FACET_ISA: a target's name, as if this CPU had nothing better
} facet_tool_env;

typedef struct facet_tool {
    const char *command;
    bool json, quiet, verbose;
    bool answered; // the one JSON document is out; an error is then told on standard error only
    uint32_t n_threads;
    facet_precision precision; // of calibration's products
    facet_tool_mode mode;
    const char *cache; // --cache
    facet_tool_env env;
    facet_report report; // log, progress and the question whether a signal came
    facet_log log;       // the same log, as the runtime wants it
} facet_tool;

// One command. `run` gets its options in the struct that `options` fill (copied from `defaults`).
typedef struct facet_command {
    const char *name, *summary, *usage, *example;
    const facet_option *options; // ends with a NULL name
    const void *defaults;        // `bytes` of it
    size_t bytes;
    unsigned min_args, max_args;
    facet_status (*run)(facet_tool *tool, const void *opts, const facet_strings *args,
                        facet_err *err);
} facet_command;

extern const facet_command facet_command_inspect, facet_command_tokenize, facet_command_predict,
    facet_command_cluster, facet_command_plan, facet_command_compile, facet_command_build,
    facet_command_run, facet_command_eval, facet_command_bench, facet_command_verify,
    facet_command_cache;

#endif
