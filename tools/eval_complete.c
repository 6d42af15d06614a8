// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "tools/batch.h"
#include "tools/evaluate.h"
#include "tools/family_choice.h"

typedef struct complete_job {
    const facet_tool *tool;
    const facet_eval_opts *opts;
    facet_bundle *bundle;
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

static facet_status complete_one(void *ctx, size_t i, const facet_generated *made, facet_err *err)
{
    complete_job *job = ctx;
    job->n_done++;
    job->n_tokens += made->n;
    return write_record(job, &job->prompts.file.records[i], made, err);
}

static facet_status complete_family(complete_job *job, const char *family, facet_err *err)
{
    const facet_batch_opts opts = {
        .family = family,
        .prefill = job->opts->prefill,
        .prompts = job->prompts.tokens,
        .n_prompts = job->prompts.n,
        .n_max = (uint32_t)job->opts->n,
        .n_ctx = job->prompts.n_ctx,
        .n_sequences = (uint32_t)job->opts->batch,
        .stops = &job->opts->stops,
        .what = "complete",
        .fn = complete_one,
        .ctx = job,
    };
    job->family = family;
    return facet_batch_answer(job->bundle, &opts, &job->tool->report, err);
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
