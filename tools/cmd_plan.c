// SPDX-License-Identifier: Apache-2.0
// How many families, and how many channels? Compiles every answer that is asked for into a private
// temporary directory, one bundle after the other, and prints what each family would cost and gain.
// The functions are those of predict, cluster and compile, so a row says what build would make.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "tools/manifest_load.h"
#include "tools/resolve.h"
#include "tools/steps.h"

enum { WORDS_MAX = 32, WORD_BYTES = 24 };

static const char default_keeps[] = "0.25,0.33,0.5,0.66,0.75,1";

static const facet_option options[] = {
    FACET_STEPS_PREDICT_ROWS,
    FACET_OPT_TEXT(
        "--families", NULL, FACET_STEPS_FIELD(families), "LIST",
        "Groupings to try, of K, auto and label (1 to one less than the tasks, then label; "
        "without task names 1,auto)."),
    FACET_OPT_TEXT("--keeps", NULL, FACET_STEPS_FIELD(keeps), "LIST",
                   "Shares of the channels to try (0.25,0.33,0.5,0.66,0.75,1)."),
    FACET_STEPS_REPAIR_ROWS,
    FACET_STEPS_LIMIT_ROWS("Tell which rows have at most R times dense's held-out perplexity.",
                           "Tell which rows agree with dense at this share of positions at least."),
    FACET_STEPS_SEED_ROW,
    FACET_OPT_END,
};

typedef struct words {
    char items[WORDS_MAX][WORD_BYTES];
    uint32_t n;
} words;

typedef struct plan {
    facet_tool tool;            // the command's, but for the report: see show_progress
    const facet_report *report; // the command's
    const facet_steps_opts *opts;
    const facet_model *model;
    words keeps, groupings; // no groupings: the families are given
    uint32_t at, total;     // compiles
    char temp[4096];
    cJSON *doc, *rows;
} plan;

// ---- options
// -------------------------------------------------------------------------------------

static facet_status split(const char *option, const char *list, words *out, facet_err *err)
{
    for (const char *word = list;; word++) {
        const size_t n = strcspn(word, ",");
        if (n == 0 || n >= WORD_BYTES || out->n == WORDS_MAX)
            return facet_fail(err, FACET_USAGE,
                              "%s %.80s: is no list of 1 to %d words; separate them by commas",
                              option, list, (int)WORDS_MAX);
        memcpy(out->items[out->n], word, n);
        out->items[out->n++][n] = '\0';
        word += n;
        if (*word == '\0') return FACET_OK;
    }
}

static double keep_of(const char *word)
{
    double keep;
    return facet_parse_double(word, &keep) && keep > 0 && keep <= 1 ? keep : (double)NAN;
}

static facet_status check(plan *p, const facet_strings *args, facet_err *err)
{
    const facet_steps_opts *opts = p->opts;
    if (args->n > 1 && opts->tasks.n > 0)
        return facet_fail(err, FACET_USAGE,
                          "--task: does not go with %.200s; leave one of them out", args->items[1]);
    if (args->n == 1) FACET_TRY(facet_steps_check_predict(opts, err));
    FACET_TRY(facet_steps_check_compile(&p->tool, opts, err));
    FACET_TRY(split("--keeps", opts->keeps != NULL ? opts->keeps : default_keeps, &p->keeps, err));
    for (uint32_t i = 0; i < p->keeps.n; i++)
        if (isnan(keep_of(p->keeps.items[i])))
            return facet_fail(err, FACET_USAGE,
                              "--keeps %s: is no number above 0 and at most 1; see facet plan "
                              "--help",
                              p->keeps.items[i]);
    if (opts->families == NULL) return FACET_OK;
    FACET_TRY(split("--families", opts->families, &p->groupings, err));
    for (uint32_t i = 0; i < p->groupings.n; i++) {
        const facet_steps_opts one = {.families = p->groupings.items[i]};
        FACET_TRY(facet_steps_check_cluster(&one, err));
    }
    return FACET_OK;
}

