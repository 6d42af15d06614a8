// SPDX-License-Identifier: Apache-2.0
#include "tools/score.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/process.h"
#include "cache/manifest.h"
#include "tools/output.h"

// ---- options
// -------------------------------------------------------------------------------------

static bool is_same(const char *a, const char *b)
{
    return a == NULL || b == NULL || strcmp(a, b) == 0; // NULL: every family
}

// `text` is a copy of the option's value, which is cut into its parts.
static facet_status parse_score(const facet_scores *before, char *text, facet_build_score *score,
                                facet_err *err)
{
    char *equals = strchr(text, '=');
    if (!facet_utf8_valid(text, strlen(text))) // it would not be in proof.json either
        return facet_fail(err, FACET_USAGE, "--score: its value is no UTF-8; write it in UTF-8");
    if (equals == NULL || equals[1 + strspn(equals + 1, " \t\n")] == '\0')
        return facet_fail(err, FACET_USAGE,
                          "--score %.80s: is not [FAMILY:]NAME=COMMAND; write it like that", text);
    *equals = '\0';
    // The last colon: families may have some in their names.
    char *colon = strrchr(text, ':');
    if (colon != NULL) *colon = '\0';
    *score = (facet_build_score){.family = colon != NULL ? text : NULL,
                                 .name = colon != NULL ? colon + 1 : text,
                                 .command = equals + 1};
    if (!facet_manifest_name_ok(score->name) || (colon != NULL && text[0] == '\0'))
        return facet_fail(err, FACET_USAGE,
                          "--score %.80s: cannot be its name; use a short one without slashes",
                          score->name);
    for (uint32_t i = 0; i < before->n; i++)
        if (strcmp(before->items[i].name, score->name) == 0 &&
            is_same(before->items[i].family, score->family))
            return facet_fail(err, FACET_USAGE,
                              "--score %.80s: is given twice for a family; name one otherwise",
                              score->name);
    return FACET_OK;
}

static facet_status parse_least(const facet_scores *scores, const char *text, facet_err *err)
{
    enum { MOST = 1000 };
    const char *equals = strchr(text, '=');
    const size_t length = equals != NULL ? (size_t)(equals - text) : 0;
    double least = 0;
    if (length == 0 || !facet_parse_double(equals + 1, &least) || !(least > 0 && least <= MOST))
        return facet_fail(err, FACET_USAGE,
                          "--score-least %.80s: is not NAME=R with R above 0 and at most %d; write "
                          "it like that",
                          text, (int)MOST);
    bool found = false, twice = false;
    for (uint32_t i = 0; i < scores->n; i++) {
        facet_build_score *score = &scores->items[i];
        if (strlen(score->name) != length || memcmp(score->name, text, length) != 0) continue;
        twice = twice || score->least > 0;
        found = true;
        score->least = least;
    }
    if (found && !twice) return FACET_OK;
    return facet_fail(err, FACET_USAGE, "--score-least %.80s: %s", text,
                      twice ? "is given twice; leave one out"
                            : "there is no such score; name one of --score");
}

void facet_scores_fini(facet_scores *scores)
{
    for (uint32_t i = 0; i < scores->n; i++)
        facet_mem_free(NULL, scores->texts[i]);
    facet_mem_free(NULL, scores->texts);
    facet_mem_free(NULL, scores->items);
    *scores = (facet_scores){0};
}

static facet_status parse(const facet_strings *scores, const facet_strings *least,
                          facet_scores *made, facet_err *err)
{
    made->items = facet_mem_new(NULL, scores->n, sizeof *made->items);
    made->texts = facet_mem_new(NULL, scores->n, sizeof *made->texts);
    if (made->items == NULL || made->texts == NULL)
        return facet_fail_memory(err, scores->n * sizeof *made->items);
    for (size_t i = 0; i < scores->n; i++) {
        char *text = facet_mem_strdup(NULL, scores->items[i]);
        if (text == NULL) return facet_fail_memory(err, strlen(scores->items[i]));
        made->texts[i] = text;
        const facet_status status = parse_score(made, text, &made->items[i], err);
        made->n++;
        FACET_TRY(status);
    }
    for (size_t i = 0; i < least->n; i++)
        FACET_TRY(parse_least(made, least->items[i], err));
    return FACET_OK;
}

facet_status facet_scores_parse(const facet_strings *scores, const facet_strings *least,
                                facet_scores *out, facet_err *err)
{
    facet_scores made = {0};
    const facet_status status = parse(scores, least, &made, err);
    if (status == FACET_OK)
        *out = made;
    else
        facet_scores_fini(&made);
    return status;
}

