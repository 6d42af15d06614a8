// SPDX-License-Identifier: Apache-2.0
// Between the two files that read a Hugging Face tokenizer: tokenizer_json.c reads tokenizer.json,
// tokenizer_config.c what stands beside it.
#ifndef FACET_MODEL_TOKENIZER_JSON_H
#define FACET_MODEL_TOKENIZER_JSON_H

#include <cjson/cJSON.h>

#include "model/tokenizer_parts.h"

// BOS, EOS, unknown, whether BOS is added, the chat template and the names of special tokens.
// `document` is tokenizer.json. Needs the table of texts.
facet_status facet_tokenizer_read_config(const facet_tokenizer_texts *texts, const cJSON *document,
                                         facet_tokenizer *t, facet_err *err);

#endif