// ---- progress
// ------------------------------------------------------------------------------------

// What the compile under way reports, and which of all it is.
static void show_progress(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    const plan *p = ctx;
    char text[128];
    if (p->at == 0)
        (void)snprintf(text, sizeof text, "%s", what);
    else
        (void)snprintf(text, sizeof text, "plan %u/%u: %s", p->at, p->total, what);
    p->report->progress(p->report->ctx, text, done, total);
}

static void pass_log(void *ctx, facet_level level, const char *text)
{
    const plan *p = ctx;
    p->report->log(p->report->ctx, level, text);
}

static bool pass_cancelled(void *ctx)
{
    const plan *p = ctx;
    return p->report->cancelled(p->report->ctx);
}

// ---- rows
// ----------------------------------------------------------------------------------------

static double rounded(double value, double scale)
{
    return round(value * scale) / scale;
}

// Its own file and its kernels.
static double disk_bytes(const facet_manifest *manifest, const facet_manifest_family *family)
{
    double bytes = (double)family->extra_bytes;
    for (uint32_t i = 0; i < manifest->n_kernels; i++)
        if (strcmp(manifest->kernels[i].family, family->name) == 0)
            bytes += (double)manifest->kernels[i].bytes;
    return bytes;
}

// Would build publish it? Not so without held-out text or answers.
static bool is_enough(const plan *p, double ratio, double agreement)
{
    return (p->opts->quality == 0 || ratio <= p->opts->quality) &&
           (p->opts->agree == 0 || agreement >= p->opts->agree);
}

static void add_row(plan *p, const char *grouping, const facet_manifest *manifest,
                    const facet_build_result *result, uint32_t i)
{
    const facet_build_family *family = &result->families[i];
    const facet_manifest_family *facts = &manifest->families[1 + i];
    const double dense = (double)manifest->families[0].token_bytes;
    const double own = (double)facts->token_bytes;
    // Without held-out text or answers 0 / 0, which is no number and becomes null.
    const double ratio = family->ppl_own / family->ppl_dense;
    const facet_build_agreement *a = &family->agreement;
    const double agreement = facet_build_share(a->positions_equal, a->positions);
    cJSON *row = facet_doc_push_object(p->rows);
    facet_doc_number(row, "keep", facts->keep);
    facet_doc_number(row, "k", result->n_families);
    facet_doc_text(row, "grouping", grouping);
    facet_doc_text(row, "family", family->name);
    facet_doc_number(row, "ppl_dense", rounded(family->ppl_dense, 1e3));
    facet_doc_number(row, "ppl", rounded(family->ppl_own, 1e3));
    facet_doc_number(row, "ppl_over_dense", rounded(ratio, 1e4));
    facet_doc_number(row, "agree_positions", rounded(agreement, 1e4));
    facet_doc_number(row, "agree_answers",
                     rounded(facet_build_share(a->dense_answers_equal, a->dense_answers), 1e4));
    if (p->opts->quality > 0 || p->opts->agree > 0)
        facet_doc_bool(row, "enough", is_enough(p, ratio, agreement));
    facet_doc_number(row, "bytes_per_token", own);
    facet_doc_number(row, "bytes_over_dense", rounded(own / dense, 1e4));
    facet_doc_number(row, "speed_over_dense", rounded(dense / own, 1e3));
    facet_doc_number(row, "compile_seconds",
                     rounded(result->seconds_total - result->seconds[FACET_STEP_PROVE], 1e4));
    facet_doc_number(row, "disk_bytes", disk_bytes(manifest, facts));
}

static facet_status add_rows(plan *p, const char *grouping, const char *bundle,
                             const facet_build_result *result, facet_err *err)
{
    facet_manifest manifest;
    FACET_TRY(facet_manifest_load(bundle, &manifest, err));
    for (uint32_t i = 0; i < result->n_families; i++)
        add_row(p, grouping, &manifest, result, i);
    facet_manifest_fini(&manifest);
    return FACET_OK;
}

