// SPDX-License-Identifier: Apache-2.0
// The canonical recipe of the dense bundle of a model: its key in the cache.
#ifndef FACET_TOOLS_DENSE_RECIPE_H
#define FACET_TOOLS_DENSE_RECIPE_H

#include "compiler/target.h"
#include "model/model.h"
#include "tools/resolve.h"

// Appends the text; `cc` is NULL when no kernels are compiled.
facet_status facet_dense_recipe(const facet_tool *tool, const facet_model *model,
                                const facet_targets *targets, const facet_cc *cc,
                                facet_text *recipe, facet_err *err);

#endif
