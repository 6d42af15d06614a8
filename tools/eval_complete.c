// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "tools/evaluate.h"
#include "tools/family_choice.h"
#include "tools/generate.h"

typedef struct complete_job {
    const facet_tool *tool;
    const facet_eval_opts *opts;
    facet_bundle *bundle;
    facet_session *session;
    const char *family;
    bool name_family;
    facet_eval_prompts prompts;
    facet_out out;
    uint64_t n_done, n_tokens;
} complete_job;

// The record as it was read, with what was generated.
static facet_status write_record(complete_job *job, const facet_task_record *record,
                                 const facet_generated *made, facet_err *err)
{
    cJSON *line = cJSON_Duplicate(record->json, 1);
    if (line == NULL) return facet_fail_memory(err, sizeof *line);
    cJSON *given = cJSON_DetachItemFromObjectCaseSensitive(line, "completion");
    if (given != NULL && !cJSON_AddItemToObject(line, "reference", given)) cJSON_Delete(given);
    facet_doc_text_n(line, "completion", facet_text_str(&made->text), made->text.length);
    if (job->name_family) facet_doc_text(line, "family", job->family);
    char *text = facet_json_print(line, false);
    cJSON_Delete(line);
    if (text == NULL) return facet_fail_memory(err, made->text.length);
    facet_status status = facet_out_write(&job->out, text, strlen(text), err);
    if (status == FACET_OK) status = facet_out_write(&job->out, "\n", 1, err);
    cJSON_free(text);
    return status;
}

static facet_status complete_one(complete_job *job, size_t i, facet_err *err)
{
    const facet_generate_opts opts = {
        .n_max = (uint32_t)job->opts->n,
        .n_ctx = job->prompts.n_ctx,
        .stops = &job->opts->stops,
    };
    const facet_tokens *prompt = &job->prompts.tokens[i];
    facet_generated made = {0};
    FACET_TRY(facet_report_progress(&job->tool->report, "complete", job->n_done, 0, err));
    FACET_TRY(facet_session_rewind(job->session, 0, err));
    FACET_TRY(
        facet_generate(job->bundle, job->session, prompt->ids, prompt->count, &opts, &made, err));
    job->n_done++;
    job->n_tokens += made.n;
    facet_status status = write_record(job, &job->prompts.file.records[i], &made, err);
    facet_generated_fini(&made);
    return status;
}

static facet_status complete_family(complete_job *job, const char *family, facet_err *err)
{
    const facet_session_opts opts = {.n_ctx = job->prompts.n_ctx};
    job->family = family;
    FACET_TRY(facet_session_new(job->bundle, family, &opts, &job->session, err));
    facet_status status = FACET_OK;
    for (size_t i = 0; i < job->prompts.n && status == FACET_OK; i++)
        status = complete_one(job, i, err);
    facet_session_free(job->session);
    job->session = NULL;
    return status;
}

facet_status facet_eval_complete(const facet_tool *tool, const facet_eval_opts *opts,
                                 facet_bundle *bundle, cJSON *doc, facet_err *err)
{
    complete_job job = {.tool = tool, .opts = opts, .bundle = bundle, .out = {.fd = -1}};
    facet_strings families = {0};
    const uint64_t begin = facet_clock_ns();
    const char *family = opts->family != NULL ? opts->family : "dense";
    facet_status status = facet_family_list(bundle, family, &families, err);
    job.name_family = families.n > 1;
    if (status == FACET_OK)
        status = facet_eval_prompts_load(opts, opts->complete, bundle, &job.prompts, err);
    if (status == FACET_OK) status = facet_out_open(&job.out, opts->out, opts->force, err);
    for (size_t i = 0; i < families.n && status == FACET_OK; i++)
        status = complete_family(&job, families.items[i], err);
    if (status == FACET_OK) status = facet_out_commit(&job.out, err);
    if (status == FACET_OK) {
        facet_doc_text(doc, "output", opts->out);
        facet_doc_text(doc, "file", opts->complete);
        cJSON *names = facet_doc_array(doc, "families");
        for (size_t i = 0; i < families.n; i++)
            facet_doc_push_text(names, families.items[i]);
        facet_doc_number(doc, "records", (double)job.n_done);
        facet_doc_number(doc, "generated_tokens", (double)job.n_tokens);
        facet_doc_number(doc, "seconds", facet_clock_seconds(begin));
    }
    facet_eval_prompts_fini(&job.prompts);
    facet_out_abort(&job.out);
    facet_strings_fini(&families);
    return status;
}
