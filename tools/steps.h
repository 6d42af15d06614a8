// SPDX-License-Identifier: Apache-2.0
// predict, cluster and compile as functions over structs in memory: each is a command, and build is
// the three in a row. One struct holds the options of all; a command's table lists those it takes.
#ifndef FACET_TOOLS_STEPS_H
#define FACET_TOOLS_STEPS_H

#include <float.h>

#include "compiler/build.h"
#include "model/samples.h"
#include "tools/output.h"
#include "tools/partial.h"

typedef struct facet_steps_opts {
    const char *out;
    bool force;
    uint64_t seed;
    double keep; // 0: not given
    // predict
    facet_strings tasks;
    const char *predictor;
    uint64_t n_continue, answers, ctx, limit;
    double temperature;
    bool raw;
    // cluster
    const char *families; // NULL: not given
    // compile
    uint64_t calibration_tokens, tune_tokens; // 0: not given
    double tune_text;
    const char *budget, *compensate, *refit_target, *select, *down, *precision, *prefill, *quant,
        *target, *source;
    bool no_proof;
    double quality, agree; // 0: not given
    facet_strings scores, score_least;
    bool prove_own; // no option: see facet_build_opts
    // plan
    const char *keeps; // NULL: not given
} facet_steps_opts;

extern const facet_steps_opts facet_steps_defaults;

#define FACET_STEPS_FIELD(field) offsetof(facet_steps_opts, field)

#define FACET_STEPS_OUTPUT_ROWS(value)                                                             \
    FACET_OPT_TEXT("-o", "--output", FACET_STEPS_FIELD(out), value, "Where to write."),            \
        FACET_OPT_FLAG("--force", NULL, FACET_STEPS_FIELD(force), "Replace an existing output.")

#define FACET_STEPS_KEEP_ROW                                                                       \
    FACET_OPT_REAL("--keep", FACET_STEPS_FIELD(keep), "R",                                         \
                   "Share of the channels to keep (0.5; compile: the family set's).", 0, 1, true)

#define FACET_STEPS_SEED_ROW                                                                       \
    FACET_OPT_COUNT("--seed", NULL, FACET_STEPS_FIELD(seed), "S",                                  \
                    "Seed of everything that is drawn (0).", 0, 9007199254740992.0)

#define FACET_STEPS_PREDICT_ROWS                                                                   \
    FACET_OPT_LIST("--task", FACET_STEPS_FIELD(tasks), "NAME=FILE",                                \
                   "A task and its prompts, .jsonl or .txt; once for every file."),                \
        FACET_OPT_TEXT("--predictor", NULL, FACET_STEPS_FIELD(predictor), "NAME",                  \
                       "stats, energy, glass or random (stats)."),                                 \
        FACET_OPT_COUNT("--continue", NULL, FACET_STEPS_FIELD(n_continue), "N",                    \
                        "Tokens of the model's own text after a prompt without completion (64).",  \
                        0, 65536),                                                                 \
        FACET_OPT_COUNT("--answers", NULL, FACET_STEPS_FIELD(answers), "N",                        \
                        "So many such texts for each prompt, the first greedy, the others drawn "  \
                        "(1).",                                                                    \
                        1, 1024),                                                                  \
        FACET_OPT_REAL("--temperature", FACET_STEPS_FIELD(temperature), "T",                       \
                       "Of the texts that are drawn (0.8).", 0, 100, true),                        \
        FACET_OPT_COUNT(                                                                           \
            "--ctx", NULL, FACET_STEPS_FIELD(ctx), "N",                                            \
            "A prompt's first N tokens count; a .txt file is cut into windows of N (256).", 8,     \
            1048576),                                                                              \
        FACET_OPT_COUNT("--limit", NULL, FACET_STEPS_FIELD(limit), "N",                            \
                        "At most N samples of each task file.", 1, 1048576),                       \
        FACET_OPT_FLAG("--raw", NULL, FACET_STEPS_FIELD(raw),                                      \
                       "Do not apply the model's chat template.")

