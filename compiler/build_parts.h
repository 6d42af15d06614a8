// SPDX-License-Identifier: Apache-2.0
// Shared by build*.c and prove.c only: the state of one build.
#ifndef FACET_COMPILER_BUILD_PARTS_H
#define FACET_COMPILER_BUILD_PARTS_H

#include "base/json.h"
#include "base/memory.h"
#include "cache/manifest.h"
#include "compiler/build.h"
#include "compiler/family.h"
#include "compiler/layout.h"
#include "compiler/quantize.h"

// What is known of a compiled layer of a family.
typedef struct facet_built_layer {
    facet_pack down;
    bool bias;
} facet_built_layer;

typedef struct facet_building {
    const facet_model *model;
    const facet_family_set *families; // NULL: dense only
    const facet_build_opts *opts;
    const facet_build_ops *ops;
    const facet_alloc *alloc;
    uint32_t n_families;
    double keep;
    char temp[4096], dir[4096]; // the temporary directory; the bundle in it
    facet_arena arena;
    uint32_t *n_keep; // (n_families, n_layers) tiles
    float *worth;     // (n_families, n_layers, d_ff) of channels, by which they are chosen
    facet_refit_target *targets; // (n_families) none of them AUTO or BEST
    facet_layout layout;
    facet_family_split *splits; // (n_families)
    facet_built_layer *layers;  // (n_families, n_layers)
    facet_manifest manifest;
    facet_build_result result;
    double *scores; // (n_families, n_scores); NaN: not this family's
    char chat[16];
} facet_building;

// ---- build_calibrate.c: one set of kept channels through the layers ----------------------------

// The dense model's residual stream behind every layer, so that several walks over the same samples
// compute it once.
typedef struct facet_trail {
    float *x;       // (n_layers, n_tokens, d_model)
    double *energy; // (n_layers) of the layer's output on the judging part
} facet_trail;

typedef struct facet_tuned facet_tuned; // build_tune.h

typedef struct facet_calibrate_job {
    const char *name;             // for progress
    const facet_samples *samples; // fitting tokens first
    uint64_t n_fit;               // tokens that fit; the rest judge
    facet_refit_target target;    // not AUTO, not BEST
    bool blind;                   // no streams: original rows, plain rounding
    // Kept channels of a layer in stored order; returns how many (the rest of n_cols is padding).
    uint32_t (*channels)(void *ctx, uint32_t layer, uint32_t *channels, uint32_t *n_cols);
    // Takes a finished layer: kept as above, bias (d_model) or NULL. NULL: nobody wants them.
    facet_status (*take)(void *ctx, uint32_t layer, const facet_quantized *down, const float *bias,
                         facet_err *err);
    void *ctx;
    // Nothing is rounded or stored, and the judging tokens stay unseen by the rows, so that
    // `follow` may be what judges.
    bool rehearses;
    facet_tuned *collect;        // takes the rows of a rehearsal, or NULL
    const facet_tuned *given;    // rows that are not to be solved for, or NULL
    const facet_trail *trail;    // of `samples`, or NULL: computed on the way
    const facet_samples *follow; // samples to carry through the compiled layers, or NULL
    double follow_nats;          // result
    uint64_t follow_scored;
    double layer_error, quantize_error, down_bits; // results: means over layers
    uint32_t refitted;
} facet_calibrate_job;
// What is solved for in closed form: tuning begins with a refit.
static inline facet_compensation facet_build_method(const facet_building *b)
{
    return b->opts->compensate == FACET_COMPENSATE_TUNE ? FACET_COMPENSATE_REFIT
                                                        : b->opts->compensate;
}
// The same where judging tokens are to stay unseen by the rows (facet_compensate_layer).
static inline facet_compensation facet_build_trial_method(const facet_building *b)
{
    return facet_build_method(b) == FACET_COMPENSATE_REFIT ? FACET_COMPENSATE_TUNE
                                                           : facet_build_method(b);
}
facet_status facet_build_calibrate(facet_building *b, facet_calibrate_job *job, facet_err *err);

// How many tokens calibrate a family, at most: what was asked for, or six for each channel that a
// layer has, 8,192 at least. The fewer are kept, the more a refit has to repair: it does not get
// less text.
uint64_t facet_build_tokens(const facet_building *b);

// A copy of listed samples, at most max_tokens (0: no limit) spread over the list; those that judge
// (family_documents.h) stand at the end, behind *n_fit tokens, with at most a fifth of max_tokens.
// A single sample is cut at four fifths. Answers go along, cut where their sample is.
facet_status facet_build_samples(const facet_samples *from, const uint32_t *list, uint32_t n,
                                 uint64_t max_tokens, const facet_alloc *alloc, facet_samples *out,
                                 uint64_t *n_fit, facet_err *err);
// Views of the two parts. Samples stand whole on one side of n_fit unless a single one was cut;
// then all of it is in both. fit may be NULL.
void facet_build_samples_part(const facet_samples *samples, uint64_t n_fit, facet_samples *fit,
                              facet_samples *judge);
void facet_build_samples_fini(facet_samples *samples, const facet_alloc *alloc);

// Worth of a layer's channels to a family, (d_ff); the layers behind it follow.
const float *facet_build_worth(const facet_building *b, uint32_t family, uint32_t layer);

// ---- the steps
// -----------------------------------------------------------------------------------

// Is there text that may calibrate the family? *blind: it goes without, as it drops nothing or
// repairs nothing; NULL: it may not, as something is tried on its text.
facet_status facet_build_texts(const facet_building *b, uint32_t family, bool *blind,
                               facet_err *err);
facet_status facet_build_family_write(facet_building *b, uint32_t family, facet_err *err);
facet_status facet_build_kernels(facet_building *b, facet_err *err);
facet_status facet_build_manifest_begin(facet_building *b, facet_err *err);
facet_status facet_build_manifest_end(facet_building *b, facet_err *err); // checks and writes
// Adds a file of the bundle, by its name relative to the bundle, with size and checksum.
facet_status facet_build_add_file(facet_building *b, const char *name, facet_err *err);
facet_status facet_build_path(const facet_building *b, const char *name, char path[4096],
                              facet_err *err);
facet_status facet_build_prove(facet_building *b, facet_err *err);

// ---- prove_judge.c: is it as good as was asked for?
// --------------------------------------------

// Tokens of prompts and answers of a family that are compared with dense's, at most.
enum { FACET_BUILD_AGREE_TOKENS = 2048 };
// Has a sample an answer that can be compared?
bool facet_build_answered(const facet_samples *samples, uint32_t i);
// Before any work: can the quality that was asked for be judged?
facet_status facet_build_judgeable(facet_building *b, facet_err *err);
// Of the losses and agreements of all families.
facet_status facet_build_judge(const facet_building *b, facet_err *err);
// What becomes of a family that is not good enough, or cannot be judged: a warning or an error.
facet_status facet_build_refuse(const facet_building *b, const facet_err *why, bool warn,
                                facet_err *err);

// ---- prove_scores.c: what the user's commands say of the bundle
// --------------------------------

facet_status facet_build_scores_check(const facet_building *b, facet_err *err); // the families
facet_status facet_build_scores(facet_building *b, facet_err *err);             // and judges them
// A family's scores into its object of the proof.
void facet_build_scores_put(const facet_building *b, uint32_t family, cJSON *object);
// Adds a number of six digits to an object of the proof.
void facet_build_put(cJSON *object, const char *name, double value);

#endif
