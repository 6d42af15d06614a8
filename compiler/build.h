// SPDX-License-Identifier: Apache-2.0
// From a model and its families to a published bundle. In: an open model, a family set (or none:
// dense only), options, and a table of callbacks. Out: a bundle directory, whole or not at all, and
// figures. The compiler never runs a model or a kernel: whatever must be run is a callback of
// facet_build_ops, which tools/ fills from calib/ (streams) and runtime/ (check, loss).
//
//     calibrate (taps) -> layout -> compensate + quantise, layer by layer -> pack -> emit + cc
//     through the cache -> manifest -> prove -> sync -> publish
#ifndef FACET_COMPILER_BUILD_H
#define FACET_COMPILER_BUILD_H

#include "base/report.h"
#include "cache/cache.h"
#include "compiler/plan.h"
#include "compiler/target.h"
#include "model/model.h"
#include "model/samples.h"
#include "model/vectors.h"
#include "products/product.h"

// ---- what tools/ supplies ---------------------------------------------------------------------

// One chunk of tokens in front of a layer's FFN: equal, field by field, to calib's facet_ffn_chunk.
typedef struct facet_build_chunk {
    uint64_t first;   // token index of row 0
    uint32_t n;       // rows
    const float *x;   // (n, d_model) normed input
    const float *z;   // (n, d_ff), or (n, n_kept) of a look at kept channels
    const float *y;   // (n, d_model) z Wd, before any post norm; NULL with kept channels
    const float *res; // (n, d_model) residual stream before the FFN is added
} facet_build_chunk;
typedef facet_status facet_build_tap(void *tap_ctx, const facet_build_chunk *chunk, facet_err *err);

// A pruned FFN: equal to calib's facet_ffn_custom.
typedef struct facet_build_custom {
    const uint32_t *kept; // ascending channels
    uint32_t n_kept;
    const float *down; // (n_kept, d_model) in the order of `kept`; NULL: the model's own rows
    const float *bias; // (d_model) or NULL
} facet_build_custom;

// The pruned FFN of a layer whose rows may still move.
typedef struct facet_build_rows {
    uint32_t n_kept;
    uint32_t *kept; // ascending channels
    float *down;    // (n_kept, d_model) in the order of `kept`
    float *bias;    // (d_model)
} facet_build_rows;

typedef struct facet_build_tuning {
    facet_build_rows *layers; // (n_layers) down and bias are changed in place
    facet_vectors *own;       // the family's in place of the model's; changed in place
    facet_samples fit, judge; // views; `judge` decides what is kept and is never trained on
    uint32_t passes;          // over `fit`
    double text;              // share of the text itself in what is aimed at, 0 to 1
    bool dense_prompts;       // dense reads the prompts of `fit` and `judge`
    uint64_t seed;
    // Results: whether anything was changed; mean loss of the next token on `judge`, in nats,
    // before and after, (1 - text) KL(dense || family) + text (family's nats less dense's); tokens
    // trained on, repetitions counted.
    bool changed;
    double loss_before, loss_after;
    uint64_t tokens;
} facet_build_tuning;

// How far a family answers as dense does (defined in tools/agree.h): under answers, does the same
// token have the highest logit?
typedef struct facet_build_agreement {
    uint64_t answers, positions, positions_equal;
    uint64_t dense_answers;       // of these dense's own greedy ones
    uint64_t dense_answers_equal; // which the family gives token for token
} facet_build_agreement;
double facet_build_share(uint64_t part, uint64_t whole); // NaN of nothing

// A task's score, which a command of the user finds: higher is better.
typedef struct facet_build_score {
    const char *family; // whose task it is; NULL: every family's
    const char *name, *command;
    double least; // the family's score over dense's, at least; 0: any
    // Dense is the same at every keep, so a build that finds its score leaves it to the next one.
    bool dense_known;
    double dense;
} facet_build_score;

