// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding for the float32 models of calib/ and train/.
#ifndef FACET_CALIB_ROTARY_H
#define FACET_CALIB_ROTARY_H

#include "model/model.h"

// Fills (n_positions, rope_dims / 2, 2) with the cosine and sine of every angle. Local layers
// (those with a sliding window) have their own base and no linear scaling. factors: (rope_dims / 2)
// divisors of the frequencies, or NULL.
void facet_rotary_fill(const facet_hparams *hp, const float *factors, bool local,
                       uint32_t n_positions, float *table);
// Rotates n_heads heads of head_dim, in place; `angles` (rope_dims / 2, 2) is the position's row.
void facet_rotary_apply(const facet_hparams *hp, const float *angles, uint32_t n_heads,
                        float *heads);

#endif
