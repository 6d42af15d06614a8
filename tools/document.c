// SPDX-License-Identifier: Apache-2.0
// Building documents. Every addition is checked here, once: a document that lacks a field because
// memory ran out must not be printed as if it were whole.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/output.h"

static void *whole(void *item)
{
    if (item != NULL) return item;
    fputs("facet: the result: out of memory; close other programs\n", stderr);
    exit(facet_status_exit(FACET_NO_MEMORY));
}

cJSON *facet_doc_new(void)
{
    return whole(cJSON_CreateObject());
}

void facet_doc_text_n(cJSON *object, const char *name, const char *value, size_t bytes)
{
    facet_text clean;
    facet_text_init(&clean, NULL);
    facet_utf8_clean(value, bytes, &clean);
    if (clean.status != FACET_OK) (void)whole(NULL);
    (void)whole(cJSON_AddStringToObject(object, name, facet_text_str(&clean)));
    facet_text_fini(&clean);
}

void facet_doc_text(cJSON *object, const char *name, const char *value)
{
    facet_doc_text_n(object, name, value, strlen(value));
}

void facet_doc_number(cJSON *object, const char *name, double value)
{
    (void)whole(isfinite(value) ? cJSON_AddNumberToObject(object, name, value)
                                : cJSON_AddNullToObject(object, name));
}

void facet_doc_bool(cJSON *object, const char *name, bool value)
{
    (void)whole(cJSON_AddBoolToObject(object, name, value));
}

cJSON *facet_doc_object(cJSON *object, const char *name)
{
    return whole(cJSON_AddObjectToObject(object, name));
}

cJSON *facet_doc_array(cJSON *object, const char *name)
{
    return whole(cJSON_AddArrayToObject(object, name));
}

cJSON *facet_doc_push_object(cJSON *array)
{
    cJSON *item = facet_doc_new();
    (void)cJSON_AddItemToArray(array, item);
    return item;
}

void facet_doc_push_number(cJSON *array, double value)
{
    (void)cJSON_AddItemToArray(
        array, whole(isfinite(value) ? cJSON_CreateNumber(value) : cJSON_CreateNull()));
}

void facet_doc_push_text(cJSON *array, const char *value)
{
    (void)cJSON_AddItemToArray(array, whole(cJSON_CreateString(value)));
}

void facet_doc_merge(cJSON *object, cJSON *from)
{
    while (from->child != NULL) {
        cJSON *item = cJSON_DetachItemViaPointer(from, from->child);
        cJSON_DeleteItemFromObjectCaseSensitive(object, item->string);
        if (!cJSON_AddItemToObject(object, item->string, item)) (void)whole(NULL);
    }
    cJSON_Delete(from);
}
