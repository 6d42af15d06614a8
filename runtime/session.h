// SPDX-License-Identifier: Apache-2.0
// A session, private to runtime/. In: tokens of its sequences. Out: logits. It owns a KV cache of
// each sequence and all scratch, allocated once in facet_session_new; session.c makes it, forward.c
// runs it, sample.c draws.
#ifndef FACET_RUNTIME_SESSION_H
#define FACET_RUNTIME_SESSION_H

#include <assert.h>

#include "base/threads.h"
#include "runtime/bundle.h"

// Tokens that go through a layer together in a prefill: enough to read weights rarely, few enough
// that the quantised activations of the widest layer stay in a second-level cache.
#define FACET_CHUNK 64u
static_assert(FACET_SEQUENCES_MAX <= FACET_CHUNK, "a batch goes through a layer at once");

struct facet_session {
    facet_bundle *bundle;
    const facet_alloc *alloc;
    facet_pool *pool;
    uint32_t n_threads, n_ctx, n_sequences;
    uint32_t current; // the sequence that calls without a list of sequences mean
    uint32_t family;  // index
    bool prefill_dense;
    void *block;          // all buffers below lie in it
    facet_kv *caches;     // (n_sequences)
    uint32_t *lengths;    // (n_sequences) tokens in the context of each
    facet_kv *kv;         // (FACET_CHUNK) cache of each row's sequence
    uint32_t *pos;        // (FACET_CHUNK)
    float *rope[2];       // (FACET_CHUNK, rope_dims / 2, 2)
    double *rope_freq[2]; // (rope_dims / 2) radians a position
    facet_lane shared;    // (FACET_CHUNK rows) without scratch
    facet_lane *own;      // (n_threads) one row each, with scratch
    float *q, *attn, *y, *z;
    int8_t *zq;
    float *zs;
    int32_t *zsum;
    float *logits;   // (n_sequences, n_vocab)
    uint32_t *order; // (n_vocab) scratch of the sampler
    float *weights;  // (n_vocab) scratch of the sampler
    double *stats;   // (n_layers, d_ff) sums of channel statistics; NULL: nobody asked for them
    double *stats_weights; // (FACET_CHUNK) of the chunk's tokens in the layer that runs
};

// FACET_BAD_INPUT unless the session has this sequence (session.c).
facet_status facet_session_check(const facet_session *session, uint32_t sequence, facet_err *err);

// Draws from logits (vocab); no allocation (sample.c). FACET_BAD_TENSOR if they are not finite.
facet_status facet_draw(facet_session *session, const float *logits, facet_sampler *sampler,
                        uint32_t *id, facet_err *err);

// Channel statistics of a layer whose z is complete (stats.c): first the weight of each token,
// then, behind a barrier, the sums of each channel.
void facet_session_stats_weigh(facet_session *session, const facet_step *step, uint32_t layer,
                               facet_range tokens);
void facet_session_stats_add(facet_session *session, const facet_step *step, uint32_t layer,
                             facet_range channels);

#endif
