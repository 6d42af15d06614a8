// SPDX-License-Identifier: Apache-2.0
#include "base/clock.h"
#include "tools/describe.h"
#include "tools/steps.h"

static const facet_option options[] = {
    FACET_STEPS_PREDICT_ROWS,
    FACET_STEPS_KEEP_ROW,
    FACET_STEPS_SEED_ROW,
    FACET_STEPS_OUTPUT_ROWS("OUT.masks"),
    FACET_OPT_END,
};

static facet_status predict(facet_tool *tool, const facet_steps_opts *opts, const char *model_path,
                            facet_mask_set *set, facet_err *err)
{
    facet_model *model;
    FACET_TRY(facet_model_open(model_path, NULL, &model, err));
    facet_status status = facet_steps_predict(tool, opts, model, set, err);
    facet_model_close(model);
    if (status == FACET_OK) status = facet_mask_set_save(set, opts->out, opts->force, err);
    return status;
}

static facet_status run(facet_tool *tool, const void *opts_given, const facet_strings *args,
                        facet_err *err)
{
    const facet_steps_opts *opts = opts_given;
    const uint64_t begin = facet_clock_ns();
    FACET_TRY(facet_steps_check_predict(opts, err));
    FACET_TRY(facet_steps_check_output(tool, opts, err));
    facet_mask_set set = {0};
    cJSON *doc = facet_doc_new();
    facet_doc_text(doc, "output", opts->out);
    facet_status status = predict(tool, opts, args->items[0], &set, err);
    if (status == FACET_OK) status = facet_describe_masks(&set, doc, err);
    facet_mask_set_fini(&set);
    if (status != FACET_OK) {
        cJSON_Delete(doc);
        return status;
    }
    facet_doc_number(doc, "seconds", facet_clock_seconds(begin));
    return facet_output_document(tool, doc, err);
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
