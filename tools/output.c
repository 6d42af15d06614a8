// SPDX-License-Identifier: Apache-2.0
#include "tools/output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "tools/signals.h"

// ---- standard output ----------------------------------------------------------------------------

facet_status facet_output_flush(facet_err *err)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return FACET_OK;
    return facet_fail_errno(err, errno != 0 ? errno : EIO, "standard output", "writing");
}

facet_status facet_output_write(const void *data, size_t bytes, facet_err *err)
{
    errno = 0;
    if (bytes == 0 || fwrite(data, 1, bytes, stdout) == bytes) return FACET_OK;
    return facet_fail_errno(err, errno != 0 ? errno : EIO, "standard output", "writing");
}

facet_status facet_output_document(const facet_tool *tool, cJSON *doc, facet_err *err)
{
    facet_text text;
    facet_text_init(&text, NULL);
    if (tool->json) {
        char *json = facet_json_print(doc, false);
        if (json == NULL) text.status = FACET_NO_MEMORY;
        if (json != NULL) facet_text_add(&text, "%s\n", json);
        cJSON_free(json);
    } else {
        facet_render(doc, &text);
    }
    cJSON_Delete(doc);
    facet_status status = facet_text_status(&text, err);
    facet_output_clear();
    if (status == FACET_OK) status = facet_output_write(text.data, text.length, err);
    if (status == FACET_OK) status = facet_output_flush(err);
    facet_text_fini(&text);
    return status;
}

facet_status facet_output_result(const facet_tool *tool, cJSON *doc, facet_status status,
                                 facet_err *err)
{
    if (status == FACET_OK) return facet_output_document(tool, doc, err);
    cJSON_Delete(doc);
    return status;
}

// ---- standard error -----------------------------------------------------------------------------

// The only state of this file: is a progress line standing on the terminal, and since when. There
// is one terminal, and the work of a command reports from one thread.
static struct {
    bool standing;
    uint64_t shown_ns;
} progress_line;

void facet_output_clear(void)
{
    if (!progress_line.standing) return;
    fputs("\r\033[K", stderr);
    progress_line.standing = false;
}

static void show_progress(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    enum { EVERY_NS = 100 * 1000 * 1000 };
    const facet_tool *tool = ctx;
    uint64_t now = facet_clock_ns();
    if (tool->quiet || (progress_line.standing && now - progress_line.shown_ns < EVERY_NS)) return;
    progress_line.shown_ns = now;
    progress_line.standing = true;
    if (total > 0)
        fprintf(stderr, "\r%s %llu/%llu\033[K", what, (unsigned long long)done,
                (unsigned long long)total);
    else
        fprintf(stderr, "\r%s %llu\033[K", what, (unsigned long long)done);
    fflush(stderr);
}

static void write_log(void *ctx, facet_level level, const char *text)
{
    const facet_tool *tool = ctx;
    if (tool->quiet || (level != FACET_LOG_WARN && !tool->verbose)) return;
    facet_output_clear();
    fprintf(stderr, "facet: %s%s\n", level == FACET_LOG_WARN ? "warning: " : "", text);
}

static bool cancelled(void *ctx)
{
    (void)ctx;
    return facet_signals_caught() != 0;
}

void facet_output_report(facet_tool *tool)
{
    tool->report = (facet_report){.ctx = tool, .log = write_log, .cancelled = cancelled};
    if (isatty(STDERR_FILENO) == 1) tool->report.progress = show_progress;
    tool->log = (facet_log){.ctx = tool, .write = write_log};
}

void facet_output_warn(const facet_tool *tool, const char *format, ...)
{
    facet_text text;
    facet_text_init(&text, NULL);
    va_list args;
    va_start(args, format);
    facet_text_addv(&text, format, args);
    va_end(args);
    facet_report_log(&tool->report, FACET_LOG_WARN, "%s", facet_text_str(&text));
    facet_text_fini(&text);
}

void facet_output_note(const facet_tool *tool, const char *format, ...)
{
    if (tool->quiet || tool->json) return;
    facet_output_clear();
    fputs("facet: ", stderr);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

static void error_document(const facet_err *err)
{
    cJSON *doc = facet_doc_new();
    cJSON *error = facet_doc_object(doc, "error");
    facet_doc_number(error, "status", facet_status_exit(err->code));
    facet_doc_text(error, "code", facet_status_slug(err->code));
    facet_doc_text(error, "message", err->message);
    if (err->file[0] != '\0') facet_doc_text(error, "file", err->file);
    if (err->offset >= 0) facet_doc_number(error, "offset", (double)err->offset);
    char *json = facet_json_print(doc, false);
    if (json != NULL) puts(json);
    fflush(stdout);
    cJSON_free(json);
    cJSON_Delete(doc);
}

// The sentence, with the file and the offset where the sentence itself does not name them, on one
// line whatever a file name or a compiler's words hold.
static void error_line(const facet_err *err, facet_text *out)
{
    if (err->file[0] != '\0' && strstr(err->message, facet_path_base(err->file)) == NULL)
        facet_text_add(out, "%s: ", err->file);
    facet_text_puts(out, err->message[0] != '\0' ? err->message : facet_status_text(err->code));
    char number[32];
    snprintf(number, sizeof number, "%lld", (long long)err->offset);
    if (err->offset >= 0 && strstr(err->message, number) == NULL)
        facet_text_add(out, " (at %s)", number);
    for (size_t i = 0; i < out->length; i++)
        if ((unsigned char)out->data[i] < ' ') out->data[i] = ' ';
}

void facet_output_error(const facet_tool *tool, const facet_err *err)
{
    facet_text line;
    facet_text_init(&line, NULL);
    error_line(err, &line);
    facet_output_clear();
    fprintf(stderr, "facet: %s\n", facet_text_str(&line));
    facet_text_fini(&line);
    if (tool->json && !tool->answered) error_document(err);
}