static bool is_row_of(const cJSON *row, const char *grouping, double keep)
{
    return strcmp(cJSON_GetObjectItemCaseSensitive(row, "grouping")->valuestring, grouping) == 0 &&
           (isnan(keep) || cJSON_GetObjectItemCaseSensitive(row, "keep")->valuedouble == keep);
}

// The smallest keep at which every family of a grouping is good enough, or NaN.
static double smallest_keep(const cJSON *rows, const char *grouping)
{
    double smallest = (double)NAN;
    for (const cJSON *row = rows->child; row != NULL; row = row->next) {
        const double keep = cJSON_GetObjectItemCaseSensitive(row, "keep")->valuedouble;
        bool enough = is_row_of(row, grouping, keep) && !(smallest <= keep);
        for (const cJSON *other = rows->child; other != NULL && enough; other = other->next)
            enough = !is_row_of(other, grouping, keep) ||
                     cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(other, "enough"));
        if (enough) smallest = keep;
    }
    return smallest;
}

// With a limit: what would be chosen of these keeps.
static void add_smallest(const plan *p)
{
    if (p->opts->quality == 0 && p->opts->agree == 0) return;
    cJSON *list = facet_doc_array(p->doc, "smallest");
    const char *before = "";
    for (const cJSON *row = p->rows->child; row != NULL; row = row->next) {
        if (is_row_of(row, before, (double)NAN)) continue;
        before = cJSON_GetObjectItemCaseSensitive(row, "grouping")->valuestring;
        cJSON *item = facet_doc_push_object(list);
        facet_doc_text(item, "grouping", before);
        facet_doc_number(item, "k", cJSON_GetObjectItemCaseSensitive(row, "k")->valuedouble);
        facet_doc_number(item, "keep", smallest_keep(p->rows, before));
    }
}

// ---- compiles
// ------------------------------------------------------------------------------------

static facet_status try_keep(plan *p, const facet_family_set *families, const char *grouping,
                             double keep, facet_err *err)
{
    char bundle[4096];
    facet_build_result result = {0};
    facet_steps_opts opts = *p->opts;
    FACET_TRY(facet_path_join(bundle, sizeof bundle, p->temp, "bundle", err));
    opts.out = bundle;
    opts.keep = keep;
    opts.prove_own = true;
    // A row says what it is worth, whatever that is.
    opts.quality = opts.agree = 0;
    p->at++;
    FACET_TRY(facet_steps_build(&p->tool, &opts, p->model, families, &result, p->doc, err));
    facet_status status = add_rows(p, grouping, bundle, &result, err);
    facet_build_result_fini(&result);
    if (status == FACET_OK) status = facet_dir_remove(bundle, err);
    return status;
}

static facet_status try_families(plan *p, const facet_family_set *families, const char *grouping,
                                 facet_err *err)
{
    for (uint32_t i = 0; i < p->keeps.n; i++)
        FACET_TRY(try_keep(p, families, grouping, keep_of(p->keeps.items[i]), err));
    return FACET_OK;
}

static uint32_t count_labels(const facet_mask_set *set)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < set->n; i++) {
        uint32_t first = 0;
        while (strcmp(set->labels[first], set->labels[i]) != 0)
            first++;
        n += first == i;
    }
    return n;
}

// From one family to one a task. Without names nobody knows how many tasks there are.
static facet_status choose_groupings(plan *p, const facet_mask_set *set, facet_err *err)
{
    if (set->labels == NULL) return split("--families", "1,auto", &p->groupings, err);
    const uint32_t n = count_labels(set);
    for (uint32_t k = 1; k < n && k < WORDS_MAX; k++)
        (void)snprintf(p->groupings.items[p->groupings.n++], WORD_BYTES, "%u", k);
    return split("--families", "label", &p->groupings, err);
}

