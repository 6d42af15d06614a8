// SPDX-License-Identifier: Apache-2.0
// How far does a family answer as dense does? Dense answers every prompt greedily, once; then each
// family reads prompt and answer in one pass, which gives both figures.
//
//     prompt[0..p) answer[0..k)      answer: dense's, with the token that ends it if it came to it
//     row p-1+i                      the family's logits behind prompt + answer[0..i)
//     position i agrees              the highest logit of row p-1+i is token answer[i]
//
// The family's own greedy answer `own` (same limit of tokens) equals `answer` token for token if
// and only if every position agrees, so nothing is generated a second time. By induction on i, own
// and answer are the same up to i as long as positions 0..i-1 agree: nothing precedes own[0] but
// the prompt, and if own[0..i) = answer[0..i), then the family draws own[i] behind exactly the
// prefix that row p-1+i has seen, so own[i] = answer[i] if and only if position i agrees. If all
// do, both end at k, because an answer's end depends on its tokens and the limit only; at the first
// that does not, the answers differ. This rests on a row's logits being the same bits from a
// prefill as from single steps, which tests/oracle holds the runtime to; dense's own row, 1 and 1,
// shows it in every run.
#include "base/clock.h"
#include "base/memory.h"
#include "runtime/eval.h"
#include "tools/evaluate.h"
#include "tools/family_choice.h"
#include "tools/tasks.h"

typedef struct agree_job {
    const facet_tool *tool;
    const facet_eval_opts *opts;
    facet_bundle *bundle;
    facet_eval_prompts prompts; // each prompt's tokens are followed by dense's answer
    size_t *n_prompt;           // (prompts.n) tokens of the prompt alone
    uint64_t positions, n_ended;
} agree_job;

typedef struct agree_rows {
    facet_session *session;
    const uint32_t *answer;
    uint32_t n_vocab;
    uint64_t equal;
} agree_rows;

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
    job->positions += tokens->count - n_prompt;
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

static facet_status compare_rows(void *ctx, size_t first_row, uint32_t n_rows, const float *logits,
                                 facet_err *err)
{
    agree_rows *rows = ctx;
    facet_sampler greedy = {0};
    for (uint32_t i = 0; i < n_rows; i++) {
        uint32_t id;
        FACET_TRY(facet_session_sample(rows->session, logits + (size_t)i * rows->n_vocab, &greedy,
                                       &id, err));
        rows->equal += id == rows->answer[first_row + i];
    }
    return FACET_OK;
}

// The prompt but for its last token predicts nothing that counts, so it gets no logits.
static facet_status compare_one(const agree_job *job, facet_session *session, size_t i,
                                uint64_t *equal, facet_err *err)
{
    const uint32_t *ids = job->prompts.tokens[i].ids;
    const size_t lead = job->n_prompt[i] - 1, n = job->prompts.tokens[i].count - job->n_prompt[i];
    agree_rows rows = {
        .session = session, .answer = ids + job->n_prompt[i], .n_vocab = facet_vocab(job->bundle)};
    FACET_TRY(facet_session_rewind(session, 0, err));
    if (lead > 0) FACET_TRY(facet_session_prefill(session, ids, lead, NULL, err));
    FACET_TRY(facet_session_prefill_all(session, ids + lead, n, compare_rows, &rows, err));
    *equal = rows.equal;
    return FACET_OK;
}

static facet_status compare(const agree_job *job, const char *family, cJSON *results,
                            facet_err *err)
{
    const uint64_t begin = facet_clock_ns();
    const facet_session_opts opts = {.n_ctx = job->prompts.n_ctx};
    const size_t n = job->prompts.n;
    facet_session *session;
    uint64_t answers = 0, positions = 0;
    FACET_TRY(facet_session_new(job->bundle, family, &opts, &session, err));
    facet_status status = FACET_OK;
    for (size_t i = 0; i < n && status == FACET_OK; i++) {
        uint64_t equal = 0;
        status = facet_report_progress(&job->tool->report, "compare", i, n, err);
        if (status == FACET_OK) status = compare_one(job, session, i, &equal, err);
        positions += equal;
        answers += equal == job->prompts.tokens[i].count - job->n_prompt[i];
    }
    facet_session_free(session);
    if (status != FACET_OK) return status;
    cJSON *row = facet_doc_push_object(results);
    facet_doc_text(row, "family", family);
    facet_doc_text(row, "file", job->opts->agree);
    facet_doc_number(row, "prompts", (double)n);
    facet_doc_number(row, "answers_equal", (double)answers);
    facet_doc_number(row, "answers_equal_share", (double)answers / (double)n);
    facet_doc_number(row, "positions", (double)job->positions);
    facet_doc_number(row, "positions_equal", (double)positions);
    facet_doc_number(row, "positions_equal_share", (double)positions / (double)job->positions);
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
