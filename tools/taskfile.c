// SPDX-License-Identifier: Apache-2.0
#include "tools/taskfile.h"

#include <string.h>

#include "base/file.h"
#include "tools/output.h"

// Far more than any set of prompts; a mistaken file must not fill the memory.
enum { FILE_MAX = 1 << 30 };

static facet_status bad(const facet_task_file *file, uint64_t line, const char *why, facet_err *err)
{
    return facet_fail_at(err, FACET_BAD_INPUT, file->path, (int64_t)line,
                         "%s: line %llu: %s; see facet help predict for task files", file->path,
                         (unsigned long long)line, why);
}

// The text of a field; *out is NULL when the field is missing or null.
static facet_status get_text(const facet_task_file *file, uint64_t line, const cJSON *object,
                             const char *name, const char **out, facet_err *err)
{
    const cJSON *item = facet_json_find(object, name);
    *out = NULL;
    if (item == NULL || cJSON_IsNull(item)) return FACET_OK;
    if (!cJSON_IsString(item)) return bad(file, line, "a field that must be text is not", err);
    *out = item->valuestring;
    return FACET_OK;
}

static bool is_role(const char *role)
{
    return strcmp(role, "system") == 0 || strcmp(role, "user") == 0 ||
           strcmp(role, "assistant") == 0;
}

static facet_status read_messages(facet_task_file *file, const cJSON *array,
                                  facet_task_record *record, facet_err *err)
{
    const int n = cJSON_IsArray(array) ? cJSON_GetArraySize(array) : 0;
    if (n < 1) return bad(file, record->line, "\"messages\" is no list of messages", err);
    facet_message *messages = facet_arena_new(&file->arena, (size_t)n, sizeof *messages);
    if (messages == NULL) return facet_fail_memory(err, (size_t)n * sizeof *messages);
    size_t i = 0;
    for (const cJSON *item = array->child; item != NULL; item = item->next, i++) {
        const char *role, *content;
        FACET_TRY(get_text(file, record->line, item, "role", &role, err));
        FACET_TRY(get_text(file, record->line, item, "content", &content, err));
        if (role == NULL || content == NULL)
            return bad(file, record->line, "a message lacks \"role\" or \"content\"", err);
        if (!is_role(role))
            return bad(file, record->line, "a role is none of system, user, assistant", err);
        messages[i] = (facet_message){role, content};
    }
    record->messages = messages;
    record->n_messages = (size_t)n;
    if (strcmp(messages[n - 1].role, "assistant") != 0) return FACET_OK;
    record->completion = messages[n - 1].content;
    record->n_messages--;
    if (record->n_messages == 0)
        return bad(file, record->line, "nobody speaks before the assistant", err);
    return FACET_OK;
}

static facet_status read_record(facet_task_file *file, facet_task_record *record, facet_err *err)
{
    const char *prompt;
    if (!cJSON_IsObject(record->json)) return bad(file, record->line, "is no JSON object", err);
    FACET_TRY(get_text(file, record->line, record->json, "prompt", &prompt, err));
    const cJSON *messages = facet_json_find(record->json, "messages");
    if ((prompt == NULL) == (messages == NULL))
        return bad(file, record->line, "needs one of \"prompt\" and \"messages\"", err);
    if (messages != NULL) return read_messages(file, messages, record, err);
    FACET_TRY(get_text(file, record->line, record->json, "completion", &record->completion, err));
    if (prompt[0] == '\0') return bad(file, record->line, "the prompt is empty", err);
    facet_message *message = facet_arena_new(&file->arena, 1, sizeof *message);
    if (message == NULL) return facet_fail_memory(err, sizeof *message);
    *message = (facet_message){"user", prompt};
    record->messages = message;
    record->n_messages = 1;
    record->is_prompt = true;
    return FACET_OK;
}

// An escaped zero would cut a C string short without a word.
static bool has_escaped_zero(const char *line, size_t bytes)
{
    for (size_t i = 0; i + 6 <= bytes; i++) {
        if (line[i] != '\\') continue;
        if (memcmp(line + i, "\\u0000", 6) == 0) return true;
        i++; // the escaped character, which may be a backslash itself
    }
    return false;
}

