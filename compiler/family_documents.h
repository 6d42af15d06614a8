// SPDX-License-Identifier: Apache-2.0
// Which samples judge the others. In: samples and the documents they were cut from. Out: marks.
// Windows of one text resemble each other, so what judges shares no document with what it judges,
// as far as there are documents enough.
#ifndef FACET_COMPILER_FAMILY_DOCUMENTS_H
#define FACET_COMPILER_FAMILY_DOCUMENTS_H

#include "model/samples.h"

// numbers (n): the place of each listed sample's document in the order of first appearance. `list`
// NULL: samples 0 to n - 1. *count: how many documents there are.
facet_status facet_documents_number(const facet_samples *samples, const uint32_t *list, uint32_t n,
                                    const facet_alloc *alloc, uint32_t *numbers, uint32_t *count,
                                    facet_err *err);

// marks (n): 1 for the listed samples that judge. Every fifth document; of two to four the one
// nearest to a fifth of the samples, the last on a tie; of a single document the last fifth of its
// samples in one block, and *cut is then true (it may be NULL). A single sample judges nothing.
facet_status facet_documents_judge(const facet_samples *samples, const uint32_t *list, uint32_t n,
                                   const facet_alloc *alloc, uint8_t *marks, bool *cut,
                                   facet_err *err);

#endif
