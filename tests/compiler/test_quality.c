// SPDX-License-Identifier: Apache-2.0
// A quality, an agreement or a score that was asked for: worse families are refused or warned of,
// unjudgeable ones likewise, and nothing is measured that no longer matters. The families keep
// everything, which needs no streams; losses, agreements and scores are the test's own.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/process.h"
#include "compiler/build.h"

enum { SAMPLES = 10, LENGTH = 12 };
static char box[64], model_path[96];

typedef struct fake {
    double nats[3];    // of dense, code, prose
    uint64_t equal[3]; // of twenty positions; dense's is not asked for
    double score[3];   // likewise
    uint32_t losses, compared, scored, warnings;
    uint32_t n_answers, answers[8]; // of the last family that was compared
} fake;

static uint32_t index_of(const char *family)
{
    return strcmp(family, "code") == 0 ? 1 : strcmp(family, "prose") == 0 ? 2 : 0;
}

static facet_status loss(void *ctx, const char *path, const char *family,
                         const facet_samples *samples, bool dense_prompts, double *nats,
                         uint64_t *scored, facet_err *err)
{
    assert_false(dense_prompts);
    (void)path, (void)err;
    fake *f = ctx;
    const uint32_t i = index_of(family);
    *scored = samples->n_tokens - samples->n;
    *nats = f->nats[i] * (double)*scored;
    f->losses++;
    return FACET_OK;
}

static facet_status agree(void *ctx, const char *path, const char *family,
                          const facet_samples *samples, bool dense_prompts,
                          facet_build_agreement *out, facet_err *err)
{
    assert_false(dense_prompts);
    (void)path, (void)err;
    fake *f = ctx;
    *out = (facet_build_agreement){.answers = samples->n,
                                   .positions = 20,
                                   .positions_equal = f->equal[index_of(family)],
                                   .dense_answers = samples->n};
    f->compared++;
    f->n_answers = samples->n;
    uint64_t first = 0;
    for (uint32_t i = 0; i < samples->n && i < 8; first += samples->lengths[i++]) {
        assert_true(samples->answers[i] < samples->lengths[i]);
        f->answers[i] = samples->tokens[first];
    }
    assert_int_equal(first, samples->n_tokens);
    return FACET_OK;
}

static facet_status score(void *ctx, const char *path, const char *family,
                          const facet_build_score *asked, double *value, facet_err *err)
{
    char manifest[4200];
    fake *f = ctx;
    snprintf(manifest, sizeof manifest, "%s/manifest.json", path);
    assert_true(facet_path_exists(manifest));
    f->scored++;
    if (strcmp(asked->command, "fail") == 0)
        return facet_fail(err, FACET_FAILED, "score %s: it failed; mend it", asked->name);
    *value = f->score[index_of(family)];
    return FACET_OK;
}

static void hear(void *ctx, facet_level level, const char *text)
{
    fake *f = ctx;
    f->warnings +=
        level == FACET_LOG_WARN &&
        (strstr(text, "--quality") || strstr(text, "--agree") || strstr(text, "--score-least"));
}

typedef struct fixture {
    facet_model *model;
    facet_family_set families;
    fake fake;
    facet_report report;
    facet_build_opts opts;
    char *names[2], none[1];
    uint32_t tokens[SAMPLES * LENGTH], lengths[SAMPLES], assign[SAMPLES], answers[SAMPLES];
    uint8_t held[SAMPLES];
} fixture;

