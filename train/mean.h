// SPDX-License-Identifier: Apache-2.0
// The mean of the values that a net's trained parameters had after its last steps. Single steps
// follow the noise of their batch; at a rate that is still high the mean is nearer to where they
// are going than the last of them (averaged stochastic gradient descent, Polyak and Juditsky
// 1992). In: a net, step by step. Out: its mean, in exchange for its values. It owns one number for
// each trained one and borrows the net.
#ifndef FACET_TRAIN_MEAN_H
#define FACET_TRAIN_MEAN_H

#include "train/net.h"

typedef struct facet_mean facet_mean;

// `pool` is borrowed until free.
facet_status facet_mean_new(const facet_net *net, facet_pool *pool, const facet_alloc *alloc,
                            facet_mean **mean, facet_err *err);
void facet_mean_free(facet_mean *mean);
// Forgets all values.
void facet_mean_restart(facet_mean *mean);
// Takes the net's values in, after a step. The last `horizon` (1 or more) of them count, older ones
// by a factor of 1 - 1 / horizon a step; before there are so many, all count the same.
void facet_mean_add(facet_mean *mean, uint32_t horizon);
// Exchanges the net's values and the mean; the same call undoes it. Not before the first add.
void facet_mean_swap(facet_mean *mean);

#endif
