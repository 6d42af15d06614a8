// SPDX-License-Identifier: Apache-2.0
// Pairwise measures of samples, one matrix product a layer. Private to compiler/family*.c.
#ifndef FACET_COMPILER_FAMILY_GRAM_H
#define FACET_COMPILER_FAMILY_GRAM_H

#include "base/report.h"
#include "model/samples.h"

// scores: (n, n_layers, d_ff); every layer's scores are scaled to length 1 and the mean over
// samples is taken off. similarity: (n, n), 1 on the diagonal. FACET_BAD_INPUT when a score is not
// finite.
facet_status facet_gram_similarity(const facet_mask_set *set, const facet_alloc *alloc,
                                   const facet_report *report, float *similarity, facet_err *err);

// masks: (n, n_layers, (d_ff + 7) / 8). overlap: (n, n), the mean over layers of |A and B| / mean
// size.
typedef struct facet_gram_masks {
    const uint8_t *masks;
    uint32_t n, n_layers, d_ff;
} facet_gram_masks;
facet_status facet_gram_overlap(const facet_gram_masks *masks, const facet_alloc *alloc,
                                float *overlap, facet_err *err);

// The set's masks, or masks made of its scores at `keep`; caller frees with facet_mem_free.
facet_status facet_gram_make_masks(const facet_mask_set *set, double keep, const facet_alloc *alloc,
                                   uint8_t **masks, facet_err *err);
// Row (sample, layer) of the set as floats of length 1, from scores or else from the mask; false
// when a score is negative or not finite. A row of zeros stays zero.
bool facet_gram_row(const facet_mask_set *set, uint32_t sample, uint32_t layer, float *row);

#endif
