// SPDX-License-Identifier: Apache-2.0
// How long work talks to whoever started it: log lines, progress, and the question whether to stop.
// Rooms never print; tools/ turns a report into text on a terminal.
#ifndef FACET_BASE_REPORT_H
#define FACET_BASE_REPORT_H

#include "base/status.h"

typedef struct facet_report {
    void *ctx;
    void (*log)(void *ctx, facet_level level, const char *text);                  // may be NULL
    void (*progress)(void *ctx, const char *what, uint64_t done, uint64_t total); // may be NULL
    bool (*cancelled)(void *ctx);                                                 // may be NULL
} facet_report;

// All accept a NULL report.
void facet_report_log(const facet_report *report, facet_level level, const char *format, ...)
    FACET_PRINTF(3, 4);
// Asks whether to stop: FACET_INTERRUPTED then, of `what`.
facet_status facet_report_check(const facet_report *report, const char *what, facet_err *err);
// Also asks whether to stop: FACET_INTERRUPTED then.
facet_status facet_report_progress(const facet_report *report, const char *what, uint64_t done,
                                   uint64_t total, facet_err *err);

#endif
