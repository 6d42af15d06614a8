// SPDX-License-Identifier: Apache-2.0
// What a stream and its copies share: the model's vectors and matrices as floats, rotary tables,
// scratch memory and the threads. Private to calib/; one thread at a time uses an engine.
//
// Work is cut into items of a fixed size (rows of tokens, pairs of a sample and a head) that depend
// on the samples only, so that no result depends on the number of threads: calib/each.h.
#ifndef FACET_CALIB_ENGINE_H
#define FACET_CALIB_ENGINE_H

#include "base/memory.h"
#include "calib/each_rows.h"
#include "calib/stream.h"

#define FACET_ENGINE_VOCAB 4096u // rows of the head that are floats at a time
#define FACET_ENGINE_QUERY 128u  // queries that share one block of attention scores

// One matrix of a layer as floats. A slot keeps what it holds until another tensor is asked for, so
// that a look at a layer followed by its real pass dequantises once.
typedef struct facet_engine_slot {
    const facet_tensor *tensor;
    float *data; // (dims[1], dims[0]) of the tensor
    size_t n;
} facet_engine_slot;

typedef struct facet_engine {
    const facet_model *model;
    const facet_alloc *alloc;
    const facet_report *report;
    facet_pool *pool;
    uint32_t n_threads;
    facet_precision precision;
    uint32_t n_refs;       // streams that use it
    uint32_t unit;         // tokens of a work item
    uint64_t n_batch;      // most tokens of an attention batch: whole samples
    uint32_t longest;      // tokens of the longest sample
    facet_vectors vectors; // all of the model: they are small
    float *rotary[2];      // (longest, rope_dims / 2, 2) cos, sin: global and local layers
    facet_engine_slot slots[FACET_ROLE_COUNT];
    float *shared; // scratch of the phase that runs: attention's batch or the head's rows
    float *lanes;  // (n_threads, lane_floats) scratch of one thread or of one item
    size_t lane_floats;
} facet_engine;

facet_status facet_engine_new(const facet_model *model, const facet_samples *samples,
                              const facet_stream_opts *opts, facet_engine **engine, facet_err *err);
// Gives one reference back; the last one frees.
void facet_engine_release(facet_engine *engine);

// The matrix of a role as floats, (rows, cols); valid until the role is asked for another layer.
facet_status facet_engine_matrix(facet_engine *engine, facet_role role, uint32_t layer,
                                 const float **data, facet_err *err);
static inline float *facet_engine_lane(const facet_engine *engine, uint64_t i)
{
    return engine->lanes + (size_t)i * engine->lane_floats;
}

// dst = src / rms(src) * gain for n_rows rows of n; the sum of squares is a double. dst may be src.
void facet_rms_norm(float *dst, const float *src, const float *gain, uint32_t n_rows, uint32_t n,
                    float eps);
// c (m, n) = a (m, k) b, on the calling thread; b is (k, n), or transposed (n, k); any may be 0.
void facet_engine_product(const facet_engine *engine, const uint32_t mnk[3], const float *a,
                          const float *b, bool b_transposed, float *c);

#endif
