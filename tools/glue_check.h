// SPDX-License-Identifier: Apache-2.0
// From a plan (compiler/) to what runtime/check.h wants to know about an artifact.
#ifndef FACET_TOOLS_GLUE_CHECK_H
#define FACET_TOOLS_GLUE_CHECK_H

#include "compiler/plan.h"
#include "runtime/check.h"
#include "tools/tool.h"

facet_status facet_glue_check(const facet_tool *tool, const char *path, const facet_plan *plan,
                              facet_check_result *result, facet_err *err);

#endif
