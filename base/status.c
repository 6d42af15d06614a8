// SPDX-License-Identifier: Apache-2.0
#include "base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct status_fact {
    const char *slug, *text;
    int exit_status;
} status_fact;

static const status_fact facts[] = {
#define X(name, exit_status, slug, text) {slug, text, exit_status},
    FACET_STATUS_MAP(X)
#undef X
};

static const status_fact *fact_of(facet_status status)
{
    const size_t i = (size_t)status;
    return i < FACET_COUNT_OF(facts) ? &facts[i] : &facts[FACET_FAILED];
}

const char *facet_status_slug(facet_status status)
{
    return fact_of(status)->slug;
}
const char *facet_status_text(facet_status status)
{
    return fact_of(status)->text;
}
int facet_status_exit(facet_status status)
{
    return fact_of(status)->exit_status;
}

static void fill(facet_err *err, facet_status code, const char *file, int64_t offset,
                 const char *format, va_list args)
{
    // Formatted aside first: an argument may point into *err itself.
    char message[sizeof err->message], name[sizeof err->file];
    vsnprintf(message, sizeof message, format, args);
    snprintf(name, sizeof name, "%s", file ? file : "");
    err->code = code;
    err->offset = offset;
    memcpy(err->message, message, sizeof message);
    memcpy(err->file, name, sizeof name);
}

facet_status facet_fail(facet_err *err, facet_status code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        fill(err, code, NULL, -1, format, args);
        va_end(args);
    }
    return code;
}

facet_status facet_fail_at(facet_err *err, facet_status code, const char *file, int64_t offset,
                           const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        fill(err, code, file, offset, format, args);
        va_end(args);
    }
    return code;
}

static facet_status status_of_errno(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return FACET_NOT_FOUND;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return FACET_NO_SPACE;
    case EACCES:
    case EPERM:
    case EROFS:
        return FACET_PERMISSION;
    case ENOMEM:
        return FACET_NO_MEMORY;
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
        return FACET_BAD_INPUT;
    default:
        return FACET_IO;
    }
}

static const char *remedy_of(facet_status status)
{
    switch (status) {
    case FACET_NOT_FOUND:
        return "check the path";
    case FACET_NO_SPACE:
        return "free some space or choose another place";
    case FACET_PERMISSION:
        return "check the owner and the mode";
    case FACET_NO_MEMORY:
        return "free some memory";
    case FACET_BAD_INPUT:
        return "name a regular file";
    default:
        return "check the device";
    }
}

facet_status facet_fail_errno(facet_err *err, int error, const char *file, const char *what)
{
    const facet_status code = status_of_errno(error);
    char reason[128] = "unknown error";
    if (strerror_r(error, reason, sizeof reason) != 0)
        snprintf(reason, sizeof reason, "error %d", error);
    return facet_fail_at(err, code, file, -1, "%s: cannot %s: %s; %s", file, what, reason,
                         remedy_of(code));
}
