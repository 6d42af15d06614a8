// SPDX-License-Identifier: Apache-2.0
// Task files: the prompts of one task. In: outside bytes. Out: records or one document; every error
// names the file and the line.
//
// 1. NAME.txt: one document, raw text.
// 2. NAME.jsonl: one JSON object a line; lines of white space are skipped. Either
//    {"prompt": TEXT} with "completion": TEXT if there is one, or
//    {"messages": [{"role": "system"|"user"|"assistant", "content": TEXT}, ...]}.
//    Other fields are let be. A conversation that ends with the assistant's words is complete.
// 3. JSON is UTF-8 without zero characters. A file has at least one record, or some text.
#ifndef FACET_TOOLS_TASKFILE_H
#define FACET_TOOLS_TASKFILE_H

#include "base/json.h"
#include "base/memory.h"
#include "model/tokenizer.h"

typedef struct facet_task_record {
    const facet_message *messages; // a prompt is one message of the user
    size_t n_messages;
    bool is_prompt;         // written as "prompt"
    const char *completion; // what the assistant answers, NULL: not given
    uint64_t line;          // from 1
    cJSON *json;            // the line as it was read
} facet_task_record;

typedef struct facet_task_file {
    const char *path;           // borrowed from the caller
    facet_task_record *records; // NULL for a document
    size_t n;
    char *text; // the document, NULL for records
    size_t bytes;
    facet_arena arena;
} facet_task_file;

// `path` decides between the two forms by its end and is named in errors.
facet_status facet_task_file_parse(const char *text, size_t bytes, const char *path,
                                   facet_task_file *out, facet_err *err);
facet_status facet_task_file_load(const char *path, facet_task_file *out, facet_err *err);
void facet_task_file_fini(facet_task_file *file); // safe on a zeroed one

#endif
