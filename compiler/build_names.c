// SPDX-License-Identifier: Apache-2.0
// Names of the options of a build.
#include <string.h>

#include "compiler/build.h"

static const char *const compensations[] = {"refit", "bias", "none", "tune"};
static const char *const targets[] = {"auto", "layer", "residual", "half", "oneshot", "best"};
static const char *const selections[] = {"stats", "eliminate", "best"};

// Place of a name among n, or n.
static int place(const char *name, const char *const *names, int n)
{
    int i = 0;
    while (i < n && strcmp(name, names[i]) != 0)
        i++;
    return i;
}

bool facet_compensation_find(const char *name, facet_compensation *out)
{
    const int i = place(name, compensations, FACET_COMPENSATE_COUNT);
    if (i < FACET_COMPENSATE_COUNT) *out = (facet_compensation)i;
    return i < FACET_COMPENSATE_COUNT;
}

bool facet_refit_target_find(const char *name, facet_refit_target *out)
{
    const int i = place(name, targets, FACET_REFIT_COUNT);
    if (i < FACET_REFIT_COUNT) *out = (facet_refit_target)i;
    return i < FACET_REFIT_COUNT;
}

bool facet_selection_find(const char *name, facet_selection *out)
{
    const int i = place(name, selections, FACET_SELECT_COUNT);
    if (i < FACET_SELECT_COUNT) *out = (facet_selection)i;
    return i < FACET_SELECT_COUNT;
}

const char *facet_compensation_name(facet_compensation compensation)
{
    return compensations[compensation];
}

const char *facet_refit_target_name(facet_refit_target target)
{
    return targets[target];
}

const char *facet_selection_name(facet_selection selection)
{
    return selections[selection];
}
