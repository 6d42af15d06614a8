// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "base/memory.h"
#include "tools/bench_rows.h"
#include "tools/family_choice.h"
#include "tools/resolve.h"

typedef struct bench_opts {
    const char *family, *format;
    uint64_t n_prompt, n_gen, depth, reps, batch;
} bench_opts;

static const bench_opts defaults = {
    .n_prompt = 256,
    .n_gen = 64,
    .reps = 5,
    .batch = 1,
    .format = "md",
};

#define FIELD(field) offsetof(bench_opts, field)
static const facet_option options[] = {
    FACET_OPT_TEXT("--family", NULL, FIELD(family), "NAME|dense|all",
                   "Whose channels to compute (all)."),
    FACET_OPT_COUNT("-p", "--prompt", FIELD(n_prompt), "N",
                    "Tokens of the prompt; 0 leaves its tests out (256).", 0, 1 << 20),
    FACET_OPT_COUNT("-n", "--tokens", FIELD(n_gen), "N",
                    "Tokens to decode; 0 leaves its tests out (64).", 0, 1 << 20),
    FACET_OPT_COUNT("-d", "--depth", FIELD(depth), "DEPTH",
                    "Tokens in the context before the test (0).", 0, 1 << 20),
    FACET_OPT_COUNT("-r", "--reps", FIELD(reps), "N", "Repetitions (5).", 1, 10000),
    FACET_OPT_COUNT("--batch", NULL, FIELD(batch), "B", "Sequences that decode together (1).", 1,
                    FACET_SEQUENCES_MAX),
    FACET_OPT_LATER("--ablate", "Also measure the parts of the method one by one."),
    FACET_OPT_CHOICE("--format", FIELD(format), "md|csv|json", "How to print (md)."),
    FACET_OPT_END,
};

static facet_status check(const bench_opts *opts, facet_err *err)
{
    if (opts->n_prompt + opts->n_gen == 0)
        return facet_fail(err, FACET_USAGE, "-p 0 -n 0: leave nothing to measure; raise one");
    return FACET_OK;
}

static facet_status measure(const facet_tool *tool, const bench_opts *opts, facet_bundle *bundle,
                            const facet_strings *families, cJSON *doc, facet_err *err)
{
    const facet_measure_opts measure_opts = {
        .n_prompt = (uint32_t)opts->n_prompt,
        .n_gen = (uint32_t)opts->n_gen,
        .depth = (uint32_t)opts->depth,
        .reps = (uint32_t)opts->reps,
        .batch = (uint32_t)opts->batch,
    };
    const uint64_t n_ctx = opts->n_prompt + opts->n_gen + opts->depth;
    if (n_ctx > facet_context(bundle))
        return facet_fail(
            err, FACET_USAGE,
            "bench: %llu tokens are more than the model's context of %u; lower -p, -n "
            "or -d",
            (unsigned long long)n_ctx, facet_context(bundle));
    const size_t n_samples = families->n * FACET_TEST_COUNT * opts->reps;
    double *samples = facet_mem_new(NULL, n_samples, sizeof *samples);
    if (samples == NULL) return facet_fail_memory(err, n_samples * sizeof *samples);
    facet_machine machine;
    facet_status status = facet_machine_find(tool, &machine, err);
    if (status == FACET_OK)
        status = facet_measure(tool, bundle, families, &measure_opts, samples, err);
    if (status == FACET_OK)
        status = facet_bench_rows(&machine, bundle, families, &measure_opts, samples, doc, err);
    facet_mem_free(NULL, samples);
    return status;
}

static facet_status print(const facet_tool *tool, const bench_opts *opts, cJSON *doc,
                          facet_status status, facet_err *err)
{
    if (tool->json || status != FACET_OK) return facet_output_result(tool, doc, status, err);
    facet_text text;
    facet_text_init(&text, NULL);
    facet_bench_print(doc, strcmp(opts->format, "csv") == 0, &text);
    cJSON_Delete(doc);
    status = facet_text_status(&text, err);
    facet_output_clear();
    if (status == FACET_OK) status = facet_output_write(text.data, text.length, err);
    if (status == FACET_OK) status = facet_output_flush(err);
    facet_text_fini(&text);
    return status;
}

static facet_status run(facet_tool *tool, const void *opts_given, const facet_strings *args,
                        facet_err *err)
{
    const bench_opts *opts = opts_given;
    if (strcmp(opts->format, "json") == 0) tool->json = true;
    FACET_TRY(check(opts, err));
    facet_resolved resolved;
    facet_strings families = {0};
    FACET_TRY(facet_resolve(tool, args->items[0], &resolved, err));
    cJSON *doc = facet_doc_new();
    facet_status status = facet_family_list(resolved.bundle, opts->family, &families, err);
    if (status == FACET_OK) status = measure(tool, opts, resolved.bundle, &families, doc, err);
    facet_strings_fini(&families);
    facet_resolved_fini(&resolved);
    return print(tool, opts, doc, status, err);
}

const facet_command facet_command_bench = {
    .name = "bench",
    .summary = "Measure speed: prompts and decoding, dense and families, interleaved.",
    .usage = "[options] BUNDLE|MODEL",
    .example = "facet bench demo.facet -r 3 --format md",
    .options = options,
    .defaults = &defaults,
    .bytes = sizeof defaults,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
