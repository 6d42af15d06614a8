// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

facet_status facet_json_parse(const char *text, size_t bytes, const char *file, cJSON **out,
                              facet_err *err)
{
    // cJSON stops at a zero byte and would call the rest white space.
    const char *zero = bytes ? memchr(text, '\0', bytes) : NULL;
    if (zero)
        return facet_fail_at(err, FACET_BAD_FILE, file, zero - text,
                             "%s: zero byte in JSON text; the file is damaged", file);
    char *copy = facet_mem_strndup(NULL, text, bytes); // cJSON can only check the end of a string
    if (!copy) return facet_fail_memory(err, bytes);
    const char *end = NULL;
    cJSON *document = cJSON_ParseWithLengthOpts(copy, bytes + 1, &end, 1);
    const int64_t offset = end ? end - copy : 0;
    facet_mem_free(NULL, copy);
    if (!document)
        return facet_fail_at(err, FACET_BAD_FILE, file, offset,
                             "%s: not a JSON document: error near byte %lld; make the file anew",
                             file, (long long)offset);
    *out = document;
    return FACET_OK;
}

facet_status facet_json_load(const char *path, size_t max_bytes, cJSON **out, facet_err *err)
{
    char *text;
    size_t bytes;
    FACET_TRY(facet_file_read(path, max_bytes, NULL, &text, &bytes, err));
    const facet_status status = facet_json_parse(text, bytes, path, out, err);
    facet_mem_free(NULL, text);
    return status;
}

const cJSON *facet_json_find(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static facet_status wrong(facet_err *err, const char *file, const char *name, const char *kind)
{
    return facet_fail_at(err, FACET_BAD_FILE, file, -1,
                         "%s: field \"%s\" is missing or not %s; "
                         "make the file anew",
                         file, name, kind);
}

facet_status facet_json_string(const cJSON *object, const char *name, const char *file,
                               const char **out, facet_err *err)
{
    const cJSON *item = facet_json_find(object, name);
    if (!cJSON_IsString(item)) return wrong(err, file, name, "a string");
    *out = item->valuestring;
    return FACET_OK;
}

facet_status facet_json_u64(const cJSON *object, const char *name, const char *file, uint64_t max,
                            uint64_t *out, facet_err *err)
{
    const cJSON *item = facet_json_find(object, name);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) ||
        item->valuedouble > 9007199254740992.0 || item->valuedouble != floor(item->valuedouble) ||
        item->valuedouble > (double)max)
        return wrong(err, file, name, "a whole number in its range");
    *out = (uint64_t)item->valuedouble;
    return FACET_OK;
}

facet_status facet_json_double(const cJSON *object, const char *name, const char *file, double *out,
                               facet_err *err)
{
    const cJSON *item = facet_json_find(object, name);
    if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble))
        return wrong(err, file, name, "a finite number");
    *out = item->valuedouble;
    return FACET_OK;
}

facet_status facet_json_bool(const cJSON *object, const char *name, const char *file, bool *out,
                             facet_err *err)
{
    const cJSON *item = facet_json_find(object, name);
    if (!cJSON_IsBool(item)) return wrong(err, file, name, "true or false");
    *out = cJSON_IsTrue(item);
    return FACET_OK;
}

facet_status facet_json_array(const cJSON *object, const char *name, const char *file,
                              const cJSON **out, facet_err *err)
{
    const cJSON *item = facet_json_find(object, name);
    if (!cJSON_IsArray(item)) return wrong(err, file, name, "an array");
    *out = item;
    return FACET_OK;
}

facet_status facet_json_object(const cJSON *object, const char *name, const char *file,
                               const cJSON **out, facet_err *err)
{
    const cJSON *item = facet_json_find(object, name);
    if (!cJSON_IsObject(item)) return wrong(err, file, name, "an object");
    *out = item;
    return FACET_OK;
}

char *facet_json_print(const cJSON *document, bool pretty)
{
    return pretty ? cJSON_Print(document) : cJSON_PrintUnformatted(document);
}
