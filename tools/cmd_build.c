// SPDX-License-Identifier: Apache-2.0
// predict, cluster and compile in a row; what lies between them stays in memory.
#include "base/clock.h"
#include "tools/steps.h"

static const facet_option options[] = {
    FACET_STEPS_PREDICT_ROWS,
    FACET_STEPS_KEEP_ROW,
    FACET_STEPS_CLUSTER_ROWS,
    FACET_STEPS_COMPILE_ROWS,
    FACET_STEPS_SEED_ROW,
    FACET_STEPS_OUTPUT_ROWS("OUT.facet"),
    FACET_OPT_END,
};

typedef struct build_times {
    double predict, cluster;
} build_times;

static facet_status families_of(facet_tool *tool, const facet_steps_opts *opts,
                                const facet_model *model, facet_family_set *families, cJSON *doc,
                                build_times *times, facet_err *err)
{
    facet_mask_set set = {0};
    uint64_t begin = facet_clock_ns();
    FACET_TRY(facet_steps_predict(tool, opts, model, NULL, &set, err));
    times->predict = facet_clock_seconds(begin);
    begin = facet_clock_ns();
    facet_status status = facet_steps_cluster(tool, opts, &set, families, doc, err);
    times->cluster = facet_clock_seconds(begin);
    facet_mask_set_fini(&set);
    return status;
}

static facet_status build(facet_tool *tool, const facet_steps_opts *opts, const facet_strings *args,
                          cJSON *doc, facet_err *err)
{
    facet_model *model;
    facet_family_set families = {0};
    build_times times = {0};
    FACET_TRY(facet_model_open(args->items[0], NULL, &model, err));
    facet_status status = families_of(tool, opts, model, &families, doc, &times, err);
    if (status == FACET_OK) status = facet_steps_compile(tool, opts, model, &families, doc, err);
    facet_family_set_fini(&families);
    facet_model_close(model);
    if (status != FACET_OK) return status;
    cJSON *steps = cJSON_GetObjectItemCaseSensitive(doc, "seconds_by_step");
    facet_doc_number(steps, "predict", times.predict);
    facet_doc_number(steps, "cluster", times.cluster);
    return FACET_OK;
}

static facet_status run(facet_tool *tool, const void *opts_given, const facet_strings *args,
                        facet_err *err)
{
    FACET_TRY(facet_steps_check_predict(opts_given, err));
    FACET_TRY(facet_steps_check_cluster(opts_given, err));
    FACET_TRY(facet_steps_check_compile(tool, opts_given, err));
    return facet_steps_run(tool, opts_given, args, build, err);
}

const facet_command facet_command_build = {
    .name = "build",
    .summary = "Make a bundle from a model and task prompts: predict, cluster and compile.",
    .usage = "[options] MODEL --task NAME=FILE ... -o OUT.facet",
    .example = "facet build model.gguf --task code=code.jsonl --task math=math.jsonl -o demo.facet",
    .options = options,
    .defaults = &facet_steps_defaults,
    .bytes = sizeof facet_steps_defaults,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
