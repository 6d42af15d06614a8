// SPDX-License-Identifier: Apache-2.0
// Prompt tokens in, text out: the loop that run and eval --complete share.
#ifndef FACET_TOOLS_GENERATE_H
#define FACET_TOOLS_GENERATE_H

#include "base/text.h"
#include "runtime/eval.h"
#include "tools/options.h"
#include "tools/route.h"

typedef facet_status facet_piece_fn(void *ctx, const char *text, size_t bytes, facet_err *err);

typedef struct facet_generate_opts {
    uint32_t n_max; // tokens to generate
    uint32_t n_ctx; // of the session
    facet_sampler sampler;
    const facet_strings *stops; // texts that end the answer and are not part of it; NULL: none
    facet_route *route;         // chooses the family behind the prompt, once; NULL: nobody does
    facet_piece_fn *piece;      // gets the text as it comes, whole characters only; NULL: nobody
    void *ctx;
} facet_generate_opts;

typedef struct facet_generated {
    uint32_t *ids; // (n) without the token that ended it
    uint32_t n, n_steps;
    facet_text text;
    const char *stop; // "end" (the model's own), "length", "stop" (a text of `stops`), "context"
    double prefill_seconds, decode_seconds;
} facet_generated;

// The session's context keeps what it holds; `tokens` (n > 0) are appended. A session whose context
// is too short for them is FACET_BAD_INPUT. Free with facet_generated_fini.
facet_status facet_generate(facet_bundle *bundle, facet_session *session, const uint32_t *tokens,
                            size_t n, const facet_generate_opts *opts, facet_generated *out,
                            facet_err *err);
void facet_generated_fini(facet_generated *generated); // safe on a zeroed one

#endif
