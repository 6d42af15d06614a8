// SPDX-License-Identifier: Apache-2.0
#include "tools/describe.h"
#include "tools/steps.h"

static const facet_option options[] = {
    FACET_STEPS_PREDICT_ROWS,
    FACET_STEPS_PRECISION_ROW,
    FACET_STEPS_KEEP_ROW,
    FACET_STEPS_SEED_ROW,
    FACET_STEPS_OUTPUT_ROWS("OUT.masks"),
    FACET_OPT_END,
};

static facet_status predict(facet_tool *tool, const facet_steps_opts *opts,
                            const facet_strings *args, cJSON *doc, facet_err *err)
{
    facet_model *model;
    facet_mask_set set = {0};
    facet_partial partial = {.tool = tool};
    if (snprintf(partial.path, sizeof partial.path, "%s.partial", opts->out) >= 4096)
        return facet_fail(err, FACET_USAGE, "-o: the path is too long");
    FACET_TRY(facet_model_open(args->items[0], NULL, &model, err));
    facet_status status = facet_steps_predict(tool, opts, model, &partial, &set, err);
    facet_model_close(model);
    if (status == FACET_OK) status = facet_mask_set_save(&set, opts->out, opts->force, err);
    facet_partial_end(&partial, status == FACET_INTERRUPTED);
    if (status == FACET_OK) status = facet_describe_masks(&set, doc, err);
    facet_mask_set_fini(&set);
    return status;
}

static facet_status run(facet_tool *tool, const void *opts_given, const facet_strings *args,
                        facet_err *err)
{
    FACET_TRY(facet_steps_check_predict(opts_given, err));
    return facet_steps_run(tool, opts_given, args, predict, err);
}

const facet_command facet_command_predict = {
    .name = "predict",
    .summary = "Find which channels each prompt needs.",
    .usage = "[options] MODEL --task NAME=FILE ... -o OUT.masks",
    .example =
        "facet predict model.gguf --task code=code.jsonl --task math=math.jsonl -o demo.masks",
    .options = options,
    .defaults = &facet_steps_defaults,
    .bytes = sizeof facet_steps_defaults,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
