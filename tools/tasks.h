// SPDX-License-Identifier: Apache-2.0
// From tasks (NAME=FILE) to token samples with labels: the input of predict. In: task files and a
// tokenizer. Out: one sample a record or window of text.
//
// A record becomes the model's chat template around its prompt, its completion and the template's
// end; `raw` leaves the template out. The first `ctx` tokens are kept. A document is cut into
// windows of `ctx` tokens, BOS first where the model asks for it; a last shorter window is dropped
// unless it is the only one.
#ifndef FACET_TOOLS_TASKS_H
#define FACET_TOOLS_TASKS_H

#include "model/samples.h"
#include "tools/partial.h"
#include "tools/taskfile.h"
#include "tools/tool.h"

typedef struct facet_tasks_opts {
    const facet_strings *specs; // "NAME=FILE" or "FILE"
    uint64_t ctx;
    uint64_t limit;   // samples of each file at most, 0: all
    uint64_t answers; // samples of a record without completion: one for each answer; 0: 1
    bool raw;
} facet_tasks_opts;

typedef struct facet_task_sample {
    uint32_t *ids;
    uint32_t n;
    uint32_t document; // a record or a .txt file, counted over all tasks
    uint32_t answer;   // where the completion or the continuation begins; n: there is none
    bool open;         // a record without completion: may be continued
    uint32_t drawn;    // which of the record's answers: 0 is greedy, the others are drawn
    const char *label; // borrowed from the tasks' arena, "" when the task has no name
} facet_task_sample;

typedef struct facet_tasks {
    facet_task_sample *items;
    size_t n, n_cut; // n_cut: samples that were longer than ctx
    uint32_t n_documents;
    bool named;        // every task has a name
    facet_arena arena; // labels
} facet_tasks;

facet_status facet_tasks_load(const facet_tasks_opts *opts, const facet_tokenizer *tokenizer,
                              facet_tasks *out, facet_err *err);
void facet_tasks_fini(facet_tasks *tasks); // safe on a zeroed one
// Are there samples that a continuation would lengthen?
bool facet_tasks_open(const facet_tasks *tasks);
typedef struct facet_continue_opts {
    uint32_t n;         // tokens of an answer, at most
    double temperature; // of those that are drawn
    uint64_t seed;      // likewise
} facet_continue_opts;

// Appends up to n tokens of the bundle's own text, the one that ends it included, to every open
// sample, one record of the partial file (which may be NULL) each (tasks_continue.c).
facet_status facet_tasks_continue(facet_tasks *tasks, facet_bundle *bundle,
                                  const facet_continue_opts *opts, const facet_report *report,
                                  facet_partial *partial, facet_err *err);
// Moves the tokens into a mask set (samples and, when every task is named, labels).
facet_status facet_tasks_flatten(const facet_tasks *tasks, facet_mask_set *set, facet_err *err);

facet_status facet_tokens_append(facet_tokens *tokens, const uint32_t *ids, size_t n,
                                 facet_err *err);
// The tokens of a prompt as run, eval and predict see it: chat template unless raw.
facet_status facet_prompt_encode(const facet_tokenizer *tokenizer, const facet_message *messages,
                                 size_t n_messages, bool raw, facet_tokens *tokens, facet_err *err);

#endif