// Streams are opaque here; the meaning of every call is that of calib/stream.h. `samples` is
// borrowed until stream_free. An op may return FACET_INTERRUPTED.
typedef struct facet_build_ops {
    void *ctx;
    facet_status (*stream_new)(void *ctx, const facet_model *model, const facet_samples *samples,
                               void **stream, facet_err *err);
    void (*stream_free)(void *ctx, void *stream); // NULL is fine
    facet_status (*stream_copy)(void *ctx, const void *stream, void **copy, facet_err *err);
    // With answers_only the tokens of prompts keep the model's vectors.
    void (*stream_own)(void *ctx, void *stream, const facet_vectors *own, bool answers_only);
    // Gives the tokens of prompts the states x (n_tokens, d_model) that dense has behind the same
    // layer.
    void (*stream_prompts)(void *ctx, void *stream, const float *x);
    facet_status (*stream_attn)(void *ctx, void *stream, facet_err *err);
    facet_status (*stream_ffn)(void *ctx, void *stream, facet_build_tap *tap, void *tap_ctx,
                               facet_err *err);
    facet_status (*stream_look)(void *ctx, void *stream, facet_build_tap *tap, void *tap_ctx,
                                facet_err *err);
    facet_status (*stream_look_kept)(void *ctx, void *stream, const uint32_t *kept, uint32_t n_kept,
                                     facet_build_tap *tap, void *tap_ctx, facet_err *err);
    facet_status (*stream_add)(void *ctx, void *stream, float *y, facet_err *err);
    facet_status (*stream_custom)(void *ctx, void *stream, const facet_build_custom *custom,
                                  facet_err *err);
    const float *(*stream_x)(void *ctx, const void *stream); // (n_tokens, d_model)
    facet_status (*stream_nll)(void *ctx, void *stream, double *nats, uint64_t *scored,
                               facet_err *err);
    // Moves the rows of all layers and the family's vectors together towards the dense model's
    // next-token distribution and the text itself. What is not better on the judging samples is
    // undone, so loss_after <= loss_before.
    facet_status (*tune)(void *ctx, const facet_model *model, facet_build_tuning *tuning,
                         facet_err *err);
    // Loads the compiled artifact at `path` and compares it with the reference on random data.
    // FACET_NO_DEVICE: this machine cannot run the target; the artifact is then kept unchecked,
    // with a warning. FACET_CHECK: it is wrong; the build fails and nothing is published.
    facet_status (*check)(void *ctx, const char *path, const facet_plan *plan, facet_err *err);
    // Loss of one family ("dense" too) of a finished bundle that is not published yet: sum of nats
    // and number of scored tokens over `samples` (facet_samples_scored).
    facet_status (*loss)(void *ctx, const char *bundle_path, const char *family,
                         const facet_samples *samples, bool dense_prompts, double *nats,
                         uint64_t *scored, facet_err *err);
    // Agreement of a family of such a bundle with its dense under the answers of `samples`.
    facet_status (*agree)(void *ctx, const char *bundle_path, const char *family,
                          const facet_samples *samples, bool dense_prompts,
                          facet_build_agreement *out, facet_err *err);
    // The score of a family of such a bundle: a finite number.
    facet_status (*score)(void *ctx, const char *bundle_path, const char *family,
                          const facet_build_score *score, double *value, facet_err *err);
} facet_build_ops;

// ---- options ----------------------------------------------------------------------------------

typedef enum facet_compensation {
    FACET_COMPENSATE_REFIT, // the default
    FACET_COMPENSATE_BIAS,
    FACET_COMPENSATE_NONE,
    FACET_COMPENSATE_TUNE, // the refit, then all layers together (build_tune.h)
    FACET_COMPENSATE_COUNT
} facet_compensation;

// What a refit aims at (design, section 4).
typedef enum facet_refit_target {
    FACET_REFIT_AUTO,     // HALF, but LAYER in models with a norm behind the FFN
    FACET_REFIT_LAYER,    // the dense layer's output on the same inputs
    FACET_REFIT_RESIDUAL, // the dense residual stream behind the layer
    FACET_REFIT_HALF,     // halfway between these two
    FACET_REFIT_ONESHOT,  // the dense layer's output on dense's own inputs
    FACET_REFIT_BEST,     // each family's best, by the loss of text that does not fit
    FACET_REFIT_COUNT
} facet_refit_target;

// Which channels a family keeps.
typedef enum facet_selection {
    FACET_SELECT_STATS,     // the best by the family's own statistics, the default
    FACET_SELECT_ELIMINATE, // by these and by what a refit can spare least (eliminate.h)
    FACET_SELECT_BEST,      // the better, as above
    FACET_SELECT_COUNT
} facet_selection;

typedef struct facet_build_opts {
    double keep;        // 0: the family set's own
    bool budget_global; // move tiles between layers; else the same share in each
    facet_compensation compensate;
    facet_refit_target refit_target;
    facet_selection select;
    bool down_8bit;              // the families' own down projections as Q8_0, no choice of types
    uint64_t calibration_tokens; // at most, a family; 0: 6 a channel of a layer, 8192 at least
    uint64_t tune_tokens;        // at most, a family, repetitions counted; 0: 65536
    bool dense_prompts;          // dense will read the prompts, the family only what follows
    facet_precision precision;   // of the sums over tokens
    uint32_t n_threads;          // 0: the cores this process may use
    double tune_text;            // share of the text itself in what tuning aims at, 0 to 1
    uint64_t proof_tokens;       // held-out tokens scored, at most, a family; 0: 1024
    bool prove;                  // measure held-out perplexities and agreement with dense
    bool prove_own;              // of dense and the family only: no other families, no random
    double quality;              // held-out perplexity over dense's, at most; 0: any. Needs prove
    double agree;                // share of agreeing positions, at least; 0: any. Needs prove
    facet_build_score *scores;   // (n_scores) of tasks, measured with or without prove
    uint32_t n_scores;
    bool quality_warns;         // worse families are published, with a warning
    uint64_t seed;              // of the random control
    const char *const *targets; // names of compiler/target.h; n_targets 0: no kernels
    uint32_t n_targets;
    const facet_cc *cc;     // may be NULL when n_targets is 0
    facet_cache *cache;     // may be NULL when n_targets is 0
    const char *source_dir; // also write the emitted sources there; NULL: no
    bool force; // replace an existing bundle; quality that cannot be judged is a warning
    const facet_alloc *alloc;
    const facet_report *report;
} facet_build_opts;

