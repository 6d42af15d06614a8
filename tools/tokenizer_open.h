// SPDX-License-Identifier: Apache-2.0
// The tokenizer of a model or of a bundle, without opening weights or kernels.
#ifndef FACET_TOOLS_TOKENIZER_OPEN_H
#define FACET_TOOLS_TOKENIZER_OPEN_H

#include "model/tokenizer.h"

// Free with facet_tokenizer_free.
facet_status facet_tokenizer_open(const char *path, facet_tokenizer **tokenizer, facet_err *err);

#endif