// Two families of five samples, the last one of each held out.
static void make(fixture *f)
{
    static char code[] = "code", prose[] = "prose";
    facet_err err;
    memset(f, 0, sizeof *f);
    if (facet_model_open(model_path, NULL, &f->model, &err) != FACET_OK) {
        print_message("skipped: python3 with numpy cannot make a tiny model\n");
        skip();
    }
    const facet_hparams *hp = &f->model->hp;
    for (uint32_t i = 0; i < SAMPLES; i++) {
        f->lengths[i] = LENGTH;
        f->answers[i] = LENGTH / 2;
        f->assign[i] = i % 2;
        f->held[i] = i >= SAMPLES - 2;
    }
    for (uint32_t i = 0; i < SAMPLES * LENGTH; i++)
        f->tokens[i] = (i * i * 7 + i) % hp->n_vocab;
    f->names[0] = code;
    f->names[1] = prose;
    f->families = (facet_family_set){.n_families = 2,
                                     .n_layers = hp->n_layers,
                                     .d_ff = hp->d_ff,
                                     .keep = 1,
                                     .names = f->names,
                                     .shape = f->none,
                                     .model = f->none,
                                     .assign = f->assign,
                                     .held = f->held};
    f->families.samples =
        (facet_samples){f->tokens, f->lengths, SAMPLES, SAMPLES * LENGTH, NULL, NULL};
    const size_t rows = 2 * (size_t)hp->n_layers;
    f->families.scores = calloc(rows * hp->d_ff, sizeof *f->families.scores);
    f->families.mask = calloc(rows, hp->d_ff);
    f->fake = (fake){.nats = {1, 1.1, 1.4}, // 1.105 and 1.492 times dense
                     .equal = {0, 19, 17}}; // 0.95 and 0.85
    f->report = (facet_report){.ctx = &f->fake, .log = hear};
    f->opts = (facet_build_opts){.prove = true, .report = &f->report};
}

static void drop(fixture *f)
{
    free(f->families.scores);
    free(f->families.mask);
    facet_model_close(f->model);
}

static facet_status count_entry(void *ctx, const char *name, facet_err *err)
{
    (void)name, (void)err;
    ++*(int *)ctx;
    return FACET_OK;
}

// The status of a build, which measures `losses` times and warns as often as told. What was
// published is removed; nothing else may be there.
static facet_status build(fixture *f, uint32_t losses, uint32_t warnings, facet_err *err)
{
    char out[96];
    int entries = 0;
    facet_build_result result = {0};
    const facet_build_ops ops = {.ctx = &f->fake, .loss = loss, .agree = agree, .score = score};
    snprintf(out, sizeof out, "%s/out.facet", box);
    f->fake.losses = f->fake.compared = f->fake.scored = f->fake.warnings = 0;
    const facet_status status =
        facet_build_bundle(f->model, &f->families, &f->opts, &ops, out, &result, err);
    assert_int_equal(f->fake.losses, losses);
    assert_int_equal(f->fake.warnings, warnings);
    assert_int_equal(result.families != NULL, status == FACET_OK);
    assert_int_equal(facet_path_exists(out), status == FACET_OK);
    facet_build_result_fini(&result);
    facet_dir_remove(out, NULL);
    assert_int_equal(facet_dir_each(box, count_entry, &entries, NULL), FACET_OK);
    assert_int_equal(entries, 1); // the model
    return status;
}

static void test_limits(void **state)
{
    (void)state;
    fixture f;
    facet_err err = {0};
    make(&f);
    assert_int_equal(build(&f, 6, 0, &err), FACET_OK); // nothing was asked for
    f.opts.quality = 1.5;
    assert_int_equal(build(&f, 6, 0, &err), FACET_OK);
    f.opts.prove_own = true;
    assert_int_equal(build(&f, 4, 0, &err), FACET_OK);
    f.opts.prove_own = false;
    f.opts.quality = 1.4;
    assert_int_equal(build(&f, 4, 0, &err), FACET_QUALITY);
    f.opts.quality = 1.05; // both are worse: the worst is named
    assert_int_equal(build(&f, 4, 0, &err), FACET_QUALITY);
    assert_int_equal(facet_status_exit(err.code), 4);
    assert_non_null(strstr(err.message, "family prose"));
    assert_non_null(strstr(err.message, "1.492 times"));
    f.opts.force = true; // replaces what is there, no more
    assert_int_equal(build(&f, 4, 0, &err), FACET_QUALITY);
    f.opts.quality_warns = true;
    assert_int_equal(build(&f, 6, 1, &err), FACET_OK);
    f.opts.quality_warns = false;
    const double odd[] = {(double)INFINITY, (double)NAN};
    for (int i = 0; i < 2; i++) {
        f.fake.nats[1] = odd[i];
        assert_int_equal(build(&f, 4, 0, &err), FACET_QUALITY);
        assert_non_null(strstr(err.message, "family code"));
    }
    f.fake.nats[0] = (double)NAN;
    f.fake.nats[1] = 1.1;
    assert_int_equal(build(&f, 4, 0, &err), FACET_QUALITY);
    drop(&f);
}

