// SPDX-License-Identifier: Apache-2.0
// Status and errors. The list of codes is FACET_STATUS_MAP in the public header; this adds the
// three helpers every fallible function uses. In: a code and a sentence. Out: the same code, err
// filled.
#ifndef FACET_BASE_STATUS_H
#define FACET_BASE_STATUS_H

#include <facet.h>

#include "base/attr.h"

// Fills *err (which may be NULL) and returns `code`. The sentence reads WHAT: WHY; REMEDY.
facet_status facet_fail(facet_err *err, facet_status code, const char *format, ...)
    FACET_PRINTF(3, 4);

// The same with the file at fault and a byte offset or record number in it (-1: none).
facet_status facet_fail_at(facet_err *err, facet_status code, const char *file, int64_t offset,
                           const char *format, ...) FACET_PRINTF(5, 6);

// The code for errno `error` after a failed system call on `file`, with err filled.
facet_status facet_fail_errno(facet_err *err, int error, const char *file, const char *what);

#define FACET_TRY(expression)                                                                      \
    do {                                                                                           \
        facet_status try_status_ = (expression);                                                   \
        if (try_status_ != FACET_OK) return try_status_;                                           \
    } while (0)

// Expects a local `facet_status status` and a label.
#define FACET_TRY_GOTO(expression, label)                                                          \
    do {                                                                                           \
        status = (expression);                                                                     \
        if (status != FACET_OK) goto label;                                                        \
    } while (0)

#endif
