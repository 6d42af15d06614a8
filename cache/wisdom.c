// SPDX-License-Identifier: Apache-2.0
#include "cache/wisdom.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"

#define START    "facet1 "
#define CHECK    16
#define FILE_MAX (16u << 20)
#define WORD_MAX 255
#define N_WORDS  4

// Cuts `text` at blanks into exactly n words.
static bool split(char *text, char **words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        words[i] = text;
        text += strcspn(text, " ");
        if (text == words[i] || (*text == 0) != (i + 1 == n)) return false;
        *text++ = 0;
    }
    return true;
}

static bool parse_line(char *line, facet_wisdom_line *out)
{
    const size_t start = sizeof START - 1;
    if (strncmp(line, START, start) != 0 || strlen(line) < start + CHECK + 2) return false;
    char *words[N_WORDS], *check = line + start, *rest = check + CHECK + 1;
    const facet_digest digest = facet_hash(rest, strlen(rest));
    if (memcmp(check, digest.hex, CHECK) != 0 || check[CHECK] != ' ') return false;
    if (!split(rest, words, N_WORDS)) return false;
    out->target = words[0];
    out->node = words[1];
    out->choice = words[2];
    return facet_parse_double(words[3], &out->seconds) && isfinite(out->seconds);
}

facet_status facet_wisdom_load(const char *path, const facet_alloc *alloc, facet_wisdom *wisdom,
                               facet_err *err)
{
    facet_wisdom result = {.alloc = alloc};
    size_t bytes, n = 0;
    facet_status status = facet_file_read(path, FILE_MAX, alloc, &result.text, &bytes, err);
    if (status == FACET_NO_MEMORY) return status;
    if (status != FACET_OK) {
        *wisdom = result;
        return FACET_OK;
    }
    for (size_t i = 0; i < bytes; i++)
        n += result.text[i] == '\n';
    result.lines = facet_mem_new(alloc, n, sizeof *result.lines);
    if (result.lines == NULL) {
        facet_mem_free(alloc, result.text);
        return facet_fail_memory(err, n * sizeof *result.lines);
    }
    // Only lines that end: one that is being written has no newline yet.
    char *line = result.text, *end;
    while ((end = memchr(line, '\n', bytes - (size_t)(line - result.text))) != NULL) {
        *end = 0;
        if (strlen(line) == (size_t)(end - line) && parse_line(line, &result.lines[result.n]))
            result.n++;
        line = end + 1;
    }
    *wisdom = result;
    return FACET_OK;
}

void facet_wisdom_fini(facet_wisdom *wisdom)
{
    facet_mem_free(wisdom->alloc, wisdom->text);
    facet_mem_free(wisdom->alloc, wisdom->lines);
    *wisdom = (facet_wisdom){0};
}

const facet_wisdom_line *facet_wisdom_find(const facet_wisdom *wisdom, const char *target,
                                           const char *node)
{
    for (size_t i = wisdom->n; i-- > 0;)
        if (strcmp(wisdom->lines[i].target, target) == 0 &&
            strcmp(wisdom->lines[i].node, node) == 0)
            return &wisdom->lines[i];
    return NULL;
}

static bool word_ok(const char *word)
{
    const size_t length = strlen(word);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)word[i] <= 0x20 || word[i] == 0x7F) return false;
    return length > 0 && length <= WORD_MAX;
}

facet_status facet_wisdom_append(const char *path, const char *target, const char *node,
                                 const char *choice, double seconds, facet_err *err)
{
    if (!word_ok(target) || !word_ok(node) || !word_ok(choice) || !isfinite(seconds))
        return facet_fail(err, FACET_BAD_INPUT, "wisdom: a word is empty, too long or has blanks");
    facet_text rest, line;
    facet_text_init(&rest, NULL);
    facet_text_init(&line, NULL);
    facet_text_add(&rest, "%s %s %s ", target, node, choice);
    facet_text_add_number(&rest, seconds);
    const facet_digest digest = facet_hash(facet_text_str(&rest), rest.length);
    facet_text_add(&line, "\n" START "%.*s %s\n", CHECK, digest.hex, facet_text_str(&rest));
    facet_status status = facet_text_status(&rest, err);
    if (status == FACET_OK) status = facet_text_status(&line, err);
    if (status == FACET_OK) {
        const int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) {
            status = facet_fail_errno(err, errno, path, "open");
        } else {
            const ssize_t n = write(fd, line.data, line.length);
            if (n != (ssize_t)line.length)
                status = facet_fail_errno(err, n < 0 ? errno : ENOSPC, path, "append to");
            close(fd);
        }
    }
    facet_text_fini(&rest);
    facet_text_fini(&line);
    return status;
}
