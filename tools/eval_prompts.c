// SPDX-License-Identifier: Apache-2.0
#include "base/memory.h"
#include "runtime/eval.h"
#include "tools/evaluate.h"
#include "tools/tasks.h"

static facet_status encode(const facet_eval_opts *opts, const facet_bundle *bundle,
                           facet_eval_prompts *prompts, facet_err *err)
{
    const facet_tokenizer *tokenizer = facet_bundle_tokenizer(bundle);
    const facet_task_file *file = &prompts->file;
    const uint32_t room = opts->ctx != 0 ? (uint32_t)opts->ctx : facet_context(bundle);
    size_t longest = 0;
    for (size_t i = 0; i < prompts->n; i++) {
        const facet_task_record *record = &file->records[i];
        FACET_TRY(facet_prompt_encode(tokenizer, record->messages, record->n_messages, opts->raw,
                                      &prompts->tokens[i], err));
        const size_t n = prompts->tokens[i].count;
        if (n == 0 || n >= room)
            return facet_fail_at(err, FACET_BAD_INPUT, file->path, (int64_t)record->line,
                                 "%s: line %llu: a prompt of %zu tokens, the context has %u; "
                                 "change the prompt%s",
                                 file->path, (unsigned long long)record->line, n, room,
                                 n >= room && opts->ctx != 0 ? " or raise --ctx" : "");
        if (n > longest) longest = n;
    }
    const uint64_t want = longest + opts->n;
    prompts->n_ctx = want < room ? (uint32_t)want : room;
    return FACET_OK;
}

static facet_status load(const facet_eval_opts *opts, const char *path, const facet_bundle *bundle,
                         facet_eval_prompts *prompts, facet_err *err)
{
    facet_task_file *file = &prompts->file;
    FACET_TRY(facet_task_file_load(path, file, err));
    if (file->records == NULL)
        return facet_fail_at(err, FACET_BAD_INPUT, path, -1,
                             "%s: is a document; name a .jsonl file", path);
    const size_t n = opts->limit != 0 && opts->limit < file->n ? (size_t)opts->limit : file->n;
    prompts->tokens = facet_mem_new(NULL, n, sizeof *prompts->tokens);
    if (prompts->tokens == NULL) return facet_fail_memory(err, n * sizeof *prompts->tokens);
    prompts->n = n;
    return encode(opts, bundle, prompts, err);
}

facet_status facet_eval_prompts_load(const facet_eval_opts *opts, const char *path,
                                     const facet_bundle *bundle, facet_eval_prompts *out,
                                     facet_err *err)
{
    facet_eval_prompts prompts = {0};
    facet_status status = load(opts, path, bundle, &prompts, err);
    if (status == FACET_OK)
        *out = prompts;
    else
        facet_eval_prompts_fini(&prompts);
    return status;
}

void facet_eval_prompts_fini(facet_eval_prompts *prompts)
{
    for (size_t i = 0; i < prompts->n; i++)
        facet_mem_free(NULL, prompts->tokens[i].ids);
    facet_mem_free(NULL, prompts->tokens);
    facet_task_file_fini(&prompts->file);
    *prompts = (facet_eval_prompts){0};
}
