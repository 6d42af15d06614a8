// SPDX-License-Identifier: Apache-2.0
#include "tools/tasks.h"

#include <string.h>

#include "base/file.h"

enum { NAME_MAX_BYTES = 63 };

static facet_status push(facet_tasks *tasks, const facet_task_sample *sample, facet_err *err)
{
    if (tasks->n % 64 == 0) {
        facet_task_sample *items =
            facet_mem_resize(NULL, tasks->items, tasks->n + 64, sizeof *items);
        if (items == NULL) return facet_fail_memory(err, (tasks->n + 64) * sizeof *items);
        tasks->items = items;
    }
    tasks->items[tasks->n] = *sample;
    tasks->items[tasks->n++].document = tasks->n_documents;
    return FACET_OK;
}

// The same with a copy of sample->n ids.
static facet_status push_copy(facet_tasks *tasks, facet_task_sample *sample, const uint32_t *ids,
                              facet_err *err)
{
    sample->ids = facet_mem_new(NULL, sample->n, sizeof *ids);
    if (sample->ids == NULL) return facet_fail_memory(err, sample->n * sizeof *ids);
    memcpy(sample->ids, ids, sample->n * sizeof *ids);
    const facet_status status = push(tasks, sample, err);
    if (status != FACET_OK) facet_mem_free(NULL, sample->ids);
    return status;
}

facet_status facet_tokens_append(facet_tokens *tokens, const uint32_t *ids, size_t n,
                                 facet_err *err)
{
    if (n == 0) return FACET_OK;
    uint32_t *all = facet_mem_resize(NULL, tokens->ids, tokens->count + n, sizeof *all);
    if (all == NULL) return facet_fail_memory(err, (tokens->count + n) * sizeof *all);
    memcpy(all + tokens->count, ids, n * sizeof *ids);
    tokens->ids = all;
    tokens->count += n;
    return FACET_OK;
}

// ---- names --------------------------------------------------------------------------------------

static bool is_name(const char *name, size_t n)
{
    if (n == 0 || n > NAME_MAX_BYTES || name[0] == '.') return false;
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!plain && strchr("._-", c) == NULL) return false;
    }
    static const char *const taken[] = {"dense", "auto", "all", "label"};
    for (size_t i = 0; i < FACET_COUNT_OF(taken); i++)
        if (strlen(taken[i]) == n && memcmp(taken[i], name, n) == 0) return false;
    return true;
}

// Splits "NAME=FILE". A '=' behind a slash belongs to a path without a name.
static facet_status split_spec(facet_tasks *tasks, const char *spec, const char **label,
                               const char **path, facet_err *err)
{
    const char *equals = strchr(spec, '=');
    const char *slash = strchr(spec, '/');
    if (equals == NULL || (slash != NULL && slash < equals)) {
        tasks->named = false;
        *label = "";
        *path = spec;
        return FACET_OK;
    }
    size_t n = (size_t)(equals - spec);
    if (!is_name(spec, n))
        return facet_fail(err, FACET_USAGE,
                          "--task %.80s: a name has up to 63 letters, digits, dots, dashes and "
                          "underscores and is not dense, auto, all or label; rename the task",
                          spec);
    char *copy = facet_arena_new(&tasks->arena, n + 1, 1);
    if (copy == NULL) return facet_fail_memory(err, n + 1);
    memcpy(copy, spec, n);
    *label = copy;
    *path = equals + 1;
    return FACET_OK;
}

// ---- records and windows
// --------------------------------------------------------------------------

static facet_status encode_raw(const facet_tokenizer *tokenizer, const facet_message *messages,
                               size_t n_messages, facet_tokens *tokens, facet_err *err)
{
    facet_text text;
    facet_text_init(&text, NULL);
    for (size_t i = 0; i < n_messages; i++)
        facet_text_add(&text, "%s%s", i > 0 ? "\n" : "", messages[i].content);
    facet_status status = facet_text_status(&text, err);
    if (status == FACET_OK)
        status = facet_tokenizer_encode(tokenizer, facet_text_str(&text), text.length, true, false,
                                        NULL, tokens, err);
    facet_text_fini(&text);
    return status;
}

facet_status facet_prompt_encode(const facet_tokenizer *tokenizer, const facet_message *messages,
                                 size_t n_messages, bool raw, facet_tokens *tokens, facet_err *err)
{
    if (raw) return encode_raw(tokenizer, messages, n_messages, tokens, err);
    return facet_tokenizer_chat_encode(tokenizer, messages, n_messages, true, NULL, tokens, err);
}

