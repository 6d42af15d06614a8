// SPDX-License-Identifier: Apache-2.0
// Prompt tokens in, text out. A facet_answer is what an answer in the making is beside its context:
// facet_generate makes one alone (run), batch.h many side by side (eval, predict).
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
    uint32_t *ids;  // (n_ids)
    uint32_t n;     // tokens of the answer
    uint32_t n_ids; // n, and one more when stop is "end": the token that ended the turn
    facet_text text;
    const char *stop; // "end" (the model's own), "length", "stop" (a text of `stops`), "context"
    // Of facet_generate only: answers side by side share their time.
    double prefill_seconds, decode_seconds;
    uint32_t n_steps;
} facet_generated;

typedef struct facet_answer {
    facet_bundle *bundle;
    const facet_generate_opts *opts;
    facet_generated made; // made.stop is NULL as long as the answer goes on
    facet_sampler sampler;
    uint32_t room;            // tokens that the context takes behind the prompt
    facet_text before, after; // text of a few last tokens, without and with the newest one
    size_t sent;              // bytes of made.text that went to the piece function
} facet_answer;

// Reads the prompt into the session's current sequence and takes the first token of the answer;
// `answer` is zero but for bundle and opts, which it borrows. logits: (vocab), scratch.
facet_status facet_answer_begin(facet_answer *answer, facet_session *session,
                                const uint32_t *tokens, size_t n, float *logits, facet_err *err);
// Takes the token that was drawn behind the last one.
facet_status facet_answer_take(facet_answer *answer, uint32_t id, facet_err *err);
// The token that a step behind an answer that goes on has to read.
uint32_t facet_answer_last(const facet_answer *answer);
// Gives away what was made; free it with facet_generated_fini.
facet_generated facet_answer_result(facet_answer *answer);
void facet_answer_fini(facet_answer *answer); // safe on a zeroed one

// The session's context keeps what it holds; `tokens` (n > 0) are appended. A session whose context
// is too short for them is FACET_BAD_INPUT. Free with facet_generated_fini.
facet_status facet_generate(facet_bundle *bundle, facet_session *session, const uint32_t *tokens,
                            size_t n, const facet_generate_opts *opts, facet_generated *out,
                            facet_err *err);
void facet_generated_fini(facet_generated *generated); // safe on a zeroed one

#endif
