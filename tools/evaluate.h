// SPDX-License-Identifier: Apache-2.0
// The two forms of eval, over an open bundle.
#ifndef FACET_TOOLS_EVALUATE_H
#define FACET_TOOLS_EVALUATE_H

#include "tools/output.h"
#include "tools/resolve.h"

typedef struct facet_eval_opts {
    const char *ppl, *complete, *family, *out;
    bool force, raw;
    uint64_t ctx, n;
    facet_strings stops;
} facet_eval_opts;

// Perplexity: the whole text without template and special tokens, cut into windows of ctx tokens
// (BOS first where the model asks for it); a last shorter window is dropped unless it is the only
// one; every token of a window but its first is scored. Adds results[] to `doc`.
facet_status facet_eval_ppl(const facet_tool *tool, const facet_eval_opts *opts,
                            facet_bundle *bundle, cJSON *doc, facet_err *err);
// Greedy answers: writes every record of the input with "completion" (what stood there becomes
// "reference"), and "family" when several are asked for. Adds figures to `doc`.
facet_status facet_eval_complete(const facet_tool *tool, const facet_eval_opts *opts,
                                 facet_bundle *bundle, cJSON *doc, facet_err *err);

#endif
