// SPDX-License-Identifier: Apache-2.0
#include "tools/steps.h"

#include "base/clock.h"
#include "tools/resolve.h"

// The output is named and may be written.
static facet_status check_output(const facet_tool *tool, const facet_steps_opts *opts,
                                 facet_err *err)
{
    if (opts->out == NULL || opts->out[0] == '\0')
        return facet_fail(err, FACET_USAGE, "-o: the output is not named; see facet %s --help",
                          tool->command);
    return facet_output_check(opts->out, opts->force, err);
}

facet_status facet_steps_run(facet_tool *tool, const facet_steps_opts *opts,
                             const facet_strings *args, facet_steps_fn *step, facet_err *err)
{
    const uint64_t begin = facet_clock_ns();
    FACET_TRY(check_output(tool, opts, err));
    cJSON *doc = facet_doc_new();
    facet_doc_text(doc, "output", opts->out);
    const facet_status status = step(tool, opts, args, doc, err);
    facet_doc_number(doc, "seconds", facet_clock_seconds(begin));
    return facet_output_result(tool, doc, status, err);
}
