// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "tools/evaluate.h"

static const facet_eval_opts defaults = {.ctx = 256, .n = 128};
#define FIELD(field) offsetof(facet_eval_opts, field)
static const facet_option options[] = {
    FACET_OPT_TEXT("--ppl", NULL, FIELD(ppl), "FILE", "Measure the perplexity of a text file."),
    FACET_OPT_TEXT("--complete", NULL, FIELD(complete), "FILE.jsonl",
                   "Answer every prompt of a task file, greedily."),
    FACET_OPT_TEXT("--family", NULL, FIELD(family), "NAME|dense|all",
                   "Whose channels to compute (--ppl: all; --complete: dense)."),
    FACET_OPT_COUNT("--ctx", NULL, FIELD(ctx), "N", "--ppl: tokens of a window (256).", 2, 1 << 20),
    FACET_OPT_TEXT("-o", "--output", FIELD(out), "OUT.jsonl",
                   "--complete: the records with their completions."),
    FACET_OPT_FLAG("--force", NULL, FIELD(force), "Replace an existing output."),
    FACET_OPT_COUNT("-n", "--tokens", FIELD(n), "N", "--complete: tokens at most (128).", 1,
                    1 << 20),
    FACET_OPT_LIST("--stop", FIELD(stops), "TEXT",
                   "--complete: a text that ends the answer; may be given again."),
    FACET_OPT_FLAG("--raw", NULL, FIELD(raw), "Do not apply the chat template."),
    FACET_OPT_END,
};

static facet_status check(const facet_eval_opts *opts, facet_err *err)
{
    if ((opts->ppl != NULL) == (opts->complete != NULL))
        return facet_fail(err, FACET_USAGE,
                          "eval: needs one of --ppl and --complete; see facet eval --help");
    if (opts->family != NULL && strcmp(opts->family, "auto") == 0)
        return facet_fail(err, FACET_USAGE,
                          "--family auto: is not for eval; name a family, dense or all");
    for (size_t i = 0; i < opts->stops.n; i++)
        if (opts->stops.items[i][0] == '\0')
            return facet_fail(err, FACET_USAGE,
                              "--stop: an empty text stops nothing; leave it out");
    if (opts->complete == NULL) return FACET_OK;
    if (opts->out == NULL)
        return facet_fail(err, FACET_USAGE, "-o: the output is not named; see facet eval --help");
    return facet_output_check(opts->out, opts->force, err);
}

static facet_status run(facet_tool *tool, const void *opts_given, const facet_strings *args,
                        facet_err *err)
{
    const facet_eval_opts *opts = opts_given;
    FACET_TRY(check(opts, err));
    facet_resolved resolved;
    FACET_TRY(facet_resolve(tool, args->items[0], &resolved, err));
    cJSON *doc = facet_doc_new();
    facet_status status = opts->ppl != NULL
                              ? facet_eval_ppl(tool, opts, resolved.bundle, doc, err)
                              : facet_eval_complete(tool, opts, resolved.bundle, doc, err);
    facet_resolved_fini(&resolved);
    if (status == FACET_OK) return facet_output_document(tool, doc, err);
    cJSON_Delete(doc);
    return status;
}

const facet_command facet_command_eval = {
    .name = "eval",
    .summary = "Measure perplexity, or complete a file of prompts.",
    .usage = "[options] BUNDLE|MODEL (--ppl FILE | --complete FILE.jsonl -o OUT.jsonl)",
    .example = "facet eval demo.facet --family all --ppl heldout.txt",
    .options = options,
    .defaults = &defaults,
    .bytes = sizeof defaults,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
