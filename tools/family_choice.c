// SPDX-License-Identifier: Apache-2.0
#include "tools/family_choice.h"

#include <string.h>

facet_status facet_family_find(const facet_bundle *bundle, const char *name, const char **out,
                               facet_err *err)
{
    const uint32_t n = facet_family_count(bundle);
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(facet_family_name(bundle, i), name) != 0) continue;
        *out = facet_family_name(bundle, i);
        return FACET_OK;
    }
    facet_text names;
    facet_text_init(&names, NULL);
    for (uint32_t i = 0; i < n; i++)
        facet_text_add(&names, "%s%s", i > 0 ? ", " : "", facet_family_name(bundle, i));
    facet_status status = facet_fail(
        err, FACET_NOT_FOUND, "--family %.64s: the bundle has no such family; choose of %.300s",
        name, facet_text_str(&names));
    facet_text_fini(&names);
    return status;
}

facet_status facet_family_list(const facet_bundle *bundle, const char *name, facet_strings *out,
                               facet_err *err)
{
    if (name != NULL && strcmp(name, "all") != 0) {
        const char *found;
        FACET_TRY(facet_family_find(bundle, name, &found, err));
        return facet_strings_add(out, found, err);
    }
    for (uint32_t i = 0; i < facet_family_count(bundle); i++)
        FACET_TRY(facet_strings_add(out, facet_family_name(bundle, i), err));
    return FACET_OK;
}
