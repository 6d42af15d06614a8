// SPDX-License-Identifier: Apache-2.0
#include "tools/describe.h"

// The common options are all there are.
static const facet_option options[] = {
    FACET_OPT_END,
};

static facet_status run(facet_tool *tool, const void *opts, const facet_strings *args,
                        facet_err *err)
{
    (void)opts;
    cJSON *doc = facet_doc_new();
    facet_status status = facet_describe(tool, args->items[0], doc, err);
    return facet_output_result(tool, doc, status, err);
}

const facet_command facet_command_inspect = {
    .name = "inspect",
    .summary = "Tell what a model, mask set, family set or bundle holds.",
    .usage = "[options] FILE",
    .example = "facet inspect model.gguf --json",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
