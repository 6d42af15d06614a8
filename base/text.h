// SPDX-License-Identifier: Apache-2.0
// Text buffer with a sticky status: append without checking, look at `status` once at the end.
#ifndef FACET_BASE_TEXT_H
#define FACET_BASE_TEXT_H

#include <stdarg.h>

#include "base/status.h"

typedef struct facet_text {
    const facet_alloc *alloc;
    char *data; // always terminated once anything was added; NULL before
    size_t length, capacity;
    facet_status status; // FACET_OK or FACET_NO_MEMORY, sticky
} facet_text;

void facet_text_init(facet_text *text, const facet_alloc *alloc);
void facet_text_fini(facet_text *text);
void facet_text_clear(facet_text *text); // keeps the memory, clears the status
void facet_text_put(facet_text *text, const void *data, size_t bytes);
void facet_text_puts(facet_text *text, const char *s);
void facet_text_add(facet_text *text, const char *format, ...) FACET_PRINTF(2, 3);
void facet_text_addv(facet_text *text, const char *format, va_list args);
// A double with up to 9 significant digits and a point whatever the locale; "null" if not finite.
void facet_text_add_number(facet_text *text, double value);
// The string, terminated ("" when empty); borrowed until the buffer changes.
const char *facet_text_str(const facet_text *text);
// Gives the data away (free with facet_mem_free) and leaves the buffer empty; NULL on sticky error.
char *facet_text_take(facet_text *text);
facet_status facet_text_status(const facet_text *text, facet_err *err);

// Strict, locale-free parsing of a whole string; false on anything else than one number.
bool facet_parse_u64(const char *s, uint64_t *out);
bool facet_parse_double(const char *s, double *out);

#endif
