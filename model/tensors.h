// SPDX-License-Identifier: Apache-2.0
// What both readers (GGUF, safetensors) check about a list of tensors.
#ifndef FACET_MODEL_TENSORS_H
#define FACET_MODEL_TENSORS_H

#include "model/model.h"

// Sorts tensors by name and refuses names that occur twice and data that overlap in one file
// (file pointers are compared). FACET_BAD_TENSOR or FACET_NO_MEMORY.
facet_status facet_tensors_check(facet_tensor *tensors, uint32_t n, const facet_alloc *alloc,
                                 facet_err *err);
// By name in a sorted list, or NULL.
const facet_tensor *facet_tensors_find(const facet_tensor *tensors, uint32_t n, const char *name);

#endif
