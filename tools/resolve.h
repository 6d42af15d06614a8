// SPDX-License-Identifier: Apache-2.0
// What is this path, and how do I open it? A model where a bundle is wanted is compiled dense into
// the cache, once, and opened from there.
#ifndef FACET_TOOLS_RESOLVE_H
#define FACET_TOOLS_RESOLVE_H

#include "cache/cache.h"
#include "model/model.h"
#include "model/tokenizer.h"
#include "tools/tool.h"

typedef enum facet_kind {
    FACET_KIND_MODEL,
    FACET_KIND_BUNDLE,
    FACET_KIND_MASKS,
    FACET_KIND_FAMILIES,
} facet_kind;

// By content, never by name.
facet_status facet_kind_find(const char *path, facet_kind *kind, facet_err *err);

// The cache that the options and the environment name.
facet_status facet_tool_cache(const facet_tool *tool, facet_cache **cache, facet_err *err);

typedef struct facet_resolved {
    facet_bundle *bundle;
    facet_cache *cache; // NULL for a bundle; keeps the compiled one in place while it is open
    char path[4096];    // of the bundle
} facet_resolved;

facet_status facet_resolve(const facet_tool *tool, const char *path, facet_resolved *out,
                           facet_err *err);
// The same from a model that is open already.
facet_status facet_resolve_model(const facet_tool *tool, const facet_model *model,
                                 facet_resolved *out, facet_err *err);
void facet_resolved_fini(facet_resolved *resolved); // safe on a zeroed one
facet_status facet_resolve_bundle(const facet_tool *tool, const char *path, facet_bundle **bundle,
                                  facet_err *err);

// Refuses an output that exists (unless `force`) or whose directory is missing, before any work.
facet_status facet_output_check(const char *path, bool force, facet_err *err);

// The names of --target as a list: "native" becomes this CPU's best, which may be none (no kernels
// are compiled then). `names` holds pointers into `storage`.
enum { FACET_TARGETS_MAX = 8 };
typedef struct facet_targets {
    const char *names[FACET_TARGETS_MAX];
    uint32_t n;
} facet_targets;
facet_status facet_targets_find(const facet_tool *tool, const char *list, facet_targets *out,
                                facet_err *err);

#endif
