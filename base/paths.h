// SPDX-License-Identifier: Apache-2.0
// Parents of paths: shared by base/file.c and base/dir.c.
#ifndef FACET_BASE_PATHS_H
#define FACET_BASE_PATHS_H

#include "base/status.h"

// The directory a path lies in ("." for a bare name, trailing slashes ignored).
facet_status facet_path_parent(const char *path, char *out, size_t capacity, facet_err *err);
facet_status facet_path_sync(const char *path, facet_err *err);
facet_status facet_path_sync_parent(const char *path, facet_err *err);

#endif