#define FACET_STEPS_CLUSTER_ROWS                                                                   \
    FACET_OPT_TEXT("--families", NULL, FACET_STEPS_FIELD(families), "K|auto|label",                \
                   "How many, or one a task (label when every task has a name, else auto).")

#define FACET_STEPS_PRECISION_ROW                                                                  \
    FACET_OPT_CHOICE("--precision", FACET_STEPS_FIELD(precision), "auto|f32|bf16",                 \
                     "Of large products of statistics, refit and tuning; bf16 takes about half "   \
                     "the time and needs oneDNN and a CPU that has it (auto: bf16 where it is to " \
                     "be had).")

#define FACET_STEPS_REPAIR_ROWS                                                                    \
    FACET_OPT_CHOICE("--budget", FACET_STEPS_FIELD(budget), "uniform|global",                      \
                     "The same share of every layer, or moved to where it helps most (uniform)."), \
        FACET_OPT_COUNT(                                                                           \
            "--calibration-tokens", NULL, FACET_STEPS_FIELD(calibration_tokens), "N",              \
            "At most N tokens calibrate a family (6 a channel of a layer, 8192 at least).", 64,    \
            16777216),                                                                             \
        FACET_OPT_CHOICE("--compensate", FACET_STEPS_FIELD(compensate), "none|bias|refit|tune",    \
                         "What repairs the dropped channels; tune moves all layers of a refit "    \
                         "together towards dense, which takes longer (refit)."),                   \
        FACET_OPT_CHOICE("--refit-target", FACET_STEPS_FIELD(refit_target),                        \
                         "auto|layer|residual|half|oneshot|best",                                  \
                         "What a refit aims at: the layer's own output, dense's residual stream "  \
                         "behind it, halfway between, or what a trial finds best; oneshot fits "   \
                         "each layer on dense's own inputs, to compare with (auto: half where "    \
                         "the model allows it)."),                                                 \
        FACET_OPT_CHOICE("--select", FACET_STEPS_FIELD(select), "stats|eliminate|best",            \
                         "Channels by the family's statistics, by these times what backward "      \
                         "elimination finds, or what a trial finds better (stats)."),              \
        FACET_OPT_CHOICE("--down", FACET_STEPS_FIELD(down), "auto|q8_0",                           \
                         "Type of a family's own down projection: layer by layer the smallest "    \
                         "that held-out error allows, or 8 bits (auto)."),                         \
        FACET_STEPS_PRECISION_ROW,                                                                 \
        FACET_OPT_CHOICE("--prefill", FACET_STEPS_FIELD(prefill), "family|dense",                  \
                         "Who will read the prompts; with dense a family is made, and proved, to " \
                         "answer behind dense's reading (family)."),                               \
        FACET_OPT_COUNT("--tune-tokens", NULL, FACET_STEPS_FIELD(tune_tokens), "N",                \
                        "At most N tokens tune a family (65536).", 64, 16777216),                  \
        FACET_OPT_REAL("--tune-text", FACET_STEPS_FIELD(tune_text), "A",                           \
                       "Share of the text's own next token in what tuning aims at, the rest is "   \
                       "dense's distribution (0.5).",                                              \
                       0, 1, false)

#define FACET_STEPS_LIMIT_ROWS(quality_help, agree_help)                                           \
    FACET_OPT_REAL("--quality", FACET_STEPS_FIELD(quality), "R", quality_help, 1, 1000, true),     \
        FACET_OPT_REAL("--agree", FACET_STEPS_FIELD(agree), "A", agree_help, 0, 1, true)

