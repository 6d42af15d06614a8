// SPDX-License-Identifier: Apache-2.0
// Child processes, without a shell.
#ifndef FACET_BASE_PROCESS_H
#define FACET_BASE_PROCESS_H

#include "base/report.h"
#include "base/text.h"

typedef enum facet_process_errors {
    FACET_PROCESS_ERRORS_JOIN, // standard error joins standard output
    FACET_PROCESS_ERRORS_PASS, // and goes to our own standard error
    FACET_PROCESS_ERRORS_DROP,
} facet_process_errors;

// When time is up or the report says to stop, the child's process group is asked to end (SIGTERM);
// what is left of it two seconds later is killed.
typedef struct facet_process_opts {
    const char *cwd;     // NULL: ours
    unsigned timeout_ms; // 0: none
    facet_process_errors errors;
    const facet_report *report; // asked whether to stop; may be NULL
} facet_process_opts;

typedef struct facet_process_result {
    int exit_status; // -1 when ended by a signal
    int signal;      // 0 when it exited
    bool timed_out;
    bool cut; // it wrote more than is kept
} facet_process_result;

// Runs argv[0] (searched in PATH) with standard input closed; standard output and error are
// appended to `output` (NULL: discarded), at most 1 MiB of it. A program that cannot be started is
// FACET_NOT_FOUND; FACET_INTERRUPTED comes from the report. Ends with the child reaped, always.
facet_status facet_process_run(const char *const *argv, const facet_process_opts *opts,
                               facet_text *output, facet_process_result *result, facet_err *err);
// The full path of a program in PATH, or of a path with a slash; FACET_NOT_FOUND.
facet_status facet_process_find(const char *name, char *out, size_t capacity, facet_err *err);

#endif
