// SPDX-License-Identifier: Apache-2.0
// Families: any bytes.
#include "model/samples_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    facet_family_set set;
    if (facet_family_set_parse(data, bytes, "fuzz", NULL, &set, NULL) != FACET_OK) return 0;
    const size_t rows = (size_t)set.n_families * set.n_layers;
    float last = set.scores[rows * set.d_ff - 1];
    last += set.mask[rows * ((set.d_ff + 7) / 8) - 1];
    last += (float)(set.assign[set.samples.n - 1] + set.held[set.samples.n - 1]);
    if (set.samples.documents) last += (float)set.samples.documents[set.samples.n - 1];
    if (set.samples.answers) last += (float)set.samples.answers[set.samples.n - 1];
    last += (float)set.names[set.n_families - 1][0];
    facet_family_set_fini(&set);
    return last < 0 ? -1 : 0; // never negative: keeps the reads
}
