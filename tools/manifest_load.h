// SPDX-License-Identifier: Apache-2.0
// The manifest of a bundle directory, without opening the bundle.
#ifndef FACET_TOOLS_MANIFEST_LOAD_H
#define FACET_TOOLS_MANIFEST_LOAD_H

#include "cache/manifest.h"

facet_status facet_manifest_load(const char *bundle, facet_manifest *manifest, facet_err *err);

#endif
