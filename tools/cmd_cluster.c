// SPDX-License-Identifier: Apache-2.0
#include "tools/describe.h"
#include "tools/steps.h"

static const facet_option options[] = {
    FACET_STEPS_CLUSTER_ROWS,
    FACET_STEPS_SEED_ROW,
    FACET_STEPS_OUTPUT_ROWS("OUT.families"),
    FACET_OPT_END,
};

static facet_status cluster(facet_tool *tool, const facet_steps_opts *opts,
                            const facet_strings *args, cJSON *doc, facet_err *err)
{
    facet_mask_set set = {0};
    facet_family_set families = {0};
    FACET_TRY(facet_mask_set_load(args->items[0], NULL, &set, err));
    facet_status status = facet_steps_cluster(tool, opts, &set, &families, doc, err);
    if (status == FACET_OK) status = facet_describe_families(&families, doc, err);
    // Last, so that nothing is left behind when anything before it fails.
    if (status == FACET_OK) status = facet_family_set_save(&families, opts->out, opts->force, err);
    facet_family_set_fini(&families);
    facet_mask_set_fini(&set);
    return status;
}

static facet_status run(facet_tool *tool, const void *opts_given, const facet_strings *args,
                        facet_err *err)
{
    FACET_TRY(facet_steps_check_cluster(opts_given, err));
    return facet_steps_run(tool, opts_given, args, cluster, err);
}

const facet_command facet_command_cluster = {
    .name = "cluster",
    .summary = "Group prompts that need the same channels into families.",
    .usage = "[options] IN.masks -o OUT.families",
    .example = "facet cluster demo.masks -o demo.families --families auto",
    .options = options,
    .defaults = &facet_steps_defaults,
    .bytes = sizeof facet_steps_defaults,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
