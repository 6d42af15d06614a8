// SPDX-License-Identifier: Apache-2.0
// The facet command: a table of commands, the options they share, and what becomes of their status.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"
#include "compiler/target.h"
#include "tools/output.h"
#include "tools/signals.h"

static const facet_command *const commands[] = {
    &facet_command_inspect, &facet_command_tokenize, &facet_command_predict, &facet_command_cluster,
    &facet_command_plan,    &facet_command_compile,  &facet_command_build,   &facet_command_run,
    &facet_command_eval,    &facet_command_bench,    &facet_command_verify,  &facet_command_cache,
};

// Names that the contract has settled and that are not built yet.
static const char *const later[] = {"tune", "train", "serve", "export", "report"};

typedef struct common_opts {
    bool help, json, quiet, verbose;
    uint64_t threads;
    const char *cache, *mode, *device;
} common_opts;

enum { THREADS_MAX = 1024 };

#define COMMON(field) offsetof(common_opts, field)
static const facet_option common_options[] = {
    FACET_OPT_FLAG("--help", "-h", COMMON(help), "This text."),
    FACET_OPT_FLAG("--json", NULL, COMMON(json), "One JSON document on standard output."),
    FACET_OPT_FLAG("--quiet", "-q", COMMON(quiet), "No warnings, no progress."),
    FACET_OPT_FLAG("--verbose", "-v", COMMON(verbose), "Tell more on standard error."),
    FACET_OPT_COUNT("--threads", NULL, COMMON(threads), "N",
                    "Threads (default: the cores this process may use).", 1, THREADS_MAX),
    FACET_OPT_TEXT("--cache", NULL, COMMON(cache), "DIR",
                   "The cache (default: $FACET_CACHE, $XDG_CACHE_HOME/facet, ~/.cache/facet)."),
    FACET_OPT_CHOICE("--mode", COMMON(mode), "auto|strict|generic|rebuild",
                     "Compile what is missing, refuse it, use portable kernels, or compile all "
                     "again (auto)."),
    FACET_OPT_CHOICE("--device", COMMON(device), "cpu|auto/cuda", "Where to compute (cpu)."),
    FACET_OPT_END,
};

