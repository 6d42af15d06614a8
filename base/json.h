// SPDX-License-Identifier: Apache-2.0
// Checked access to cJSON documents. Every getter fails with the file and the field's name.
#ifndef FACET_BASE_JSON_H
#define FACET_BASE_JSON_H

#include <cjson/cJSON.h>

#include "base/status.h"

// Parses `bytes` of text (need not be terminated); the whole text must be one document.
// `file` is only named in errors. Free with cJSON_Delete.
facet_status facet_json_parse(const char *text, size_t bytes, const char *file, cJSON **out,
                              facet_err *err);
facet_status facet_json_load(const char *path, size_t max_bytes, cJSON **out, facet_err *err);

// Required fields of an object. Strings are borrowed from the document.
facet_status facet_json_string(const cJSON *object, const char *name, const char *file,
                               const char **out, facet_err *err);
facet_status facet_json_u64(const cJSON *object, const char *name, const char *file, uint64_t max,
                            uint64_t *out, facet_err *err); // a whole number in 0..max (<= 2^53)
facet_status facet_json_double(const cJSON *object, const char *name, const char *file, double *out,
                               facet_err *err);
facet_status facet_json_bool(const cJSON *object, const char *name, const char *file, bool *out,
                             facet_err *err);
facet_status facet_json_array(const cJSON *object, const char *name, const char *file,
                              const cJSON **out, facet_err *err);
facet_status facet_json_object(const cJSON *object, const char *name, const char *file,
                               const cJSON **out, facet_err *err);
// The field or NULL; never fails.
const cJSON *facet_json_find(const cJSON *object, const char *name);

// Text of a document (caller frees with cJSON_free); NULL when out of memory.
char *facet_json_print(const cJSON *document, bool pretty);

#endif
