// SPDX-License-Identifier: Apache-2.0
// AdamW over the trained parameters of a net, and the schedule of its rate. In: gradients. Out:
// changed values. The optimiser owns two numbers for each trained one; it borrows the net. Results
// do not depend on the number of threads.
#ifndef FACET_TRAIN_ADAM_H
#define FACET_TRAIN_ADAM_H

#include "train/net.h"

typedef struct facet_adam facet_adam;

typedef struct facet_adam_opts {
    double beta1, beta2; // of the means of gradients and of their squares
    double epsilon;      // added to the root of the latter
    double decay;        // decoupled: matrices shrink by rate * decay a step; vectors do not
    double clip;         // longest gradient, over all parameters; longer ones are scaled; 0: any
    // The rate is a share of a parameter's size when the optimiser is made. Else it is absolute.
    // Matrices and gains: the root mean square of their values. A down bias: its projection's. A
    // bias of q, k or v: about that of the projection's outputs, which it is added to.
    bool relative;
    facet_pool *pool; // borrowed until free
    const facet_alloc *alloc;
} facet_adam_opts;

#define FACET_ADAM_OPTS_DEFAULT                                                                    \
    ((facet_adam_opts){.beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .clip = 1})

facet_status facet_adam_new(const facet_net *net, const facet_adam_opts *opts, facet_adam **adam,
                            facet_err *err);
void facet_adam_free(facet_adam *adam);
// Forgets all steps, as if just made; the sizes that rates are shares of stay.
void facet_adam_restart(facet_adam *adam);
// One step along the gradients, which stay as they are. Returns their length before clipping; when
// that is not finite, nothing changes.
double facet_adam_step(facet_adam *adam, double rate);

// Rises in a straight line for `warm_up` steps, then falls along a cosine to floor * peak at the
// last of `steps`.
typedef struct facet_schedule {
    double peak, floor;
    uint32_t warm_up, steps;
} facet_schedule;
double facet_schedule_rate(const facet_schedule *schedule, uint32_t step); // step: 0..steps-1

#endif
