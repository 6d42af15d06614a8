// SPDX-License-Identifier: Apache-2.0
// What tools/ needs of the runtime beyond the public API: logits at every position, and facts of an
// open bundle.
#ifndef FACET_RUNTIME_EVAL_H
#define FACET_RUNTIME_EVAL_H

#include "cache/manifest.h"
#include "model/tokenizer.h"
#include "runtime/check.h"

// Rows first_row .. first_row + n_rows - 1 of the tokens given; logits (n_rows, vocab), borrowed
// until the call returns. A failing callback ends the evaluation with its status.
typedef facet_status facet_logits_fn(void *ctx, size_t first_row, uint32_t n_rows,
                                     const float *logits, facet_err *err);

// As facet_session_prefill, but hands out the logits of every position, at most
// FACET_EVAL_ROWS rows at a time. Allocates room for one block of logits while it runs. After a
// failure the context is as long as the chunks that were finished; rewind it.
#define FACET_EVAL_ROWS 16u
facet_status facet_session_prefill_all(facet_session *session, const uint32_t *tokens, size_t n,
                                       facet_logits_fn *fn, void *ctx, facet_err *err);

// Borrowed until facet_close.
const facet_manifest *facet_bundle_manifest(const facet_bundle *bundle);
const facet_tokenizer *facet_bundle_tokenizer(const facet_bundle *bundle);
// Which variant runs a family here: a target's name or "generic".
const char *facet_bundle_target(const facet_bundle *bundle, uint32_t family);
// What runtime/check.h needs to prove an artifact of this family; borrowed from the bundle.
void facet_bundle_check_spec(const facet_bundle *bundle, uint32_t family, facet_check_spec *spec);
// Channel statistics of the tokens that dense processes from here on, prompt or step, whatever the
// sequence:
// s_j^2 = sum_t (z_tj / ||z_t||)^2 per layer, channels in the source's order (the STATS of
// predict/predict.h; a token whose z is all zero adds nothing). A family's tokens do not count: its
// z is incomplete. `begin` allocates and clears, again if there are some; a rewind takes nothing
// back. The result is the same for any number of threads.
facet_status facet_session_stats_begin(facet_session *session, facet_err *err);
// scores: (n_layers, d_ff), s_j. FACET_BAD_INPUT without a begin.
facet_status facet_session_stats(const facet_session *session, float *scores, facet_err *err);
void facet_session_stats_end(facet_session *session); // frees them; safe without a begin
// A family's stored scores (d_ff) of a layer, which a prompt's statistics are compared with; NULL:
// the bundle has none (dense never has). Borrowed until facet_close; not checked for damage.
const float *facet_bundle_scores(const facet_bundle *bundle, uint32_t family, uint32_t layer);
// Threads that a session uses.
uint32_t facet_session_threads(const facet_session *session);

#endif