static const facet_command *find_command(const char *name)
{
    for (size_t i = 0; i < FACET_COUNT_OF(commands); i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static facet_status no_command(const char *name, facet_err *err)
{
    for (size_t i = 0; i < FACET_COUNT_OF(later); i++)
        if (strcmp(later[i], name) == 0)
            return facet_fail(err, FACET_USAGE, "%s: is not built yet; see facet help", name);
    return facet_fail(err, FACET_USAGE, "%.80s: is no command of facet; see facet help", name);
}

// ---- help
// -----------------------------------------------------------------------------------------

static facet_status print_text(const facet_tool *tool, const char *field, const facet_text *text,
                               facet_err *err)
{
    FACET_TRY(facet_text_status(text, err));
    if (tool->json) {
        cJSON *doc = facet_doc_new();
        facet_doc_text(doc, field, text->data);
        return facet_output_document(tool, doc, err);
    }
    FACET_TRY(facet_output_write(text->data, text->length, err));
    return facet_output_flush(err);
}

static facet_status help_command(const facet_tool *tool, const facet_command *command,
                                 facet_err *err)
{
    facet_text text;
    facet_text_init(&text, NULL);
    facet_text_add(&text, "usage: facet %s %s\n\n%s\n\noptions:\n", command->name, command->usage,
                   command->summary);
    facet_options_help(command->options, &text);
    facet_text_puts(&text, "\noptions of every command:\n");
    facet_options_help(common_options, &text);
    facet_text_add(&text, "\nexample:\n  %s\n", command->example);
    facet_status status = print_text(tool, "help", &text, err);
    facet_text_fini(&text);
    return status;
}

static facet_status help_all(const facet_tool *tool, facet_err *err)
{
    facet_text text;
    facet_text_init(&text, NULL);
    facet_text_puts(&text, "usage: facet COMMAND [OPTIONS] ARGS\n\n"
                           "An ahead-of-time mask compiler for language models.\n\ncommands:\n");
    for (size_t i = 0; i < FACET_COUNT_OF(commands); i++)
        facet_text_add(&text, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    facet_text_puts(&text, "\nfacet help COMMAND tells more; facet --version names the version.\n"
                           "\nexample:\n  facet build model.gguf --task code=code.jsonl "
                           "--task math=math.jsonl -o demo.facet\n"
                           "  facet run demo.facet --family code -p \"Write a loop in C.\"\n");
    facet_status status = print_text(tool, "help", &text, err);
    facet_text_fini(&text);
    return status;
}

static facet_status help(const facet_tool *tool, const char *name, facet_err *err)
{
    if (name == NULL) return help_all(tool, err);
    const facet_command *command = find_command(name);
    return command != NULL ? help_command(tool, command, err) : no_command(name, err);
}

static facet_status print_version(const facet_tool *tool, facet_err *err)
{
    facet_text text;
    facet_text_init(&text, NULL);
    facet_text_add(&text, tool->json ? "%s" : "facet %s\n", facet_version());
    facet_status status = print_text(tool, "version", &text, err);
    facet_text_fini(&text);
    return status;
}

// ---- one command
// ------------------------------------------------------------------------------------

static void apply(facet_tool *tool, const common_opts *opts)
{
    tool->json = tool->json || opts->json;
    tool->quiet = opts->quiet;
    tool->verbose = opts->verbose;
    tool->n_threads = opts->threads != 0 ? (uint32_t)opts->threads : facet_cores();
    tool->cache = opts->cache;
    static const char *const modes[] = {"auto", "strict", "generic", "rebuild"};
    for (unsigned i = 0; opts->mode != NULL && i < FACET_COUNT_OF(modes); i++)
        if (strcmp(modes[i], opts->mode) == 0) tool->mode = (facet_tool_mode)i;
}

static facet_status check_args(const facet_command *command, const facet_strings *args,
                               facet_err *err)
{
    if (args->n < command->min_args)
        return facet_fail(err, FACET_USAGE, "%s: needs %s%u argument%s; usage: facet %s %s",
                          command->name, command->max_args > command->min_args ? "at least " : "",
                          command->min_args, command->min_args == 1 ? "" : "s", command->name,
                          command->usage);
    if (args->n > command->max_args)
        return facet_fail(err, FACET_USAGE, "%.80s: is one argument too many; see facet %s --help",
                          args->items[command->max_args], command->name);
    return FACET_OK;
}

static facet_status run_command(facet_tool *tool, const facet_command *command, int argc,
                                char **argv, facet_err *err)
{
    facet_strings args = {0};
    common_opts common = {0};
    void *opts = calloc(1, command->bytes + 1);
    if (opts == NULL) return facet_fail(err, FACET_NO_MEMORY, "options: out of memory; free some");
    if (command->bytes > 0) memcpy(opts, command->defaults, command->bytes);
    const facet_option_group groups[2] = {{command->options, opts}, {common_options, &common}};
    facet_status status;
    FACET_TRY_GOTO(facet_options_parse(groups, command->name, argc, argv, &args, err), done);
    apply(tool, &common);
    if (common.help) {
        status = help_command(tool, command, err);
        goto done;
    }
    FACET_TRY_GOTO(check_args(command, &args, err), done);
    status = command->run(tool, opts, &args, err);
done:
    facet_options_fini(command->options, opts);
    facet_strings_fini(&args);
    free(opts);
    return status;
}

static const char *env_value(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static void read_env(facet_tool_env *env)
{
    *env = (facet_tool_env){
        .cache = env_value("FACET_CACHE"),
        .xdg = env_value("XDG_CACHE_HOME"),
        .home = env_value("HOME"),
        .temp = env_value("TMPDIR"),
        .compiler = env_value("CC"),
        .isa = env_value("FACET_ISA"),
    };
}

static facet_status check_env(const facet_tool_env *env, facet_err *err)
{
    const char *isa = env->isa;
    if (isa == NULL || strcmp(isa, "generic") == 0 || facet_target_find(isa) != NULL)
        return FACET_OK;
    return facet_fail(err, FACET_USAGE,
                      "FACET_ISA=%.40s: is no target; name one that facet help "
                      "compile lists, or generic",
                      isa);
}

// Errors of the options themselves are told in JSON too, so --json is looked for before parsing.
static bool wants_json(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0) return true;
    return false;
}

static facet_status dispatch(facet_tool *tool, int argc, char **argv, facet_err *err)
{
    const char *name = NULL;
    const char *topic = NULL;
    int first = 1;
    while (first < argc && strcmp(argv[first], "--json") == 0)
        first++;
    if (first < argc) name = argv[first];
    for (int i = first + 1; i < argc && topic == NULL; i++)
        if (argv[i][0] != '-') topic = argv[i];
    if (name == NULL) return facet_fail(err, FACET_USAGE, "command: none given; see facet help");
    if (strcmp(name, "--version") == 0) return print_version(tool, err);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) return help(tool, NULL, err);
    if (strcmp(name, "help") == 0) return help(tool, topic, err);
    const facet_command *command = find_command(name);
    if (command == NULL) return no_command(name, err);
    tool->command = command->name;
    FACET_TRY(check_env(&tool->env, err));
    return run_command(tool, command, argc - first - 1, argv + first + 1, err);
}

int main(int argc, char **argv)
{
    facet_tool tool = {.command = "facet"};
    facet_err err = {.offset = -1};
    tool.json = wants_json(argc, argv);
    read_env(&tool.env);
    facet_signals_init();
    facet_output_report(&tool);
    facet_status status = dispatch(&tool, argc, argv, &err);
    facet_output_clear();
    // A signal that came after the last step changed nothing: the output is whole.
    if (status == FACET_OK) return 0;
    facet_output_error(&tool, &err);
    // Whatever failed after a signal failed because of it, or would have been stopped by it.
    if (facet_signals_caught() != 0) return 128 + facet_signals_caught();
    return facet_status_exit(status);
}
