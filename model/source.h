// SPDX-License-Identifier: Apache-2.0
// What lies behind an open model: its mappings and its metadata. For the files of model/ alone (the
// tokenizer reads its vocabulary through this); the other rooms use model/model.h.
#ifndef FACET_MODEL_SOURCE_H
#define FACET_MODEL_SOURCE_H

#include <cjson/cJSON.h>

#include "model/gguf.h"

// The GGUF metadata, or NULL for a safetensors directory. Borrowed until facet_model_close.
const facet_gguf *facet_model_gguf(const facet_model *model);
// The directory that holds config.json and tokenizer.json, or NULL for a GGUF file. Borrowed.
const char *facet_model_directory(const facet_model *model);
// The parsed config.json of a directory, or NULL for a GGUF file. Borrowed.
const cJSON *facet_model_config(const facet_model *model);

#endif
