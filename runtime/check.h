// SPDX-License-Identifier: Apache-2.0
// Proves an artifact: loads a shared object and compares every stage with the scalar reference on
// random weights and activations, for the layers it claims. Used before publishing and by verify.
#ifndef FACET_RUNTIME_CHECK_H
#define FACET_RUNTIME_CHECK_H

#include "base/status.h"
#include "kernels/abi.h"

typedef struct facet_check_spec {
    facet_shape shape;
    const facet_layer
        *layers; // (n_layers) sizes, packs, tiles, perm; weight pointers are ignored, but
                 // optional vectors (biases, norms) count as present when not NULL
    facet_mat head;
    const char *plan; // digest the artifact must carry; NULL: any
    uint64_t seed;
} facet_check_spec;

typedef struct facet_check_result {
    double max_abs_error, max_rel_error; // over all outputs; relative to the output's largest value
    uint64_t n_outputs;
    char target[24];
} facet_check_result;

// FACET_CHECK when an output differs by more than the tolerance (or is not finite), FACET_NO_DEVICE
// when this CPU cannot run the artifact's target, FACET_BAD_FILE when it is none of ours.
facet_status facet_check_artifact(const char *path, const facet_check_spec *spec,
                                  const facet_alloc *alloc, facet_check_result *result,
                                  facet_err *err);

#endif
