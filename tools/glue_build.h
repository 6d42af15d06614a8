// SPDX-License-Identifier: Apache-2.0
// The compiler never runs a model or a kernel; here it gets the callbacks that do: streams of
// calib/, checks and losses of runtime/.
#ifndef FACET_TOOLS_GLUE_BUILD_H
#define FACET_TOOLS_GLUE_BUILD_H

#include "compiler/build.h"
#include "tools/tool.h"

// `tool` is borrowed by the ops.
facet_build_ops facet_glue_build(facet_tool *tool);

#endif