#define FACET_STEPS_COMPILE_ROWS                                                                   \
    FACET_STEPS_REPAIR_ROWS,                                                                       \
        FACET_OPT_CHOICE("--quant", FACET_STEPS_FIELD(quant), "keep/q8|q4",                        \
                         "Types of the shared weights (keep; q8 and q4 are not built yet)."),      \
        FACET_OPT_TEXT(                                                                            \
            "--target", NULL, FACET_STEPS_FIELD(target), "T[,T...]",                               \
            "native, x86-64-v3, avx-vnni, x86-64-v4, avx512-vnni, avx512-bf16 (native)."),         \
        FACET_OPT_TEXT("--source", NULL, FACET_STEPS_FIELD(source), "DIR",                         \
                       "Also write the emitted sources there."),                                   \
        FACET_OPT_FLAG("--no-proof", NULL, FACET_STEPS_FIELD(no_proof),                            \
                       "Do not measure held-out perplexity and agreement with dense."),            \
        FACET_STEPS_LIMIT_ROWS(                                                                    \
            "Held-out perplexity over dense, at most; without --keep the smallest that does of "   \
            "0.25, 0.33, 0.5, 0.66, 0.75, 0.9 (off).",                                             \
            "Share of the positions of held-out answers with dense's highest-logit token, at "     \
            "least; without --keep as --quality (off)."),                                          \
        FACET_OPT_LIST("--score", FACET_STEPS_FIELD(scores), "[FAMILY:]NAME=COMMAND",              \
                       "A shell command whose last line is the score of $FACET_FAMILY of "         \
                       "$FACET_BUNDLE, higher is better; once for every score."),                  \
        FACET_OPT_LIST("--score-least", FACET_STEPS_FIELD(score_least), "NAME=R",                  \
                       "The score over dense's, at least; without --keep as --quality (off).")

// Options that a table cannot judge: all of them, before any work. Wrong ones are FACET_USAGE.
facet_status facet_steps_check_predict(const facet_steps_opts *opts, facet_err *err);
facet_status facet_steps_check_cluster(const facet_steps_opts *opts, facet_err *err);
facet_status facet_steps_check_compile(const facet_tool *tool, const facet_steps_opts *opts,
                                       facet_err *err);

// What their commands have in common: checks that the output is named and may be written, runs the
// step, which fills the document, and prints it.
typedef facet_status facet_steps_fn(facet_tool *tool, const facet_steps_opts *opts,
                                    const facet_strings *args, cJSON *doc, facet_err *err);
facet_status facet_steps_run(facet_tool *tool, const facet_steps_opts *opts,
                             const facet_strings *args, facet_steps_fn *step, facet_err *err);

// tool->precision, from --precision and what this machine has.
facet_status facet_steps_precision(facet_tool *tool, const facet_steps_opts *opts, facet_err *err);

// Tasks to scores and masks; what is finished goes into `partial`, which may be NULL. Free *out
// with facet_mask_set_fini.
facet_status facet_steps_predict(facet_tool *tool, const facet_steps_opts *opts,
                                 const facet_model *model, facet_partial *partial,
                                 facet_mask_set *out, facet_err *err);
// Masks to families; the curve of the choice goes into `doc`. Free with facet_family_set_fini.
facet_status facet_steps_cluster(facet_tool *tool, const facet_steps_opts *opts,
                                 const facet_mask_set *set, facet_family_set *out, cJSON *doc,
                                 facet_err *err);
// Families to a published bundle. Free *result with facet_build_result_fini. With a limit (quality,
// agree, a score's least) and no keep it tries one keep after the other; quality{limit, agree,
// score_least{}, keep, tried[]} then goes into `doc`.
facet_status facet_steps_build(facet_tool *tool, const facet_steps_opts *opts,
                               const facet_model *model, const facet_family_set *families,
                               facet_build_result *result, cJSON *doc, facet_err *err);
// The same; adds what inspect prints, cache{} and seconds_by_step{} to `doc`.
facet_status facet_steps_compile(facet_tool *tool, const facet_steps_opts *opts,
                                 const facet_model *model, const facet_family_set *families,
                                 cJSON *doc, facet_err *err);

#endif
