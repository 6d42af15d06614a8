// SPDX-License-Identifier: Apache-2.0
// What is decided of each family before its channels are laid out: worth of channels, target of the
// refit, tiles of the layers. Choices that need a trial are rehearsed (build_rehearse.h).
#ifndef FACET_COMPILER_BUILD_CHOOSE_H
#define FACET_COMPILER_BUILD_CHOOSE_H

#include "compiler/build_rehearse.h"

// Fills b->worth, b->targets and b->n_keep.
facet_status facet_build_choose(facet_building *b, facet_err *err);

// ---- build_budget.c: tiles of each layer (n_layers), measured for the rehearsal's family
// -----------------------------------------------------------------------------------------

facet_status facet_build_budget(facet_rehearsal *rehearsal, uint32_t *tiles, facet_err *err);

#endif