// ---- the command
// ----------------------------------------------------------------------------------

// The last line that is not blank, without blanks around it; false when there is none.
static bool last_line(const facet_text *output, const char **line, size_t *length)
{
    static const char blanks[] = " \t\r\n";
    const char *data = facet_text_str(output);
    size_t end = output->length;
    while (end > 0 && strchr(blanks, data[end - 1]) != NULL && data[end - 1] != '\0')
        end--;
    size_t begin = end;
    while (begin > 0 && data[begin - 1] != '\n')
        begin--;
    while (begin < end && (data[begin] == ' ' || data[begin] == '\t'))
        begin++;
    *line = data + begin;
    *length = end - begin;
    return end > begin;
}

static facet_status read_score(const facet_text *output, const char *what, double *value,
                               facet_err *err)
{
    enum { NUMBER_MAX = 64 };
    char number[NUMBER_MAX];
    const char *line;
    size_t length;
    if (!last_line(output, &line, &length))
        return facet_fail(err, FACET_FAILED,
                          "%s: it printed nothing; its last line must be the score, a number",
                          what);
    (void)snprintf(number, sizeof number, "%.*s", (int)(length < NUMBER_MAX ? length : 0), line);
    if (strlen(number) == length && facet_parse_double(number, value)) return FACET_OK;
    facet_text clean;
    facet_text_init(&clean, NULL);
    facet_utf8_clean(line, length < NUMBER_MAX ? length : NUMBER_MAX, &clean);
    (void)facet_fail(err, FACET_FAILED,
                     "%s: its last line \"%s\" is no finite number; it must be the score and "
                     "nothing else",
                     what, facet_text_str(&clean));
    facet_text_fini(&clean);
    return FACET_FAILED;
}

static facet_status check_end(const facet_process_result *result, const char *what, facet_err *err)
{
    static const char remedy[] = "run it by hand with FACET_BUNDLE and FACET_FAMILY set";
    if (result->signal != 0)
        return facet_fail(err, FACET_FAILED, "%s: ended by signal %d; %s", what, result->signal,
                          remedy);
    if (result->exit_status != 0)
        return facet_fail(err, FACET_FAILED, "%s: exit status %d; %s", what, result->exit_status,
                          remedy);
    if (result->cut)
        return facet_fail(err, FACET_FAILED,
                          "%s: it printed more than 1 MiB; let it print the score alone", what);
    return FACET_OK;
}

// The command may change its directory.
static facet_status absolute(const char *path, char out[4096], facet_err *err)
{
    char here[4096];
    if (path[0] == '/') return facet_path_join(out, 4096, "/", path + 1, err);
    if (getcwd(here, sizeof here) == NULL)
        return facet_fail_errno(err, errno, path, "name the directory of");
    while (strncmp(path, "./", 2) == 0)
        path += 2;
    return facet_path_join(out, 4096, here, path, err);
}

facet_status facet_score_run(const facet_tool *tool, const char *bundle, const char *family,
                             const facet_build_score *score, double *value, facet_err *err)
{
    char path[4096], bundle_word[4128], family_word[96], what[320];
    FACET_TRY(absolute(bundle, path, err));
    (void)snprintf(bundle_word, sizeof bundle_word, "FACET_BUNDLE=%s", path);
    (void)snprintf(family_word, sizeof family_word, "FACET_FAMILY=%s", family);
    (void)snprintf(what, sizeof what, "score %s of %s (%.160s)", score->name, family,
                   score->command);
    const char *const argv[] = {"env", bundle_word, family_word,    "/bin/sh",
                                "-c",  "--",        score->command, NULL};
    const facet_process_opts opts = {.errors = tool->quiet ? FACET_PROCESS_ERRORS_DROP
                                                           : FACET_PROCESS_ERRORS_PASS,
                                     .report = &tool->report};
    facet_process_result result;
    facet_text output;
    facet_text_init(&output, NULL);
    facet_output_note(tool, "score %s of %s", score->name, family);
    facet_output_clear();
    facet_status status = facet_process_run(argv, &opts, &output, &result, err);
    if (status == FACET_OK) status = facet_text_status(&output, err);
    if (status == FACET_OK) status = check_end(&result, what, err);
    if (status == FACET_OK) status = read_score(&output, what, value, err);
    facet_text_fini(&output);
    return status;
}
