// SPDX-License-Identifier: Apache-2.0
// Agreement with dense on the prompts of a file (agree.h): dense answers every prompt greedily,
// once; then each family reads prompt and answer in one pass, which gives both figures. Dense's own
// row, 1 and 1, shows in every run that a prefill's logits are those of single steps.
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "tools/agree.h"
#include "tools/batch.h"
#include "tools/evaluate.h"
#include "tools/family_choice.h"
#include "tools/tasks.h"

typedef struct agree_job {
    const facet_tool *tool;
    const facet_eval_opts *opts;
    facet_bundle *bundle;
    facet_eval_prompts prompts; // each prompt's tokens come to be followed by dense's answer
    size_t *n_prompt;           // (prompts.n) tokens of the prompt alone
    size_t longest;             // tokens of an answer
    uint64_t positions, n_ended;
} agree_job;

// ---- dense's answers ----------------------------------------------------------------------------

static facet_status answer_one(void *ctx, size_t i, const facet_generated *made, facet_err *err)
{
    agree_job *job = ctx;
    facet_tokens *tokens = &job->prompts.tokens[i];
    job->n_prompt[i] = tokens->count;
    FACET_TRY(facet_tokens_append(tokens, made->ids, made->n_ids, err));
    if (made->n_ids > job->longest) job->longest = made->n_ids;
    job->positions += made->n_ids;
    job->n_ended += made->n_ids > made->n;
    return FACET_OK;
}

static facet_status answer(agree_job *job, cJSON *doc, facet_err *err)
{
    const uint64_t begin = facet_clock_ns();
    const facet_batch_opts opts = {
        .family = "dense",
        .prompts = job->prompts.tokens,
        .n_prompts = job->prompts.n,
        .n_max = (uint32_t)job->opts->n,
        .n_ctx = job->prompts.n_ctx,
        .n_sequences = (uint32_t)job->opts->batch,
        .what = "answer",
        .fn = answer_one,
        .ctx = job,
    };
    job->n_prompt = facet_mem_new(NULL, job->prompts.n, sizeof *job->n_prompt);
    if (job->n_prompt == NULL) return facet_fail_memory(err, job->prompts.n * sizeof(size_t));
    FACET_TRY(facet_batch_answer(job->bundle, &opts, &job->tool->report, err));
    cJSON *dense = facet_doc_object(doc, "dense");
    facet_doc_number(dense, "answers", (double)job->prompts.n);
    facet_doc_number(dense, "ended", (double)job->n_ended);
    facet_doc_number(dense, "tokens", (double)job->positions);
    facet_doc_number(dense, "seconds", facet_clock_seconds(begin));
    return FACET_OK;
}

// ---- a family on them ---------------------------------------------------------------------------

static facet_status compare_all(const agree_job *job, const char *family, facet_session *session,
                                uint32_t *drawn, facet_build_agreement *sum, facet_err *err)
{
    const char *prefill = job->opts->prefill;
    const char *reader = prefill && strcmp(prefill, "dense") == 0 ? "dense" : family;
    const size_t n = job->prompts.n;
    for (size_t i = 0; i < n; i++) {
        const facet_tokens *tokens = &job->prompts.tokens[i];
        const size_t first = job->n_prompt[i];
        const uint32_t *answer = tokens->ids + first;
        FACET_TRY(facet_report_progress(&job->tool->report, "compare", i, n, err));
        FACET_TRY(facet_agree_draw(session, reader, family, facet_vocab(job->bundle), tokens->ids,
                                   first, tokens->count, drawn, err));
        facet_agree_count(answer, answer, drawn, tokens->count - first, sum);
    }
    return FACET_OK;
}

static facet_status compare(const agree_job *job, const char *family, cJSON *results,
                            facet_err *err)
{
    const uint64_t begin = facet_clock_ns();
    const facet_session_opts opts = {.n_ctx = job->prompts.n_ctx, .prefill = "family"};
    facet_session *session = NULL;
    facet_build_agreement sum = {0};
    uint32_t *drawn = facet_mem_new(NULL, job->longest, sizeof *drawn);
    facet_status status = drawn != NULL
                              ? facet_session_new(job->bundle, family, &opts, &session, err)
                              : facet_fail_memory(err, job->longest * sizeof *drawn);
    if (status == FACET_OK) status = compare_all(job, family, session, drawn, &sum, err);
    facet_session_free(session);
    facet_mem_free(NULL, drawn);
    if (status != FACET_OK) return status;
    cJSON *row = facet_doc_push_object(results);
    facet_doc_text(row, "family", family);
    facet_doc_text(row, "file", job->opts->agree);
    facet_doc_number(row, "prompts", (double)sum.answers);
    facet_doc_number(row, "answers_equal", (double)sum.dense_answers_equal);
    facet_doc_number(row, "answers_equal_share",
                     facet_build_share(sum.dense_answers_equal, sum.answers));
    facet_doc_number(row, "positions", (double)sum.positions);
    facet_doc_number(row, "positions_equal", (double)sum.positions_equal);
    facet_doc_number(row, "positions_equal_share",
                     facet_build_share(sum.positions_equal, sum.positions));
    facet_doc_number(row, "seconds", facet_clock_seconds(begin));
    return FACET_OK;
}

facet_status facet_eval_agree(const facet_tool *tool, const facet_eval_opts *opts,
                              facet_bundle *bundle, cJSON *doc, facet_err *err)
{
    agree_job job = {.tool = tool, .opts = opts, .bundle = bundle};
    facet_strings families = {0};
    facet_status status = facet_family_list(bundle, opts->family, &families, err);
    if (status == FACET_OK)
        status = facet_eval_prompts_load(opts, opts->agree, bundle, &job.prompts, err);
    if (status == FACET_OK) status = answer(&job, doc, err);
    cJSON *results = facet_doc_array(doc, "agreement");
    for (size_t i = 0; i < families.n && status == FACET_OK; i++)
        status = compare(&job, families.items[i], results, err);
    facet_mem_free(NULL, job.n_prompt);
    facet_eval_prompts_fini(&job.prompts);
    facet_strings_fini(&families);
    return status;
}
