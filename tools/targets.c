// SPDX-License-Identifier: Apache-2.0
// --target: names separated by commas.
#include <string.h>

#include "compiler/target.h"
#include "runtime/isa.h"
#include "tools/resolve.h"

static bool is_gpu(const char *name)
{
    return strncmp(name, "sm_", 3) == 0 || strncmp(name, "compute_", 8) == 0;
}

// The table's own name for `name`, NULL for "native" on a CPU without a baked target.
static facet_status find(const facet_tool *tool, const char *name, const char **out, facet_err *err)
{
    *out = NULL;
    bool native = strcmp(name, "native") == 0;
    if (native) name = facet_isa_best(tool->env.isa);
    if (native && strcmp(name, "generic") == 0) return FACET_OK;
    if (is_gpu(name))
        return facet_fail(err, FACET_USAGE,
                          "--target %s: GPU targets are not built yet; name a CPU target", name);
    const facet_target *target = facet_target_find(name);
    if (target == NULL)
        return facet_fail(err, FACET_USAGE,
                          "--target %s: is no target; name native or one that facet help compile "
                          "lists",
                          name);
    *out = target->name;
    return FACET_OK;
}

static facet_status add(const facet_tool *tool, const char *name, facet_targets *targets,
                        facet_err *err)
{
    const char *found;
    FACET_TRY(find(tool, name, &found, err));
    for (uint32_t i = 0; found != NULL && i < targets->n; i++)
        if (strcmp(targets->names[i], found) == 0) found = NULL;
    if (found == NULL) return FACET_OK;
    if (targets->n == FACET_TARGETS_MAX)
        return facet_fail(err, FACET_USAGE, "--target: too many targets; name at most %d",
                          (int)FACET_TARGETS_MAX);
    targets->names[targets->n++] = found;
    return FACET_OK;
}

facet_status facet_targets_find(const facet_tool *tool, const char *list, facet_targets *out,
                                facet_err *err)
{
    facet_targets targets = {0};
    for (const char *word = list;;) {
        size_t n = strcspn(word, ",");
        char name[32];
        if (n == 0 || n >= sizeof name)
            return facet_fail(err, FACET_USAGE,
                              "--target %.80s: is no list of targets; separate names by commas",
                              list);
        memcpy(name, word, n);
        name[n] = '\0';
        FACET_TRY(add(tool, name, &targets, err));
        if (word[n] == '\0') break;
        word += n + 1;
    }
    // Portable kernels only: there is nothing to compile.
    if (tool->mode == FACET_TOOL_GENERIC) targets.n = 0;
    *out = targets;
    return FACET_OK;
}