static void test_unjudgeable(void **state)
{
    (void)state;
    fixture f;
    facet_err err = {0};
    make(&f);
    f.opts.quality = 2;
    f.held[SAMPLES - 1] = 0; // prose
    assert_int_equal(build(&f, 0, 0, &err), FACET_CHECK);
    assert_non_null(strstr(err.message, "family prose"));
    f.opts.force = true;
    assert_int_equal(build(&f, 3, 1, &err), FACET_OK); // dense, own and other of code
    f.opts.force = false;
    f.held[SAMPLES - 1] = 1;
    f.lengths[SAMPLES - 1] = 1; // one token predicts nothing
    f.families.samples.n_tokens -= LENGTH - 1;
    assert_int_equal(build(&f, 0, 0, &err), FACET_CHECK);
    drop(&f);
}

static void test_agreement(void **state)
{
    (void)state;
    fixture f;
    facet_err err = {0};
    make(&f);
    assert_int_equal(build(&f, 6, 0, &err), FACET_OK); // there are no answers
    assert_int_equal(f.fake.compared, 0);
    f.families.samples.answers = f.answers;
    assert_int_equal(build(&f, 6, 0, &err), FACET_OK);
    assert_int_equal(f.fake.compared, 2);
    f.opts.agree = 0.85;
    assert_int_equal(build(&f, 6, 0, &err), FACET_OK);
    f.opts.agree = 0.9;
    assert_int_equal(build(&f, 4, 0, &err), FACET_QUALITY);
    assert_non_null(strstr(err.message, "family prose: at keep 1 it agrees with dense at 0.85 of"));
    f.opts.agree = 1; // both do less: the worst is named
    assert_int_equal(build(&f, 4, 0, &err), FACET_QUALITY);
    assert_int_equal(facet_status_exit(err.code), 4);
    assert_non_null(strstr(err.message, "family prose"));
    f.opts.quality_warns = true;
    assert_int_equal(build(&f, 6, 1, &err), FACET_OK);
    f.opts.quality = 1.2; // both limits hold, each is told of
    assert_int_equal(build(&f, 6, 2, &err), FACET_OK);
    f.opts.quality_warns = false;
    f.opts.agree = 0.8;
    assert_int_equal(build(&f, 4, 0, &err), FACET_QUALITY);
    assert_non_null(strstr(err.message, "--quality allows 1.2"));
    f.opts.quality = 1.5;
    assert_int_equal(build(&f, 6, 0, &err), FACET_OK);
    drop(&f);
}

static void test_no_answers(void **state)
{
    (void)state;
    fixture f;
    facet_err err = {0};
    make(&f);
    f.opts.agree = 0.5;
    assert_int_equal(build(&f, 0, 0, &err), FACET_CHECK);
    assert_non_null(strstr(err.message, "family code: no answer"));
    f.families.samples.answers = f.answers;
    f.answers[SAMPLES - 1] = LENGTH; // prose: its only held-out sample has none
    assert_int_equal(build(&f, 0, 0, &err), FACET_CHECK);
    assert_non_null(strstr(err.message, "family prose: no answer"));
    f.opts.force = true;
    assert_int_equal(build(&f, 6, 1, &err), FACET_OK);
    assert_int_equal(f.fake.compared, 1);
    f.opts.force = false;
    f.answers[SAMPLES - 1] = 0; // all but its first token
    assert_int_equal(build(&f, 6, 0, &err), FACET_OK);
    drop(&f);
}

