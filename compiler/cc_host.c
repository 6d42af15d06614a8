// SPDX-License-Identifier: Apache-2.0
// The host C compiler: found without a shell, named without a path, run with explicit flags only.
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/process.h"
#include "compiler/target.h"

// Artifacts of one family compile in seconds; a compiler that needs minutes is stuck.
enum { COMPILE_TIMEOUT_MS = 300000, VERSION_TIMEOUT_MS = 30000 };

// -fno-math-errno lets sqrtf be one instruction; -ffp-contract=off keeps the sums the same for
// every compiler (fused operations are written out where they are wanted). No build id: same bytes
// in, same bytes out.
static const char *const common_flags[] = {
    "-std=c17",          "-O3",   "-fPIC", "-shared", "-fvisibility=hidden", "-fno-math-errno",
    "-ffp-contract=off", "-pipe", "-g0",   "-w",      "-Wl,--build-id=none",
};

static facet_status read_version(const char *path, char *line, size_t capacity, facet_err *err)
{
    const char *const argv[] = {path, "--version", NULL};
    const facet_process_opts opts = {.timeout_ms = VERSION_TIMEOUT_MS};
    facet_process_result result;
    facet_text words;
    facet_text_init(&words, NULL);
    facet_status status = facet_process_run(argv, &opts, &words, &result, err);
    const char *first = facet_text_str(&words);
    const size_t length = strcspn(first, "\r\n");
    if (status == FACET_OK && (result.exit_status != 0 || length == 0))
        status = facet_fail(err, FACET_NO_COMPILER,
                            "%s: it does not tell its version; set CC to a C "
                            "compiler (gcc or clang)",
                            path);
    if (status == FACET_OK)
        (void)snprintf(line, capacity, "%.*s", (int)(length < 160 ? length : 160), first);
    facet_text_fini(&words);
    return status;
}

// The version line may name the program as it was called; its folder is no part of what it is.
static facet_status identify(facet_cc *cc, facet_err *err)
{
    char line[192];
    facet_digest digest;
    FACET_TRY(read_version(cc->path, line, sizeof line, err));
    FACET_TRY(facet_hash_file(cc->path, &digest, err));
    const char *space = strchr(line, ' ');
    const char *slash = space ? memchr(line, '/', (size_t)(space - line)) : NULL;
    const char *from = line;
    while (slash) {
        from = slash + 1;
        slash = memchr(from, '/', (size_t)(space - from));
    }
    (void)snprintf(cc->identity, sizeof cc->identity, "%s, %s", from, digest.hex);
    return FACET_OK;
}

facet_status facet_cc_find(const char *cc, facet_cc *out, facet_err *err)
{
    static const char *const usual[] = {"cc", "gcc", "clang"};
    const bool given = cc && cc[0];
    facet_cc found = {"", ""};
    for (size_t i = 0; i < (given ? 1 : FACET_COUNT_OF(usual)); i++) {
        const char *name = given ? cc : usual[i];
        if (facet_process_find(name, found.path, sizeof found.path, NULL) != FACET_OK) continue;
        FACET_TRY(identify(&found, err));
        *out = found;
        return FACET_OK;
    }
    if (given)
        return facet_fail(
            err, FACET_NO_COMPILER,
            "%s: no such program; set CC to the name or path of a C compiler, without "
            "options",
            cc);
    return facet_fail(err, FACET_NO_COMPILER,
                      "C compiler: none of cc, gcc and clang was found; install one or set CC");
}

static const char *line_begin(const char *words, const char *at)
{
    while (at > words && at[-1] != '\n')
        at--;
    return at;
}

// The first line of a compiler's words that says what is wrong. A driver's line on its linker only
// says that something was, so it is the line before.
static void first_complaint(const char *words, char *line, size_t capacity)
{
    const char *error = strstr(words, "error");
    const char *begin = error ? line_begin(words, error) : words;
    size_t length = strcspn(begin, "\n");
    const char *linker = strstr(begin, "ld returned");
    if (!linker) linker = strstr(begin, "linker command failed");
    if (begin > words && linker && linker < begin + length) {
        begin = line_begin(words, begin - 1);
        length = strcspn(begin, "\n");
    }
    (void)snprintf(line, capacity, "%.*s", (int)(length < 300 ? length : 300), begin);
}

enum { MAX_ARGUMENTS = 32 };

static facet_status run_compiler(const facet_cc *cc, const facet_target *target, const char *from,
                                 const char *path, facet_err *err)
{
    const char *argv[MAX_ARGUMENTS];
    size_t n = 0;
    argv[n++] = cc->path;
    for (size_t i = 0; i < FACET_COUNT_OF(common_flags); i++)
        argv[n++] = common_flags[i];
    for (size_t i = 0; target->flags[i] && n + 4 < MAX_ARGUMENTS; i++)
        argv[n++] = target->flags[i];
    argv[n++] = "-o";
    argv[n++] = path;
    argv[n++] = from;
    argv[n] = NULL;
    const facet_process_opts opts = {.timeout_ms = COMPILE_TIMEOUT_MS};
    facet_process_result result;
    facet_text words;
    facet_text_init(&words, NULL);
    facet_status status = facet_process_run(argv, &opts, &words, &result, err);
    char line[320];
    first_complaint(facet_text_str(&words), line, sizeof line);
    if (status == FACET_OK && result.timed_out)
        status =
            facet_fail(err, FACET_FAILED, "%s: no end after %d s; try another compiler with CC",
                       facet_path_base(cc->path), COMPILE_TIMEOUT_MS / 1000);
    else if (status == FACET_OK && result.exit_status != 0)
        status =
            facet_fail(err, FACET_FAILED, "%s: it failed on generated code for %s: %s",
                       facet_path_base(cc->path), target->name, line[0] ? line : "without a word");
    facet_text_fini(&words);
    return status;
}

facet_status facet_cc_compile(const facet_cc *cc, const facet_target *target, const char *source,
                              const char *dir, const char *path, facet_err *err)
{
    char from[4096];
    FACET_TRY(facet_path_join(from, sizeof from, dir, "artifact.c", err));
    FACET_TRY(facet_file_write(from, source, strlen(source), true, err));
    const facet_status status = run_compiler(cc, target, from, path, err);
    (void)remove(from);
    return status;
}

void facet_cc_recipe(const facet_cc *cc, const facet_target *target, const char *source,
                     const char *plan_text, facet_text *recipe)
{
    facet_text_add(recipe, "facet artifact code %s\nschema 1\ngenerator %s\n", target->name,
                   FACET_VERSION);
    facet_text_add(recipe, "source %s\n", facet_hash(source, strlen(source)).hex);
    facet_text_add(recipe, "plan %s\n", facet_hash(plan_text, strlen(plan_text)).hex);
    facet_text_add(recipe, "target %s\nflags", target->name);
    for (size_t i = 0; i < FACET_COUNT_OF(common_flags); i++)
        facet_text_add(recipe, " %s", common_flags[i]);
    for (size_t i = 0; target->flags[i]; i++)
        facet_text_add(recipe, " %s", target->flags[i]);
    facet_text_add(recipe, "\ncompiler %s\n", cc->identity);
}
