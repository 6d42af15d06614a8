// SPDX-License-Identifier: Apache-2.0
// The float32 model, batched: every token of a set of samples goes through the layers together, on
// dequantised weights with OpenBLAS. It measures (taps, losses) and is the reference of the
// runtime's perplexity; it is not for serving. Memory: the residual stream of all tokens (n_tokens
// x d_model) plus one layer's weights and one chunk of activations.
//
//     facet_stream_new -> for each layer: facet_stream_attn, facet_stream_ffn (or _ffn_custom)
//                      -> facet_stream_nll / facet_stream_argmax
#ifndef FACET_CALIB_STREAM_H
#define FACET_CALIB_STREAM_H

#include "base/report.h"
#include "model/model.h"
#include "model/samples.h"
#include "model/vectors.h"
#include "products/product.h"

typedef struct facet_stream facet_stream;

// A stream and its copies share buffers and threads: one thread at a time uses them. OpenBLAS has
// one thread count for the whole process; it is 1 while a call computes, and what it was in taps
// and after. Results do not depend on n_threads. A call that fails or is interrupted inside a step
// leaves a stream that refuses every further step; only a failed look does no harm.
typedef struct facet_stream_opts {
    uint32_t n_threads;        // 0: the cores this process may use
    facet_precision precision; // of products with weights; attention and norms are F32
    const facet_alloc *alloc;
    const facet_report *report;
} facet_stream_opts;

// Embeds the samples (each is one sequence from position 0). `samples` is borrowed until free.
facet_status facet_stream_new(const facet_model *model, const facet_samples *samples,
                              const facet_stream_opts *opts, facet_stream **stream, facet_err *err);
void facet_stream_free(facet_stream *stream);
// A copy with its own residual stream at the same layer.
facet_status facet_stream_copy(const facet_stream *stream, facet_stream **copy, facet_err *err);

// From here on the stream computes with these vectors, and with the model's where they have none;
// with `answers_only` tokens of prompts (facet_samples_prompt) keep the model's. Borrowed until
// others are given or the stream is freed; copies made later have them too. NULL: the model's.
void facet_stream_own(facet_stream *stream, const facet_vectors *own, bool answers_only);
// Behind a layer: dense reads the prompts, so their tokens take its states x (n_tokens, d_model)
// behind the same layer.
void facet_stream_prompts(facet_stream *stream, const float *x);

uint32_t facet_stream_layer(const facet_stream *stream); // layers whose FFN is done
const float *facet_stream_x(const facet_stream *stream); // (n_tokens, d_model) residual stream

// The attention block of the next layer (norm, q/k/v, rope, attention, output, residual).
facet_status facet_stream_attn(facet_stream *stream, facet_err *err);
// The same, and keeps the rotated keys and the values of all prompts, one behind another, each
// (tokens of prompts, n_kv_heads * head_dim).
facet_status facet_stream_attn_keep(facet_stream *stream, float *keys, float *values,
                                    facet_err *err);

// Taps of the next layer's FFN, chunk by chunk; any pointer may be NULL in the tap's own interest.
typedef struct facet_ffn_chunk {
    uint64_t first;   // token index of row 0
    uint32_t n;       // rows
    const float *x;   // (n, d_model) normed input
    const float *z;   // (n, d_ff) act(x Wg) * (x Wu)
    const float *y;   // (n, d_model) z Wd, before any post norm
    const float *res; // (n, d_model) residual stream before the FFN is added
} facet_ffn_chunk;
typedef facet_status facet_ffn_tap(void *ctx, const facet_ffn_chunk *chunk, facet_err *err);

// The dense FFN of the next layer: calls `tap` (may be NULL), adds y, moves to the next layer.
facet_status facet_stream_ffn(facet_stream *stream, facet_ffn_tap *tap, void *ctx, facet_err *err);
// The same without moving on (look, then decide).
facet_status facet_stream_ffn_look(facet_stream *stream, facet_ffn_tap *tap, void *ctx,
                                   facet_err *err);
// A look at some channels only (ascending, n_kept): z is (n, n_kept), y is NULL.
facet_status facet_stream_ffn_look_kept(facet_stream *stream, const uint32_t *kept, uint32_t n_kept,
                                        facet_ffn_tap *tap, void *ctx, facet_err *err);
// Adds an output that the caller computed, y (n_tokens, d_model) before any post norm, which
// overwrites it, and moves to the next layer.
facet_status facet_stream_ffn_add(facet_stream *stream, float *y, facet_err *err);
// A pruned FFN: z of the kept channels (ascending, n_kept) times `down` (n_kept, d_model) plus
// `bias` (d_model) or NULL. down NULL: the model's own rows.
typedef struct facet_ffn_custom {
    const uint32_t *kept;
    uint32_t n_kept;
    const float *down; // (n_kept, d_model)
    const float *bias; // (d_model)
} facet_ffn_custom;
// FACET_BAD_INPUT unless `kept` is ascending below d_ff.
facet_status facet_ffn_custom_check(const facet_ffn_custom *custom, uint32_t d_ff, facet_err *err);
facet_status facet_stream_ffn_custom(facet_stream *stream, const facet_ffn_custom *custom,
                                     facet_err *err);

// The layer's down projection as floats, (d_ff, d_model): row j is channel j's contribution.
facet_status facet_stream_down(const facet_stream *stream, uint32_t layer, float *down,
                               facet_err *err);

// After the last layer. Sum of nats and count of scored tokens (facet_samples_scored);
// `per_sample` (n) may be NULL and receives each sample's sum.
facet_status facet_stream_nll(facet_stream *stream, double *nats, uint64_t *scored,
                              double *per_sample, facet_err *err);
// Highest-logit id after every token, lowest id on a tie: ids (n_tokens).
facet_status facet_stream_argmax(facet_stream *stream, uint32_t *ids, facet_err *err);
// The normed states that the head reads: hidden (n_tokens, d_model).
facet_status facet_stream_hidden(facet_stream *stream, float *hidden, facet_err *err);
// Logits (vocab) after token i.
facet_status facet_stream_logits(facet_stream *stream, uint64_t i, float *logits, facet_err *err);

#endif
