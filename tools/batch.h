// SPDX-License-Identifier: Apache-2.0
// Answers of one family to many prompts, greedy or drawn, several side by side, so that a step
// reads each weight once for all of them. Where an answer ends, the next prompt is read into its
// sequence. An answer does not depend on how many others share its steps (ARCHITECTURE, "Batches").
#ifndef FACET_TOOLS_BATCH_H
#define FACET_TOOLS_BATCH_H

#include "tools/generate.h"

#define FACET_BATCH_DEFAULT 32u

// The complete answer to prompt i, borrowed until the call returns. Prompts come in their order,
// each as soon as it and all before it are answered; nobody looks at prompts 0 .. i again.
typedef facet_status facet_batch_fn(void *ctx, size_t i, const facet_generated *made,
                                    facet_err *err);

typedef struct facet_batch_opts {
    const char *family, *prefill; // as facet_session_opts has it
    const facet_tokens *prompts;  // (n_prompts) each of 1 to n_ctx tokens
    size_t n_prompts;
    const facet_sampler *samplers; // (n_prompts) how each answer is drawn; NULL: all greedy
    uint32_t n_max;                // tokens of an answer
    uint32_t n_ctx;                // of each sequence
    uint32_t n_sequences;       // at most FACET_SEQUENCES_MAX; fewer run when caches grow too large
    const facet_strings *stops; // NULL: none
    const char *what;           // for the progress
    facet_batch_fn *fn;
    void *ctx;
} facet_batch_opts;

facet_status facet_batch_answer(facet_bundle *bundle, const facet_batch_opts *opts,
                                const facet_report *report, facet_err *err);

#endif
