// SPDX-License-Identifier: Apache-2.0
// Mask sets: any bytes; what loads is read to its ends.
#include "model/samples_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    facet_mask_set set;
    char kind[16];
    facet_samples_kind_parse(data, bytes, "fuzz", kind, NULL);
    if (facet_mask_set_parse(data, bytes, "fuzz", NULL, &set, NULL) != FACET_OK) return 0;
    float last = 0;
    const size_t rows = (size_t)set.n * set.n_layers;
    if (set.scores) last = set.scores[rows * set.d_ff - 1];
    if (set.mask) last += set.mask[rows * ((set.d_ff + 7) / 8) - 1];
    if (set.samples.tokens) last += (float)set.samples.tokens[set.samples.n_tokens - 1];
    if (set.samples.documents) last += (float)set.samples.documents[set.n - 1];
    if (set.samples.answers) last += (float)set.samples.answers[set.n - 1];
    if (set.labels) last += (float)set.labels[set.n - 1][0];
    facet_mask_set_fini(&set);
    return last < 0 ? -1 : 0; // never negative: keeps the reads
}
