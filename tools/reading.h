// SPDX-License-Identifier: Apache-2.0
// A prompt that one family reads, and what follows it, which another does: the logits of the rows
// that predict what follows. Nothing before them gets logits.
#ifndef FACET_TOOLS_READING_H
#define FACET_TOOLS_READING_H

#include "runtime/eval.h"

typedef struct facet_reading {
    const char *reader, *family; // of ids[0..first), of the rest; they may be the same
    const uint32_t *ids;         // (n)
    size_t first, n;             // 1 <= first < n
} facet_reading;

// Hands out rows first - 1 .. n - 2, counted from 0: row i predicts ids[first + i]. The session,
// which reads by its family, forgets its context first.
facet_status facet_reading_rows(facet_session *session, const facet_reading *reading,
                                facet_logits_fn *fn, void *ctx, facet_err *err);

#endif
