// SPDX-License-Identifier: Apache-2.0
// --family against what a bundle has.
#ifndef FACET_TOOLS_FAMILY_CHOICE_H
#define FACET_TOOLS_FAMILY_CHOICE_H

#include "tools/tool.h"

// The bundle's own name for the family; an unknown one is FACET_NOT_FOUND naming those there are.
facet_status facet_family_find(const facet_bundle *bundle, const char *name, const char **out,
                               facet_err *err);
// One family, or every one when `name` is "all" or NULL; items are borrowed from the bundle.
facet_status facet_family_list(const facet_bundle *bundle, const char *name, facet_strings *out,
                               facet_err *err);

#endif
