// SPDX-License-Identifier: Apache-2.0
#include "tools/steps.h"

static const facet_option options[] = {
    FACET_STEPS_KEEP_ROW, FACET_STEPS_COMPILE_ROWS,
    FACET_STEPS_SEED_ROW, FACET_STEPS_OUTPUT_ROWS("OUT.facet"),
    FACET_OPT_END,
};

static facet_status compile(facet_tool *tool, const facet_steps_opts *opts,
                            const facet_strings *args, cJSON *doc, facet_err *err)
{
    facet_family_set families = {0};
    facet_model *model = NULL;
    facet_status status = facet_family_set_load(args->items[1], NULL, &families, err);
    if (status == FACET_OK) status = facet_model_open(args->items[0], NULL, &model, err);
    if (status == FACET_OK) status = facet_steps_compile(tool, opts, model, &families, doc, err);
    facet_model_close(model);
    facet_family_set_fini(&families);
    return status;
}

static facet_status run(facet_tool *tool, const void *opts_given, const facet_strings *args,
                        facet_err *err)
{
    FACET_TRY(facet_steps_check_compile(tool, opts_given, err));
    return facet_steps_run(tool, opts_given, args, compile, err);
}

const facet_command facet_command_compile = {
    .name = "compile",
    .summary = "Compile a model and its families into a bundle.",
    .usage = "[options] MODEL IN.families -o OUT.facet",
    .example = "facet compile model.gguf demo.families -o demo.facet --keep 0.5",
    .options = options,
    .defaults = &facet_steps_defaults,
    .bytes = sizeof facet_steps_defaults,
    .min_args = 2,
    .max_args = 2,
    .run = run,
};