// Of more answers than are compared some are, spread and whole; a sample that is too long is none.
static void test_many_answers(void **state)
{
    (void)state;
    enum { long_sample = 900 };
    fixture f;
    facet_err err = {0};
    make(&f);
    uint32_t *tokens = calloc((size_t)SAMPLES * long_sample + 2048, sizeof *tokens);
    f.families.samples = (facet_samples){.tokens = tokens,
                                         .lengths = f.lengths,
                                         .n = SAMPLES,
                                         .n_tokens = SAMPLES * long_sample,
                                         .answers = f.answers};
    for (uint32_t i = 0; i < SAMPLES; i++) {
        f.lengths[i] = long_sample;
        f.held[i] = i >= 2 && i % 2 == 0; // code: 2, 4, 6 and 8
        tokens[i * long_sample] = i;
    }
    assert_int_equal(build(&f, 3, 0, &err), FACET_OK);
    assert_int_equal(f.fake.compared, 1);
    assert_int_equal(f.fake.n_answers, 2);
    assert_int_equal(f.fake.answers[0], 4);
    assert_int_equal(f.fake.answers[1], 8);
    f.answers[4] = long_sample; // then three are left, of which the last two fit
    assert_int_equal(build(&f, 3, 0, &err), FACET_OK);
    assert_int_equal(f.fake.n_answers, 2);
    assert_int_equal(f.fake.answers[0], 6);
    assert_int_equal(f.fake.answers[1], 8);
    f.answers[6] = f.answers[2] = long_sample; // and one
    assert_int_equal(build(&f, 3, 0, &err), FACET_OK);
    assert_int_equal(f.fake.n_answers, 1);
    f.lengths[8] = 2048;
    f.families.samples.n_tokens += 2048 - long_sample;
    assert_int_equal(build(&f, 3, 0, &err), FACET_OK);
    assert_int_equal(f.fake.compared, 1);
    f.lengths[8]++;
    f.families.samples.n_tokens++;
    assert_int_equal(build(&f, 3, 0, &err), FACET_OK);
    assert_int_equal(f.fake.compared, 0);
    free(tokens);
    drop(&f);
}

static void test_scores(void **state)
{
    (void)state;
    fixture f;
    facet_err err = {0};
    facet_build_score scores[] = {{.name = "all", .command = "x"},
                                  {.family = "prose", .name = "own", .command = "y"}};
    make(&f);
    f.fake.score[0] = 2, f.fake.score[1] = 1.9, f.fake.score[2] = 1.5;
    f.opts.scores = scores;
    f.opts.n_scores = 2;
    assert_int_equal(build(&f, 6, 0, &err), FACET_OK);
    assert_int_equal(f.fake.scored, 5);
    assert_int_equal(build(&f, 6, 0, &err), FACET_OK);
    assert_int_equal(f.fake.scored, 3); // dense is known
    f.opts.prove = false;
    assert_int_equal(build(&f, 0, 0, &err), FACET_OK);
    f.opts.prove = true;
    scores[0].least = 0.75;
    assert_int_equal(build(&f, 6, 0, &err), FACET_OK);
    scores[0].least = 0.8; // the controls are not asked for any more
    assert_int_equal(build(&f, 4, 0, &err), FACET_QUALITY);
    assert_int_equal(f.fake.scored, 2);
    assert_non_null(strstr(err.message, "family prose: at keep 1 its score all is 0.75 times"));
    f.opts.quality_warns = true;
    assert_int_equal(build(&f, 6, 1, &err), FACET_OK);
    f.opts.quality_warns = false;
    scores[0].dense = 0;
    assert_int_equal(build(&f, 4, 0, &err), FACET_CHECK);
    assert_non_null(strstr(err.message, "family code: dense's score all is 0"));
    f.opts.force = true;
    assert_int_equal(build(&f, 6, 2, &err), FACET_OK);
    f.opts.force = false;
    scores[0].command = "fail";
    assert_int_equal(build(&f, 4, 0, &err), FACET_FAILED);
    scores[1].family = "nobody";
    assert_int_equal(build(&f, 0, 0, &err), FACET_NOT_FOUND);
    assert_non_null(strstr(err.message, "no family nobody"));
    drop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),       cmocka_unit_test(test_unjudgeable),
        cmocka_unit_test(test_agreement),    cmocka_unit_test(test_no_answers),
        cmocka_unit_test(test_many_answers), cmocka_unit_test(test_scores),
    };
    char script[4096];
    const char *source = getenv("FACET_SOURCE");
    snprintf(script, sizeof script, "%s/tests/support/gen_model.py", source ? source : ".");
    snprintf(box, sizeof box, "/tmp/facet-test-quality.XXXXXX");
    if (!mkdtemp(box)) return 1;
    snprintf(model_path, sizeof model_path, "%s/tiny.gguf", box);
    const char *const argv[] = {"/usr/bin/python3", script, "--type", "F32",      "--f", "96",
                                "--layers",         "2",    "-o",     model_path, NULL};
    facet_process_result made;
    facet_process_run(argv, NULL, NULL, &made, NULL);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    facet_dir_remove(box, NULL);
    return failed;
}