// *n_prompt: how many of the tokens come before the completion; all, if there is none.
static facet_status encode_record(const facet_tasks_opts *opts, const facet_tokenizer *tokenizer,
                                  const facet_task_record *record, facet_tokens *tokens,
                                  size_t *n_prompt, facet_err *err)
{
    facet_tokens more = {0}, end = {0};
    facet_status status;
    FACET_TRY_GOTO(facet_prompt_encode(tokenizer, record->messages, record->n_messages, opts->raw,
                                       tokens, err),
                   done);
    *n_prompt = tokens->count;
    if (record->completion == NULL) goto done;
    FACET_TRY_GOTO(facet_tokenizer_encode(tokenizer, record->completion, strlen(record->completion),
                                          false, false, NULL, &more, err),
                   done);
    FACET_TRY_GOTO(facet_tokens_append(tokens, more.ids, more.count, err), done);
    if (opts->raw) goto done;
    FACET_TRY_GOTO(facet_tokenizer_chat_end(tokenizer, NULL, &end, err), done);
    FACET_TRY_GOTO(facet_tokens_append(tokens, end.ids, end.count, err), done);
done:
    facet_mem_free(NULL, more.ids);
    facet_mem_free(NULL, end.ids);
    return status;
}

static facet_status add_record(const facet_tasks_opts *opts, const facet_tokenizer *tokenizer,
                               const facet_task_file *file, size_t i, facet_tasks *tasks,
                               facet_err *err)
{
    const facet_task_record *record = &file->records[i];
    facet_tokens tokens = {0};
    size_t n_prompt = 0;
    const bool open = record->completion == NULL;
    const uint64_t n_samples = open && opts->answers > 1 ? opts->answers : 1;
    facet_status status = encode_record(opts, tokenizer, record, &tokens, &n_prompt, err);
    if (status == FACET_OK && tokens.count == 0)
        status = facet_fail_at(err, FACET_BAD_INPUT, file->path, (int64_t)record->line,
                               "%s: line %llu: the record has no tokens; write a longer prompt",
                               file->path, (unsigned long long)record->line);
    tasks->n_cut += tokens.count > opts->ctx;
    facet_task_sample sample = {.open = open};
    sample.n = (uint32_t)(tokens.count > opts->ctx ? opts->ctx : tokens.count);
    sample.answer = n_prompt < sample.n ? (uint32_t)n_prompt : sample.n;
    for (uint64_t k = 0; status == FACET_OK && k < n_samples; k++) {
        sample.drawn = (uint32_t)k;
        status = push_copy(tasks, &sample, tokens.ids, err);
    }
    tasks->n_documents++;
    facet_mem_free(NULL, tokens.ids);
    return status;
}

static facet_status add_window(int64_t bos, const uint32_t *ids, size_t n, facet_tasks *tasks,
                               facet_err *err)
{
    facet_task_sample sample = {0};
    sample.ids = facet_mem_new(NULL, n + 1, sizeof *sample.ids);
    if (sample.ids == NULL) return facet_fail_memory(err, (n + 1) * sizeof *sample.ids);
    if (bos >= 0) sample.ids[sample.n++] = (uint32_t)bos;
    memcpy(sample.ids + sample.n, ids, n * sizeof *ids);
    sample.n += (uint32_t)n;
    sample.answer = sample.n;
    facet_status status = push(tasks, &sample, err);
    if (status != FACET_OK) facet_mem_free(NULL, sample.ids);
    return status;
}

static facet_status add_document(const facet_tasks_opts *opts, const facet_tokenizer *tokenizer,
                                 const facet_task_file *file, facet_tasks *tasks, facet_err *err)
{
    facet_tokens tokens = {0};
    FACET_TRY(facet_tokenizer_encode(tokenizer, file->text, file->bytes, false, false, NULL,
                                     &tokens, err));
    int64_t bos = facet_tokenizer_adds_bos(tokenizer) ? facet_tokenizer_bos(tokenizer) : -1;
    size_t window = opts->ctx - (bos >= 0 ? 1 : 0);
    size_t n_windows = tokens.count < window ? 1 : tokens.count / window;
    if (opts->limit != 0 && n_windows > opts->limit) n_windows = opts->limit;
    facet_status status = FACET_OK;
    if (tokens.count < 2)
        status = facet_fail_at(err, FACET_BAD_INPUT, file->path, -1,
                               "%s: has fewer than two tokens; put more text into it", file->path);
    for (size_t i = 0; status == FACET_OK && i < n_windows; i++) {
        size_t left = tokens.count - i * window;
        status =
            add_window(bos, tokens.ids + i * window, left < window ? left : window, tasks, err);
    }
    tasks->n_documents++;
    facet_mem_free(NULL, tokens.ids);
    return status;
}

