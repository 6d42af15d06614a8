// SPDX-License-Identifier: Apache-2.0
// Which channels can a layer spare when those that stay are refitted? Backward elimination by the
// inverse second moment (the saliency of Optimal Brain Surgeon, a channel being the unit; blocks as
// in ZipLM): with P = (C + ridge D)^-1 and rows W of the down projection, refitted so far,
//
//     cost of channel j     |w_j|^2 / P_jj, the squared error that its loss adds after a refit
//     without channels B    W -= P_.B P_BB^-1 W_B,    P -= P_.B P_BB^-1 P_B.
#ifndef FACET_COMPILER_ELIMINATE_H
#define FACET_COMPILER_ELIMINATE_H

#include "compiler/compensate.h"

typedef struct facet_eliminate_problem {
    const facet_moments *moments; // of all channels of a layer; the fitting part counts
    const float *rows;            // (n, d) the layer's own
    uint32_t n_keep;              // channels that stay
    uint32_t block;               // channels that go at once
    double ridge;                 // a multiple of the mean diagonal
    uint32_t layer;               // for messages
} facet_eliminate_problem;

// worth: (n - 1), >= 0. Square root of a channel's cost where it went or, of those that stay, at
// the end; never less than of those that went before, so the best n_keep are those that stay. The
// constant always stays. FACET_FAILED: the moments are singular or not finite.
facet_status facet_eliminate(const facet_eliminate_problem *problem, float *worth, facet_err *err);

#endif
