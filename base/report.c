// SPDX-License-Identifier: Apache-2.0
#include "base/report.h"

#include <stdarg.h>
#include <stdio.h>

void facet_report_log(const facet_report *report, facet_level level, const char *format, ...)
{
    if (!report || !report->log) return;
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    report->log(report->ctx, level, line);
}

facet_status facet_report_check(const facet_report *report, const char *what, facet_err *err)
{
    if (!report || !report->cancelled || !report->cancelled(report->ctx)) return FACET_OK;
    return facet_fail(err, FACET_INTERRUPTED, "%s: interrupted; run the command again", what);
}

facet_status facet_report_progress(const facet_report *report, const char *what, uint64_t done,
                                   uint64_t total, facet_err *err)
{
    FACET_TRY(facet_report_check(report, what, err));
    if (report && report->progress) report->progress(report->ctx, what, done, total);
    return FACET_OK;
}
