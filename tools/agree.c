// SPDX-License-Identifier: Apache-2.0
#include "tools/agree.h"

#include <string.h>

#include "base/memory.h"
#include "tools/reading.h"

// ---- one text -----------------------------------------------------------------------------------

typedef struct draw_rows {
    facet_session *session;
    uint32_t n_vocab;
    uint32_t *drawn;
} draw_rows;

static facet_status draw(void *ctx, size_t first_row, uint32_t n_rows, const float *logits,
                         facet_err *err)
{
    const draw_rows *rows = ctx;
    facet_sampler greedy = {0};
    for (uint32_t i = 0; i < n_rows; i++)
        FACET_TRY(facet_session_sample(rows->session, logits + (size_t)i * rows->n_vocab, &greedy,
                                       &rows->drawn[first_row + i], err));
    return FACET_OK;
}

facet_status facet_agree_draw(facet_session *session, const char *reader, const char *family,
                              uint32_t n_vocab, const uint32_t *ids, size_t first, size_t n,
                              uint32_t *drawn, facet_err *err)
{
    draw_rows rows = {session, n_vocab, drawn};
    const facet_reading reading = {reader, family, ids, first, n};
    return facet_reading_rows(session, &reading, draw, &rows, err);
}

void facet_agree_count(const uint32_t *answer, const uint32_t *dense, const uint32_t *family,
                       size_t n, facet_build_agreement *sum)
{
    size_t equal = 0;
    for (size_t i = 0; i < n; i++)
        equal += dense[i] == family[i];
    const bool own = memcmp(answer, dense, n * sizeof *answer) == 0;
    sum->answers++;
    sum->positions += n;
    sum->positions_equal += equal;
    sum->dense_answers += own;
    sum->dense_answers_equal += own && equal == n;
}

// ---- samples ------------------------------------------------------------------------------------

typedef struct agree_job {
    const facet_samples *samples;
    const facet_bundle *bundle;
    facet_session *session;
    const char *reader, *family;
    uint32_t *dense, *own; // (longest sample)
    facet_build_agreement sum;
} agree_job;

// What follows the token that ends a turn (a template's line break) is no part of an answer.
static size_t answer_end(const facet_bundle *bundle, const uint32_t *ids, size_t first, size_t n)
{
    for (size_t i = first; i < n; i++)
        if (facet_token_is_end(bundle, ids[i])) return i + 1;
    return n;
}

static facet_status compare_sample(agree_job *job, const uint32_t *ids, uint32_t i, facet_err *err)
{
    // Nothing stands before a sample's first token, so nobody can be asked for it.
    const size_t first = job->samples->answers[i] > 0 ? job->samples->answers[i] : 1;
    if (first >= job->samples->lengths[i]) return FACET_OK;
    const size_t n = answer_end(job->bundle, ids, first, job->samples->lengths[i]);
    const uint32_t n_vocab = facet_vocab(job->bundle);
    FACET_TRY(
        facet_agree_draw(job->session, "dense", "dense", n_vocab, ids, first, n, job->dense, err));
    FACET_TRY(facet_agree_draw(job->session, job->reader, job->family, n_vocab, ids, first, n,
                               job->own, err));
    facet_agree_count(ids + first, job->dense, job->own, n - first, &job->sum);
    return FACET_OK;
}

facet_status facet_agree_samples(const facet_tool *tool, facet_bundle *bundle, const char *reader,
                                 const char *family, const facet_samples *samples,
                                 facet_build_agreement *out, facet_err *err)
{
    uint32_t longest = 1;
    for (uint32_t i = 0; i < samples->n; i++)
        if (samples->lengths[i] > longest) longest = samples->lengths[i];
    const facet_session_opts opts = {.n_ctx = longest, .prefill = "family"};
    agree_job job = {.samples = samples, .bundle = bundle, .reader = reader, .family = family};
    job.dense = facet_mem_new(NULL, longest, sizeof *job.dense);
    job.own = facet_mem_new(NULL, longest, sizeof *job.own);
    facet_status status = job.dense != NULL && job.own != NULL
                              ? facet_session_new(bundle, family, &opts, &job.session, err)
                              : facet_fail_memory(err, longest * sizeof *job.own);
    const uint32_t *ids = samples->tokens;
    for (uint32_t i = 0; i < samples->n && status == FACET_OK; ids += samples->lengths[i++]) {
        status = facet_report_progress(&tool->report, "compare answers", i, samples->n, err);
        if (status == FACET_OK) status = compare_sample(&job, ids, i, err);
    }
    facet_session_free(job.session);
    facet_mem_free(NULL, job.dense);
    facet_mem_free(NULL, job.own);
    if (status == FACET_OK) *out = job.sum;
    return status;
}
