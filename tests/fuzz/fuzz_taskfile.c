// SPDX-License-Identifier: Apache-2.0
// Task files: any bytes, read as records and as a document; what loads is read to its ends.
#include <string.h>

#include "tools/output.h"
#include "tools/taskfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static size_t use(const facet_task_file *file)
{
    size_t n = file->text != NULL ? strlen(file->text) : 0;
    for (size_t i = 0; i < file->n; i++) {
        const facet_task_record *record = &file->records[i];
        for (size_t k = 0; k < record->n_messages; k++)
            n += strlen(record->messages[k].role) + strlen(record->messages[k].content);
        if (record->completion != NULL) n += strlen(record->completion);
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const char *const names[] = {"fuzz.jsonl", "fuzz.txt"};
    const char *text = (const char *)data;
    size_t n = 0;
    for (size_t i = 0; i < FACET_COUNT_OF(names); i++) {
        facet_task_file file = {0};
        facet_err err;
        if (facet_task_file_parse(text, bytes, names[i], &file, &err) != FACET_OK) continue;
        n += use(&file);
        facet_task_file_fini(&file);
    }
    // Text that goes to terminals and documents passes here.
    facet_text clean;
    facet_text_init(&clean, NULL);
    facet_utf8_clean(text, bytes, &clean);
    if (clean.status == FACET_OK && !facet_utf8_valid(facet_text_str(&clean), clean.length))
        return -1;
    if (facet_utf8_whole(text, bytes) > bytes) return -1;
    n += clean.length;
    facet_text_fini(&clean);
    return n == SIZE_MAX ? -1 : 0; // never: keeps the reads
}
