// SPDX-License-Identifier: Apache-2.0
// run -i: a conversation over standard input and output.
#ifndef FACET_TOOLS_CONVERSATION_H
#define FACET_TOOLS_CONVERSATION_H

#include "tools/generate.h"
#include "tools/tool.h"

// One prompt a line until the end of standard input. The whole conversation goes through the chat
// template each turn; what the context holds of it already is not computed again. `raw`: no
// template, and every line stands for itself.
// With a route, the first turn chooses the family (raw: every line does).
facet_status facet_chat(const facet_tool *tool, facet_bundle *bundle, facet_session *session,
                        const facet_generate_opts *opts, bool raw, facet_err *err);

#endif
