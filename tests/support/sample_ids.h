// SPDX-License-Identifier: Apache-2.0
// Samples from a text file of token ids, one sample a line: what scripts hand to test tools.
#ifndef FACET_TESTS_SAMPLE_IDS_H
#define FACET_TESTS_SAMPLE_IDS_H

#include "model/samples.h"

// Reads at most 16 MiB. Whatever is not a digit separates; lines without an id are left out.
facet_status facet_sample_ids_load(const char *path, facet_samples *samples, facet_err *err);
void facet_sample_ids_fini(facet_samples *samples);

#endif
