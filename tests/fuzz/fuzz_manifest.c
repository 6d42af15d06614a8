// SPDX-License-Identifier: Apache-2.0
// manifest.json from any bytes: what parses must print, parse again and print the same.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cache/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    facet_manifest first, second;
    facet_err err;
    char *one = NULL, *two = NULL;
    const char *text = (const char *)data;
    if (facet_manifest_parse(text, size, "fuzz", NULL, &first, &err) != FACET_OK) return 0;
    if (facet_manifest_print(&first, NULL, &one, &err) != FACET_OK) abort();
    if (facet_manifest_parse(one, strlen(one), "fuzz", NULL, &second, &err) != FACET_OK) abort();
    if (facet_manifest_print(&second, NULL, &two, &err) != FACET_OK) abort();
    if (strcmp(one, two) != 0) abort();
    facet_mem_free(NULL, one);
    facet_mem_free(NULL, two);
    facet_manifest_fini(&first);
    facet_manifest_fini(&second);
    return 0;
}
