// SPDX-License-Identifier: Apache-2.0
// Agreement with dense on the prompts of a file (agree.h): dense answers every prompt greedily,
// once; then each family reads prompt and answer in one pass, which gives both figures. Dense's own
// row, 1 and 1, shows in every run that a prefill's logits are those of single steps.
#include "base/clock.h"
#include "base/memory.h"
#include "tools/agree.h"
#include "tools/evaluate.h"
#include "tools/family_choice.h"
#include "tools/tasks.h"

typedef struct agree_job {
    const facet_tool *tool;
    const facet_eval_opts *opts;
    facet_bundle *bundle;
    facet_eval_prompts prompts; // each prompt's tokens are followed by dense's answer
    size_t *n_prompt;           // (prompts.n) tokens of the prompt alone
    size_t longest;             // tokens of an answer
    uint64_t positions, n_ended;
} agree_job;

// ---- dense's answers ----------------------------------------------------------------------------

static facet_status answer_one(agree_job *job, facet_session *session, float *logits, size_t i,
                               facet_err *err)
{
    facet_tokens *tokens = &job->prompts.tokens[i];
    const size_t n_prompt = tokens->count;
    // The last token of an answer is drawn but not read, so it needs no place in the context.
    const size_t room = job->prompts.n_ctx - n_prompt + 1;
    const size_t n = job->opts->n < room ? (size_t)job->opts->n : room;
    FACET_TRY(facet_tokens_continue(session, job->bundle, tokens, (uint32_t)n, logits, err));
    job->n_prompt[i] = n_prompt;
    const size_t n_answer = tokens->count - n_prompt;
    if (n_answer > job->longest) job->longest = n_answer;
    job->positions += n_answer;
    job->n_ended += facet_token_is_end(job->bundle, tokens->ids[tokens->count - 1]);
    return FACET_OK;
}

static facet_status answer_all(agree_job *job, float *logits, facet_err *err)
{
    const facet_session_opts opts = {.n_ctx = job->prompts.n_ctx};
    facet_session *session;
    FACET_TRY(facet_session_new(job->bundle, "dense", &opts, &session, err));
    facet_status status = FACET_OK;
    for (size_t i = 0; i < job->prompts.n && status == FACET_OK; i++) {
        status = facet_report_progress(&job->tool->report, "answer", i, job->prompts.n, err);
        if (status == FACET_OK) status = answer_one(job, session, logits, i, err);
    }
    facet_session_free(session);
    return status;
}

static facet_status answer(agree_job *job, cJSON *doc, facet_err *err)
{
    const uint64_t begin = facet_clock_ns();
    const size_t n_vocab = facet_vocab(job->bundle);
    float *logits = facet_mem_new(NULL, n_vocab, sizeof *logits);
    job->n_prompt = facet_mem_new(NULL, job->prompts.n, sizeof *job->n_prompt);
    facet_status status = logits != NULL && job->n_prompt != NULL
                              ? answer_all(job, logits, err)
                              : facet_fail_memory(err, n_vocab * sizeof *logits);
    facet_mem_free(NULL, logits);
    if (status != FACET_OK) return status;
    cJSON *dense = facet_doc_object(doc, "dense");
    facet_doc_number(dense, "answers", (double)job->prompts.n);
    facet_doc_number(dense, "ended", (double)job->n_ended);
    facet_doc_number(dense, "tokens", (double)job->positions);
    facet_doc_number(dense, "seconds", facet_clock_seconds(begin));
    return FACET_OK;
}

// ---- a family on them ---------------------------------------------------------------------------

static facet_status compare_all(const agree_job *job, facet_session *session, uint32_t *drawn,
                                facet_build_agreement *sum, facet_err *err)
{
    const size_t n = job->prompts.n;
    for (size_t i = 0; i < n; i++) {
        const facet_tokens *tokens = &job->prompts.tokens[i];
        const size_t first = job->n_prompt[i];
        const uint32_t *answer = tokens->ids + first;
        FACET_TRY(facet_report_progress(&job->tool->report, "compare", i, n, err));
        FACET_TRY(facet_agree_draw(session, facet_vocab(job->bundle), tokens->ids, first,
                                   tokens->count, drawn, err));
        facet_agree_count(answer, answer, drawn, tokens->count - first, sum);
    }
    return FACET_OK;
}

static facet_status compare(const agree_job *job, const char *family, cJSON *results,
                            facet_err *err)
{
    const uint64_t begin = facet_clock_ns();
    const facet_session_opts opts = {.n_ctx = job->prompts.n_ctx};
    facet_session *session = NULL;
    facet_build_agreement sum = {0};
    uint32_t *drawn = facet_mem_new(NULL, job->longest, sizeof *drawn);
    facet_status status = drawn != NULL
                              ? facet_session_new(job->bundle, family, &opts, &session, err)
                              : facet_fail_memory(err, job->longest * sizeof *drawn);
    if (status == FACET_OK) status = compare_all(job, session, drawn, &sum, err);
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