static facet_status add_file(const facet_tasks_opts *opts, const facet_tokenizer *tokenizer,
                             const char *path, const char *label, facet_tasks *tasks,
                             facet_err *err)
{
    facet_task_file file = {0};
    FACET_TRY(facet_task_file_load(path, &file, err));
    const size_t first = tasks->n;
    facet_status status = FACET_OK;
    if (file.text != NULL) status = add_document(opts, tokenizer, &file, tasks, err);
    size_t n = opts->limit != 0 && file.n > opts->limit ? opts->limit : file.n;
    for (size_t i = 0; status == FACET_OK && i < n; i++)
        status = add_record(opts, tokenizer, &file, i, tasks, err);
    for (size_t i = first; i < tasks->n; i++)
        tasks->items[i].label = label;
    facet_task_file_fini(&file);
    return status;
}

facet_status facet_tasks_load(const facet_tasks_opts *opts, const facet_tokenizer *tokenizer,
                              facet_tasks *out, facet_err *err)
{
    facet_tasks tasks = {.named = true};
    facet_arena_init(&tasks.arena, NULL);
    facet_status status = FACET_OK;
    for (size_t i = 0; status == FACET_OK && i < opts->specs->n; i++) {
        const char *label, *path;
        status = split_spec(&tasks, opts->specs->items[i], &label, &path, err);
        if (status == FACET_OK) status = add_file(opts, tokenizer, path, label, &tasks, err);
    }
    if (status == FACET_OK)
        *out = tasks;
    else
        facet_tasks_fini(&tasks);
    return status;
}

void facet_tasks_fini(facet_tasks *tasks)
{
    for (size_t i = 0; i < tasks->n; i++)
        facet_mem_free(NULL, tasks->items[i].ids);
    facet_mem_free(NULL, tasks->items);
    facet_arena_fini(&tasks->arena);
    *tasks = (facet_tasks){0};
}

bool facet_tasks_open(const facet_tasks *tasks)
{
    for (size_t i = 0; i < tasks->n; i++)
        if (tasks->items[i].open) return true;
    return false;
}

// ---- result -------------------------------------------------------------------------------------

facet_status facet_tasks_flatten(const facet_tasks *tasks, facet_mask_set *set, facet_err *err)
{
    size_t total = 0;
    for (size_t i = 0; i < tasks->n; i++)
        total += tasks->items[i].n;
    if (tasks->n > UINT32_MAX)
        return facet_fail(err, FACET_BAD_INPUT, "tasks: too many samples; use --limit");
    set->n = set->samples.n = (uint32_t)tasks->n;
    set->samples.n_tokens = total;
    set->samples.tokens = facet_mem_new(set->alloc, total, sizeof(uint32_t));
    set->samples.lengths = facet_mem_new(set->alloc, tasks->n, sizeof(uint32_t));
    set->samples.documents = facet_mem_new(set->alloc, tasks->n, sizeof(uint32_t));
    set->samples.answers = facet_mem_new(set->alloc, tasks->n, sizeof(uint32_t));
    if (tasks->named) set->labels = facet_mem_new(set->alloc, tasks->n, sizeof(char *));
    if (set->samples.tokens == NULL || set->samples.lengths == NULL ||
        set->samples.documents == NULL || set->samples.answers == NULL ||
        (tasks->named && set->labels == NULL))
        return facet_fail_memory(err, total * sizeof(uint32_t));
    uint32_t *to = set->samples.tokens;
    for (size_t i = 0; i < tasks->n; i++) {
        const facet_task_sample *sample = &tasks->items[i];
        memcpy(to, sample->ids, sample->n * sizeof *to);
        to += sample->n;
        set->samples.lengths[i] = sample->n;
        set->samples.documents[i] = sample->document;
        set->samples.answers[i] = sample->answer;
        if (set->labels == NULL) continue;
        set->labels[i] = facet_mem_strdup(set->alloc, sample->label);
        if (set->labels[i] == NULL) return facet_fail_memory(err, strlen(sample->label) + 1);
    }
    return FACET_OK;
}
