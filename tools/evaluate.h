// SPDX-License-Identifier: Apache-2.0
// The three forms of eval, over an open bundle.
#ifndef FACET_TOOLS_EVALUATE_H
#define FACET_TOOLS_EVALUATE_H

#include "tools/output.h"
#include "tools/resolve.h"
#include "tools/taskfile.h"

typedef struct facet_eval_opts {
    const char *ppl, *complete, *agree, *family, *prefill, *out;
    bool force, raw;
    uint64_t ctx, n, limit; // ctx 0: the form's own; limit 0: every record
    uint64_t batch;         // prompts that are answered side by side
    facet_strings stops;
} facet_eval_opts;

// The prompts of a task file's first `limit` records as tokens, through the chat template unless
// `raw`. A prompt that leaves no room for an answer is FACET_BAD_INPUT.
typedef struct facet_eval_prompts {
    facet_task_file file;
    facet_tokens *tokens; // (n)
    size_t n;
    uint32_t n_ctx; // of a session that holds any prompt and opts->n tokens, if --ctx allows them
} facet_eval_prompts;
facet_status facet_eval_prompts_load(const facet_eval_opts *opts, const char *path,
                                     const facet_bundle *bundle, facet_eval_prompts *out,
                                     facet_err *err);
void facet_eval_prompts_fini(facet_eval_prompts *prompts); // safe on a zeroed one

// Perplexity: the whole text without template and special tokens, cut into windows of ctx tokens
// (BOS first where the model asks for it); a last shorter window is dropped unless it is the only
// one; every token of a window but its first is scored. Adds results[] to `doc`.
facet_status facet_eval_ppl(const facet_tool *tool, const facet_eval_opts *opts,
                            facet_bundle *bundle, cJSON *doc, facet_err *err);
// Greedy answers: writes every record of the input with "completion" (what stood there becomes
// "reference"), and "family" when several are asked for. Adds figures to `doc`.
facet_status facet_eval_complete(const facet_tool *tool, const facet_eval_opts *opts,
                                 facet_bundle *bundle, cJSON *doc, facet_err *err);
// Agreement with dense: dense answers every prompt greedily, once; then for each family the share
// of its own greedy answers that are the same, and of positions of dense's answers at which the
// family, fed prompt and answer, has the same highest-logit token. Adds agreement[] to `doc`.
facet_status facet_eval_agree(const facet_tool *tool, const facet_eval_opts *opts,
                              facet_bundle *bundle, cJSON *doc, facet_err *err);

#endif
