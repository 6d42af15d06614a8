// SPDX-License-Identifier: Apache-2.0
// What people and scripts see. A command builds one document (cJSON); with --json it is printed as
// it is, without as aligned text, so that both always say the same. Logs, progress and errors go to
// standard error. Running out of memory while building a document ends the program (exit 5).
#ifndef FACET_TOOLS_OUTPUT_H
#define FACET_TOOLS_OUTPUT_H

#include "base/json.h"
#include "tools/tool.h"

// ---- building documents; a NULL object is created by facet_doc_new only
// --------------------------

cJSON *facet_doc_new(void);
void facet_doc_text(cJSON *object, const char *name, const char *value);
void facet_doc_text_n(cJSON *object, const char *name, const char *value, size_t bytes);
void facet_doc_number(cJSON *object, const char *name, double value); // not finite: null
void facet_doc_bool(cJSON *object, const char *name, bool value);
cJSON *facet_doc_object(cJSON *object, const char *name); // borrowed from its parent
cJSON *facet_doc_array(cJSON *object, const char *name);  // borrowed from its parent
cJSON *facet_doc_push_object(cJSON *array);               // borrowed from its parent
void facet_doc_push_number(cJSON *array, double value);
void facet_doc_push_text(cJSON *array, const char *value);
// Moves the fields of `from` into `object` and frees the rest of it.
void facet_doc_merge(cJSON *object, cJSON *from);

// ---- printing -----------------------------------------------------------------------------------

// Prints the document as --json or text asks for and frees it.
facet_status facet_output_document(const facet_tool *tool, cJSON *doc, facet_err *err);
// Likewise for a job that ended with `status`, which is what it returns when that is no success:
// the document is then only freed.
facet_status facet_output_result(const facet_tool *tool, cJSON *doc, facet_status status,
                                 facet_err *err);
// Writes bytes to standard output. A reader that went away and a full disk are FACET_IO,
// FACET_NO_SPACE.
facet_status facet_output_write(const void *data, size_t bytes, facet_err *err);
facet_status facet_output_flush(facet_err *err);
// A document as text for people: scalars as lines, arrays of objects as tables.
void facet_render(const cJSON *doc, facet_text *out);

// ---- talking while working
// ------------------------------------------------------------------------

// Fills tool->report and tool->log.
void facet_output_report(facet_tool *tool);
void facet_output_warn(const facet_tool *tool, const char *format, ...) FACET_PRINTF(2, 3);
// What people want to know and a JSON document holds already: not with --json, not with -q.
void facet_output_note(const facet_tool *tool, const char *format, ...) FACET_PRINTF(2, 3);
// One progress line, rewritten in place, on a terminal only.
void facet_output_clear(void);
// The one line of an error, and with --json its document on standard output.
void facet_output_error(const facet_tool *tool, const facet_err *err);

// Copies text with every invalid UTF-8 sequence and zero byte replaced by U+FFFD.
void facet_utf8_clean(const char *text, size_t bytes, facet_text *out);
// How many of the bytes end with a whole character: the rest may still become one.
size_t facet_utf8_whole(const char *text, size_t bytes);
bool facet_utf8_valid(const char *text, size_t bytes);

#endif
