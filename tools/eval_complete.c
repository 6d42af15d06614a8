// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "tools/evaluate.h"
#include "tools/family_choice.h"
#include "tools/generate.h"
#include "tools/tasks.h"

typedef struct complete_job {
    const facet_tool *tool;
    const facet_eval_opts *opts;
    facet_bundle *bundle;
    facet_session *session;
    const char *family;
    bool name_family;
    facet_task_file file;
    facet_tokens *prompts; // (file.n)
    uint32_t n_ctx;
    facet_out out;
    uint64_t n_done, n_tokens;
} complete_job;

static facet_status encode_prompts(complete_job *job, facet_err *err)
{
    const facet_tokenizer *tokenizer = facet_bundle_tokenizer(job->bundle);
    job->prompts = facet_mem_new(NULL, job->file.n, sizeof *job->prompts);
    if (job->prompts == NULL) return facet_fail_memory(err, job->file.n * sizeof *job->prompts);
    size_t longest = 0;
    for (size_t i = 0; i < job->file.n; i++) {
        const facet_task_record *record = &job->file.records[i];
        FACET_TRY(facet_prompt_encode(tokenizer, record->messages, record->n_messages,
                                      job->opts->raw, &job->prompts[i], err));
        const size_t n = job->prompts[i].count;
        if (n == 0 || n >= facet_context(job->bundle))
            return facet_fail_at(
                err, FACET_BAD_INPUT, job->file.path, (int64_t)record->line,
                "%s: line %llu: a prompt of %zu tokens, the model's context has %u; "
                "change the prompt",
                job->file.path, (unsigned long long)record->line, n, facet_context(job->bundle));
        if (n > longest) longest = n;
    }
    const uint64_t want = longest + job->opts->n;
    job->n_ctx = want < facet_context(job->bundle) ? (uint32_t)want : facet_context(job->bundle);
    return FACET_OK;
}

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
        .n_ctx = job->n_ctx,
        .stops = &job->opts->stops,
    };
    facet_generated made = {0};
    FACET_TRY(facet_report_progress(&job->tool->report, "complete", job->n_done, 0, err));
    FACET_TRY(facet_session_rewind(job->session, 0, err));
    FACET_TRY(facet_generate(job->bundle, job->session, job->prompts[i].ids, job->prompts[i].count,
                             &opts, &made, err));
    job->n_done++;
    job->n_tokens += made.n;
    facet_status status = write_record(job, &job->file.records[i], &made, err);
    facet_generated_fini(&made);
    return status;
}

static facet_status complete_family(complete_job *job, const char *family, facet_err *err)
{
    const facet_session_opts opts = {.n_ctx = job->n_ctx};
    job->family = family;
    FACET_TRY(facet_session_new(job->bundle, family, &opts, &job->session, err));
    facet_status status = FACET_OK;
    for (size_t i = 0; i < job->file.n && status == FACET_OK; i++)
        status = complete_one(job, i, err);
    facet_session_free(job->session);
    job->session = NULL;
    return status;
}

static facet_status load(complete_job *job, facet_err *err)
{
    FACET_TRY(facet_task_file_load(job->opts->complete, &job->file, err));
    if (job->file.records == NULL)
        return facet_fail_at(err, FACET_BAD_INPUT, job->opts->complete, -1,
                             "%s: is a document; name a .jsonl file", job->opts->complete);
    FACET_TRY(encode_prompts(job, err));
    return facet_out_open(&job->out, job->opts->out, job->opts->force, err);
}

static void fini(complete_job *job)
{
    for (size_t i = 0; job->prompts != NULL && i < job->file.n; i++)
        facet_mem_free(NULL, job->prompts[i].ids);
    facet_mem_free(NULL, job->prompts);
    facet_task_file_fini(&job->file);
    facet_out_abort(&job->out);
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
    if (status == FACET_OK) status = load(&job, err);
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
    fini(&job);
    facet_strings_fini(&families);
    return status;
}