// "none", "bias", "refit", "tune"; false when the name is none of them.
bool facet_compensation_find(const char *name, facet_compensation *out);
const char *facet_compensation_name(facet_compensation compensation);
// "auto", "layer", "residual", "half", "oneshot", "best"; false when the name is none of them.
bool facet_refit_target_find(const char *name, facet_refit_target *out);
const char *facet_refit_target_name(facet_refit_target target);
// "stats", "eliminate", "best"; false when the name is none of them.
bool facet_selection_find(const char *name, facet_selection *out);
const char *facet_selection_name(facet_selection selection);

// ---- result -----------------------------------------------------------------------------------

typedef enum facet_build_step {
    FACET_STEP_READ,   // fingerprint
    FACET_STEP_CHOOSE, // what is rehearsed, shares of layers included
    FACET_STEP_LAYOUT,
    FACET_STEP_COMPENSATE, // with the calibration's forward passes
    FACET_STEP_TUNE,
    FACET_STEP_QUANTIZE,
    FACET_STEP_PACK,
    FACET_STEP_KERNELS, // emit, compile, check
    FACET_STEP_PROVE,
    FACET_STEP_PUBLISH,
    FACET_STEP_COUNT
} facet_build_step;
const char *facet_build_step_name(facet_build_step step); // "read", "layout" ...

// A choice that was tried, and the loss of judging text, in nats a token.
typedef struct facet_build_rehearsed {
    const char *name; // static
    double loss;
} facet_build_rehearsed;
enum { FACET_BUILD_REHEARSED = 5 }; // of a family at most, but for shares of layers

typedef struct facet_build_family {
    char name[64];
    uint64_t calibration_samples, calibration_tokens, held_samples, held_tokens;
    uint64_t duplicates;       // samples left out because they share text with a held-out one
    facet_refit_target target; // not AUTO, not BEST
    bool eliminated;           // its channels are chosen by elimination
    facet_build_rehearsed rehearsed[FACET_BUILD_REHEARSED];
    uint32_t n_rehearsed;
    // Nats a judging token with uniform shares and with the chosen ones; 0: no search.
    double loss_uniform, loss_chosen;
    double recall;      // captured score / best possible, mean over layers
    double down_bits;   // mean bits of a stored down weight
    double layer_error; // mean over layers: held-out squared error of the FFN's output / its energy
    double quantize_error;                 // the part that rounding added
    uint32_t refitted;                     // layers where the refit was kept
    uint64_t tune_tokens;                  // trained on; 0: not tuned
    double loss_refit, loss_tuned;         // of the tuning, nats a judging token
    double ppl_dense, ppl_own, ppl_random; // held-out perplexities; 0: not measured
    double *ppl_other; // (n_families of the bundle without dense), own place 0; NULL: not measured
    facet_build_agreement agreement; // on held-out answers; zeroes: there are none, or no proof
} facet_build_family;

typedef struct facet_build_result {
    const facet_alloc *alloc;
    double seconds[FACET_STEP_COUNT], seconds_total;
    uint64_t cache_hits, cache_misses, cache_compiled, cache_rejected; // of this build
    uint64_t weights_bytes;
    facet_build_family *families; // (n_families), dense not among them
    uint32_t n_families;
} facet_build_result;
void facet_build_result_fini(facet_build_result *result);

// Builds and publishes the bundle at `out`. `families` may be NULL (dense only). On failure or
// interruption nothing is left behind and *result is empty. FACET_REFUSED: `out` exists, no force.
// FACET_QUALITY: a family is worse than opts->quality, opts->agree or a score's least. FACET_CHECK:
// one cannot be judged, for want of held-out text, answers or a score of dense, or a kernel is
// wrong.
facet_status facet_build_bundle(const facet_model *model, const facet_family_set *families,
                                const facet_build_opts *opts, const facet_build_ops *ops,
                                const char *out, facet_build_result *result, facet_err *err);

#endif
