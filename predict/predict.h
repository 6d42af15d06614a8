// SPDX-License-Identifier: Apache-2.0
// Which channels does a prompt need? In: a model and token samples. Out: a score for every (sample,
// layer, channel). Formulas and sources stand with each predictor in predict/predict.c.
#ifndef FACET_PREDICT_PREDICT_H
#define FACET_PREDICT_PREDICT_H

#include "base/report.h"
#include "model/model.h"
#include "model/samples.h"
#include "products/product.h"

typedef enum facet_predictor {
    FACET_PREDICT_STATS,  // GRIFFIN: s_j, with s_j^2 = sum_t (z_tj / ||z_t||)^2
    FACET_PREDICT_ENERGY, // sqrt(sum_t z_tj^2) * ||Wd_j||
    FACET_PREDICT_GLASS,  // ranks of STATS of the sample mixed with ranks of a global prior
    FACET_PREDICT_RANDOM, // the control
} facet_predictor;

// Groups of samples are finished one by one, always the same ones for the same samples. `recall`
// fills the n scores of the next group, before any mixing of ranks, or says no; `keep` then gets
// them when they are made.
typedef struct facet_predict_memory {
    void *ctx;
    bool (*recall)(void *ctx, float *scores, size_t n);
    void (*keep)(void *ctx, const float *scores, size_t n);
} facet_predict_memory;

typedef struct facet_predict_opts {
    facet_predictor predictor;
    uint64_t seed; // RANDOM
    uint32_t n_threads;
    facet_precision precision; // of products with weights (calib/stream.h)
    const facet_alloc *alloc;
    const facet_report *report;
    const facet_predict_memory *memory; // NULL: none
} facet_predict_opts;

// scores: (samples.n, n_layers, d_ff), caller's; every token of a sample counts.
facet_status facet_predict(const facet_model *model, const facet_samples *samples,
                           const facet_predict_opts *opts, float *scores, facet_err *err);

// Nearest family of a prompt for `--family auto`: cosine similarity of its statistics with each
// family's scores, layer by layer, averaged (0 for a layer without scores). similarity:
// (n_families). Returns the best, lowest on ties.
uint32_t facet_predict_nearest(const float *scores, const float *family_scores, uint32_t n_families,
                               uint32_t n_layers, uint32_t d_ff, double *similarity);

#endif
