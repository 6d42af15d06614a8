// SPDX-License-Identifier: Apache-2.0
// Timing of sessions: prefill, decode and both, families interleaved.
#ifndef FACET_TOOLS_MEASURE_H
#define FACET_TOOLS_MEASURE_H

#include "tools/resolve.h"

typedef struct facet_measure_opts {
    uint32_t n_prompt, n_gen, depth, reps; // 0 prompt or 0 gen: tests without it only
    uint32_t batch; // sequences that decode together; their prompts are read one after the other
} facet_measure_opts;

typedef enum facet_test {
    FACET_TEST_PP,
    FACET_TEST_TG,
    FACET_TEST_PP_TG,
    FACET_TEST_COUNT
} facet_test;

// Tokens a second, of all sequences together, of every repetition: samples (families,
// FACET_TEST_COUNT, reps); tests that the options leave out stay 0. Repetitions go over all
// families before the next one begins, so that what slows the machine for a while slows all of
// them.
facet_status facet_measure(const facet_tool *tool, facet_bundle *bundle,
                           const facet_strings *families, const facet_measure_opts *opts,
                           double *samples, facet_err *err);
bool facet_measure_has(const facet_measure_opts *opts, facet_test test);

#endif
