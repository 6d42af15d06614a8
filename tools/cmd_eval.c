// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "tools/batch.h"
#include "tools/evaluate.h"

static const facet_eval_opts defaults = {.n = 128, .batch = FACET_BATCH_DEFAULT};
#define FIELD(field) offsetof(facet_eval_opts, field)
static const facet_option options[] = {
    FACET_OPT_TEXT("--ppl", NULL, FIELD(ppl), "FILE", "Measure the perplexity of a text file."),
    FACET_OPT_TEXT("--complete", NULL, FIELD(complete), "FILE.jsonl",
                   "Answer every prompt of a task file, greedily."),
    FACET_OPT_TEXT("--agree", NULL, FIELD(agree), "FILE.jsonl",
                   "Compare with dense's greedy answers to the prompts of a task file."),
    FACET_OPT_TEXT("--family", NULL, FIELD(family), "NAME|dense|all",
                   "Whose channels to compute (--complete: dense; else: all)."),
    FACET_OPT_CHOICE("--prefill", FIELD(prefill), "family|dense",
                     "--complete, --agree: who reads the prompts (family)."),
    FACET_OPT_COUNT("--ctx", NULL, FIELD(ctx), "N",
                    "--ppl: tokens of a window (256); else: of prompt and answer (the model's).", 2,
                    1 << 20),
    FACET_OPT_TEXT("-o", "--output", FIELD(out), "OUT.jsonl",
                   "--complete: the records with their completions."),
    FACET_OPT_FLAG("--force", NULL, FIELD(force), "Replace an existing output."),
    FACET_OPT_COUNT("-n", "--tokens", FIELD(n), "N",
                    "--complete, --agree: tokens of an answer at most (128).", 1, 1 << 20),
    FACET_OPT_COUNT("--limit", NULL, FIELD(limit), "N",
                    "--complete, --agree: the first N records only.", 1, 1 << 20),
    FACET_OPT_COUNT("--batch", NULL, FIELD(batch), "B",
                    "--complete, --agree: prompts answered side by side, memory allowing (32).", 1,
                    FACET_SEQUENCES_MAX),
    FACET_OPT_LIST("--stop", FIELD(stops), "TEXT",
                   "--complete: a text that ends the answer; may be given again."),
    FACET_OPT_FLAG("--raw", NULL, FIELD(raw), "Do not apply the chat template."),
    FACET_OPT_END,
};

static facet_status check(const facet_eval_opts *opts, facet_err *err)
{
    if ((opts->ppl != NULL) + (opts->complete != NULL) + (opts->agree != NULL) != 1)
        return facet_fail(
            err, FACET_USAGE,
            "eval: needs one of --ppl, --complete and --agree; see facet eval --help");
    if (opts->family != NULL && strcmp(opts->family, "auto") == 0)
        return facet_fail(err, FACET_USAGE,
                          "--family auto: is not for eval; name a family, dense or all");
    for (size_t i = 0; i < opts->stops.n; i++)
        if (opts->stops.items[i][0] == '\0')
            return facet_fail(err, FACET_USAGE,
                              "--stop: an empty text stops nothing; leave it out");
    if (opts->complete == NULL && (opts->out != NULL || opts->stops.n > 0))
        return facet_fail(err, FACET_USAGE, "%s: goes with --complete only; leave it out",
                          opts->out != NULL ? "-o" : "--stop");
    if (opts->ppl != NULL && opts->prefill != NULL)
        return facet_fail(err, FACET_USAGE,
                          "--prefill: a text has no prompt, --ppl reads it by the family; leave "
                          "it out");
    if (opts->complete == NULL) return FACET_OK;
    if (opts->out == NULL)
        return facet_fail(err, FACET_USAGE, "-o: the output is not named; see facet eval --help");
    return facet_output_check(opts->out, opts->force, err);
}

static facet_status evaluate(const facet_tool *tool, const facet_eval_opts *opts,
                             facet_bundle *bundle, cJSON *doc, facet_err *err)
{
    if (opts->ctx > facet_context(bundle))
        return facet_fail(err, FACET_USAGE, "--ctx %llu: the model's context ends at %u; lower it",
                          (unsigned long long)opts->ctx, facet_context(bundle));
    if (opts->ppl != NULL) return facet_eval_ppl(tool, opts, bundle, doc, err);
    if (opts->agree != NULL) return facet_eval_agree(tool, opts, bundle, doc, err);
    return facet_eval_complete(tool, opts, bundle, doc, err);
}

static facet_status run(facet_tool *tool, const void *opts_given, const facet_strings *args,
                        facet_err *err)
{
    const facet_eval_opts *opts = opts_given;
    FACET_TRY(check(opts, err));
    facet_resolved resolved;
    FACET_TRY(facet_resolve(tool, args->items[0], &resolved, err));
    cJSON *doc = facet_doc_new();
    facet_status status = evaluate(tool, opts, resolved.bundle, doc, err);
    facet_resolved_fini(&resolved);
    return facet_output_result(tool, doc, status, err);
}

const facet_command facet_command_eval = {
    .name = "eval",
    .summary = "Measure perplexity or agreement with dense, or answer prompts.",
    .usage = "[options] BUNDLE|MODEL (--ppl FILE | --complete FILE.jsonl -o OUT.jsonl | "
             "--agree FILE.jsonl)",
    .example = "facet eval demo.facet --family all --ppl heldout.txt",
    .options = options,
    .defaults = &defaults,
    .bytes = sizeof defaults,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
