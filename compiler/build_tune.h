// SPDX-License-Identifier: Apache-2.0
// A family's rows of all layers in float, tuned together with its vectors. The closed-form refit
// repairs one layer at a time by squared error; tuning starts there and moves the rows of all
// layers, the gains of norms and the biases of attention towards the dense model's next-token
// distribution. A first walk leaves its rows here unrounded, ops->tune changes them, and a second
// walk, with the family's vectors, rounds them on the inputs that the rounded layers below produce.
#ifndef FACET_COMPILER_BUILD_TUNE_H
#define FACET_COMPILER_BUILD_TUNE_H

#include "compiler/build_parts.h"
#include "compiler/layer_fit.h"

// What a family may own beside its down projection: a hundredth of its size, and no kernel depends
// on the values. A bias that the model lacks would be another kernel, so none is made.
#define FACET_OWN_ROLES                                                                            \
    (FACET_ROLE_BIT(FACET_ROLE_ATTN_NORM) | FACET_ROLE_BIT(FACET_ROLE_FFN_NORM) |                  \
     FACET_ROLE_BIT(FACET_ROLE_OUT_NORM) | FACET_ROLE_BIT(FACET_ROLE_ATTN_POST) |                  \
     FACET_ROLE_BIT(FACET_ROLE_FFN_POST) | FACET_ROLE_BIT(FACET_ROLE_Q_BIAS) |                     \
     FACET_ROLE_BIT(FACET_ROLE_K_BIAS) | FACET_ROLE_BIT(FACET_ROLE_V_BIAS))

struct facet_tuned {
    const facet_alloc *alloc;
    facet_build_rows *layers; // (n_layers)
    uint32_t n_layers, d;
    facet_vectors own; // FACET_OWN_ROLES that the model has
    bool changed;      // by the tuning, which may have found nothing better
};

// Keeps the rows of the layer at hand, bias with them, for a layer that is kept once.
facet_status facet_tuned_put(facet_tuned *tuned, uint32_t layer, const facet_layer_fit *fit,
                             facet_err *err);
// Writes them into fit->rows, in stored order. The channels are those that were put.
void facet_tuned_get(const facet_tuned *tuned, uint32_t layer, facet_layer_fit *fit);
// The vectors that take the model's place in this family; NULL: none, all are shared.
const facet_vectors *facet_tuned_own(const facet_tuned *tuned);
void facet_tuned_fini(facet_tuned *tuned);

// The first walk of `job` and the tuning; job->given is then set for the second. Free `tuned` when
// that is done, whatever the status.
facet_status facet_build_tune(facet_building *b, uint32_t family, facet_calibrate_job *job,
                              facet_tuned *tuned, facet_err *err);

#endif
