// SPDX-License-Identifier: Apache-2.0
// The activation of a gated FFN, in place.
#ifndef FACET_CALIB_ACTIVATE_H
#define FACET_CALIB_ACTIVATE_H

#include <stddef.h>

#include "model/model.h"

// gate (n) = act(gate) * up (n). The same bits on every CPU.
void facet_activate(facet_gate_act act, float *gate, const float *up, size_t n);

#endif