static bool is_blank(const char *line, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (strchr(" \t\r", line[i]) == NULL || line[i] == '\0') return false;
    return true;
}

static facet_status read_line(facet_task_file *file, const char *line, size_t bytes,
                              uint64_t number, facet_task_record *record, facet_err *err)
{
    *record = (facet_task_record){.line = number};
    if (!facet_utf8_valid(line, bytes)) return bad(file, number, "is not UTF-8", err);
    if (has_escaped_zero(line, bytes) || memchr(line, '\0', bytes) != NULL)
        return bad(file, number, "holds a zero character", err);
    facet_err why = {.offset = -1};
    if (facet_json_parse(line, bytes, file->path, &record->json, &why) != FACET_OK)
        return bad(file, number, "is not JSON", err);
    return read_record(file, record, err);
}

static size_t count_lines(const char *text, size_t bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++)
        n += text[i] == '\n';
    return n + 1;
}

static facet_status parse_records(facet_task_file *file, const char *text, size_t bytes,
                                  facet_err *err)
{
    const size_t n_lines = count_lines(text, bytes);
    file->records = facet_arena_new(&file->arena, n_lines, sizeof *file->records);
    if (file->records == NULL) return facet_fail_memory(err, n_lines * sizeof *file->records);
    uint64_t number = 0;
    for (size_t i = 0; i < bytes;) {
        const char *end = memchr(text + i, '\n', bytes - i);
        size_t length = end != NULL ? (size_t)(end - (text + i)) : bytes - i;
        number++;
        if (!is_blank(text + i, length)) {
            // Counted first, so that the line's JSON is freed whatever is wrong with it.
            facet_task_record *record = &file->records[file->n++];
            FACET_TRY(read_line(file, text + i, length, number, record, err));
        }
        i += length + 1;
    }
    if (file->n == 0)
        return facet_fail_at(err, FACET_BAD_INPUT, file->path, -1,
                             "%s: has no record; write one JSON object a line", file->path);
    return FACET_OK;
}

static facet_status parse_document(facet_task_file *file, const char *text, size_t bytes,
                                   facet_err *err)
{
    if (bytes == 0)
        return facet_fail_at(err, FACET_BAD_INPUT, file->path, -1,
                             "%s: is empty; put some text into it", file->path);
    file->text = facet_arena_new(&file->arena, bytes + 1, 1);
    if (file->text == NULL) return facet_fail_memory(err, bytes + 1);
    memcpy(file->text, text, bytes);
    file->bytes = bytes;
    return FACET_OK;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

facet_status facet_task_file_parse(const char *text, size_t bytes, const char *path,
                                   facet_task_file *out, facet_err *err)
{
    facet_task_file file = {.path = path};
    facet_arena_init(&file.arena, NULL);
    facet_status status;
    if (ends_with(path, ".jsonl"))
        status = parse_records(&file, text, bytes, err);
    else if (ends_with(path, ".txt"))
        status = parse_document(&file, text, bytes, err);
    else
        status = facet_fail_at(err, FACET_BAD_INPUT, path, -1,
                               "%s: is no task file; name a .jsonl or a .txt file", path);
    if (status == FACET_OK)
        *out = file;
    else
        facet_task_file_fini(&file);
    return status;
}

facet_status facet_task_file_load(const char *path, facet_task_file *out, facet_err *err)
{
    char *text = NULL;
    size_t bytes = 0;
    FACET_TRY(facet_file_read(path, FILE_MAX, NULL, &text, &bytes, err));
    facet_status status = facet_task_file_parse(text, bytes, path, out, err);
    facet_mem_free(NULL, text);
    return status;
}

void facet_task_file_fini(facet_task_file *file)
{
    for (size_t i = 0; i < file->n; i++)
        cJSON_Delete(file->records[i].json);
    facet_arena_fini(&file->arena);
    *file = (facet_task_file){0};
}
