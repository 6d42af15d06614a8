// SPDX-License-Identifier: Apache-2.0
// Which prompts need the same channels? In: a mask set (scores or masks of samples). Out: families
// with members, scores, masks and a held-out split; and measures of how well masks group.
#ifndef FACET_COMPILER_FAMILY_H
#define FACET_COMPILER_FAMILY_H

#include "base/report.h"
#include "model/samples.h"

#define FACET_FAMILY_MAX_K 16u // of the automatic choice

typedef enum facet_grouping {
    FACET_GROUP_LABEL, // one family a label
    FACET_GROUP_FIXED, // k clusters
    FACET_GROUP_AUTO,  // k from 1 to 16 by the curve
} facet_grouping;

typedef struct facet_family_opts {
    facet_grouping grouping;
    uint32_t k;  // FIXED
    double keep; // 0: the mask set's own, else 0.5
    uint64_t seed;
    const facet_alloc *alloc;
    const facet_report *report;
} facet_family_opts;

// The curve of the choice: one point a k that was tried (one point for LABEL and FIXED).
typedef struct facet_family_point {
    uint32_t k;
    double silhouette;      // mean over samples, 0 for k = 1
    double cohesion;        // mean similarity of a sample with its family's centre
    double within, between; // mean mask overlap of pairs in one family / in two
} facet_family_point;
typedef struct facet_family_curve {
    facet_family_point points[FACET_FAMILY_MAX_K];
    uint32_t n, chosen; // index of the chosen point
} facet_family_curve;

// Groups the samples. Deterministic: same set, seed and options, same families. `curve` may be
// NULL. FACET_BAD_INPUT: no samples, keep outside (0, 1], scores not finite, more clusters than
// samples, LABEL without labels. Free *out with facet_family_set_fini.
facet_status facet_family_cluster(const facet_mask_set *set, const facet_family_opts *opts,
                                  facet_family_set *out, facet_family_curve *curve, facet_err *err);

// Mean over layers of |A and B| / mean size: matrix (n_families, n_families).
facet_status facet_family_overlap(const facet_family_set *families, double *matrix, facet_err *err);

typedef struct facet_mask_overlap {
    double within, between;        // mean overlap of pairs of one label / two labels; NaN: no pair
    double nearest_label_accuracy; // samples whose nearest other sample has their label; NaN: no
                                   // labels
} facet_mask_overlap;
// Without labels `within` counts every pair and the rest is NaN. Masks are made from scores, at the
// set's keep (else 0.5), when the set has none.
facet_status facet_mask_set_overlap(const facet_mask_set *set, const facet_alloc *alloc,
                                    facet_mask_overlap *out, facet_err *err);

// The samples of one family that may calibrate it: not held out, and with less than a tenth of
// their 8-grams of tokens in common with held-out samples of any family. 8-grams that many samples
// share (chat templates, instructions: more than a tenth of a family's mean size, at least 4) do
// not count.
typedef struct facet_family_split {
    uint32_t *calibrate; // (n_calibrate) sample indices, ascending
    uint32_t *held;      // (n_held)
    uint32_t n_calibrate, n_held, n_duplicates;
} facet_family_split;
// splits: (n_families), the caller's; free each with facet_family_split_fini.
facet_status facet_family_splits(const facet_family_set *families, const facet_alloc *alloc,
                                 facet_family_split *splits, facet_err *err);
void facet_family_split_fini(facet_family_split *split, const facet_alloc *alloc);

#endif
