// SPDX-License-Identifier: Apache-2.0
// Nats of token samples under a family of an open bundle: eval --ppl and the compiler's proof.
#ifndef FACET_TOOLS_LOSS_H
#define FACET_TOOLS_LOSS_H

#include "model/samples.h"
#include "tools/resolve.h"

// Sum of nats and count of scored tokens (facet_samples_scored). Each sample starts at position 0
// of an empty context; `reader`, the family itself or dense, reads its prompt.
facet_status facet_loss_samples(const facet_tool *tool, facet_bundle *bundle, const char *reader,
                                const char *family, const facet_samples *samples, double *nats,
                                uint64_t *scored, facet_err *err);

#endif