static facet_status try_groupings(plan *p, const facet_mask_set *set, facet_err *err)
{
    bool single = false; // one family of all has been tried
    if (p->groupings.n == 0) FACET_TRY(choose_groupings(p, set, err));
    p->total = p->groupings.n * p->keeps.n;
    for (uint32_t i = 0; i < p->groupings.n; i++) {
        facet_steps_opts opts = *p->opts;
        facet_family_set families = {0};
        opts.families = p->groupings.items[i];
        cJSON *curve = facet_doc_new();
        facet_status status = facet_steps_cluster(&p->tool, &opts, set, &families, curve, err);
        cJSON_Delete(curve);
        if (status == FACET_OK && families.n_families == 1 && single)
            p->total -= p->keeps.n;
        else if (status == FACET_OK)
            status = try_families(p, &families, p->groupings.items[i], err);
        single = single || families.n_families == 1;
        facet_family_set_fini(&families);
        FACET_TRY(status);
    }
    return FACET_OK;
}

static facet_status try_given(plan *p, const char *path, facet_err *err)
{
    facet_family_set families = {0};
    if (p->groupings.n > 0)
        return facet_fail(err, FACET_USAGE,
                          "--families: %.200s holds families already; leave the option out", path);
    FACET_TRY(facet_family_set_load(path, NULL, &families, err));
    p->total = p->keeps.n;
    const facet_status status = try_families(p, &families, "given", err);
    facet_family_set_fini(&families);
    return status;
}

static facet_status try_all(plan *p, const facet_strings *args, facet_err *err)
{
    facet_mask_set set = {0};
    facet_kind kind = FACET_KIND_MASKS;
    facet_status status = FACET_OK;
    if (args->n == 1)
        status = facet_steps_predict(&p->tool, p->opts, p->model, NULL, &set, err);
    else
        status = facet_kind_find(args->items[1], &kind, err);
    if (status == FACET_OK && kind == FACET_KIND_FAMILIES) return try_given(p, args->items[1], err);
    // Whatever else it is, loading says so.
    if (status == FACET_OK && args->n > 1)
        status = facet_mask_set_load(args->items[1], NULL, &set, err);
    if (status == FACET_OK) status = try_groupings(p, &set, err);
    facet_mask_set_fini(&set);
    return status;
}

static facet_status run(facet_tool *tool, const void *opts_given, const facet_strings *args,
                        facet_err *err)
{
    const uint64_t begin = facet_clock_ns();
    facet_model *model;
    plan p = {.tool = *tool, .report = &tool->report, .opts = opts_given};
    p.tool.report =
        (facet_report){&p, pass_log, tool->report.progress ? show_progress : NULL, pass_cancelled};
    FACET_TRY(check(&p, args, err));
    FACET_TRY(facet_model_open(args->items[0], NULL, &model, err));
    p.model = model;
    p.doc = facet_doc_new();
    facet_doc_text(p.doc, "kind", "plan");
    facet_doc_text(p.doc, "model", args->items[0]);
    p.rows = facet_doc_array(p.doc, "rows");
    facet_status status = facet_dir_temp(tool->env.temp != NULL ? tool->env.temp : "/tmp",
                                         "facet-plan", p.temp, sizeof p.temp, err);
    if (status == FACET_OK) {
        status = try_all(&p, args, err);
        // Nothing may stay, whatever became of the work; the first error is the one to tell.
        const facet_status removed = facet_dir_remove(p.temp, status == FACET_OK ? err : NULL);
        if (status == FACET_OK) status = removed;
    }
    facet_model_close(model);
    if (status == FACET_OK) add_smallest(&p);
    facet_doc_number(p.doc, "seconds", facet_clock_seconds(begin));
    return facet_output_result(tool, p.doc, status, err);
}

const facet_command facet_command_plan = {
    .name = "plan",
    .summary = "Show what families would cost and gain, for several keeps and groupings.",
    .usage = "[options] MODEL (--task NAME=FILE ... | IN.families | IN.masks)",
    .example = "facet plan model.gguf --task code=code.jsonl --task math=math.jsonl",
    .options = options,
    .defaults = &facet_steps_defaults,
    .bytes = sizeof facet_steps_defaults,
    .min_args = 1,
    .max_args = 2,
    .run = run,
};
