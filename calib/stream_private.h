// SPDX-License-Identifier: Apache-2.0
// The inside of a facet_stream, shared by stream.c and stream_{attn,ffn,head}.c.
#ifndef FACET_CALIB_STREAM_PRIVATE_H
#define FACET_CALIB_STREAM_PRIVATE_H

#include "calib/engine.h"
#include "calib/stream.h"

struct facet_stream {
    facet_engine *engine; // counted
    const facet_samples *samples;
    const facet_vectors *own; // in place of the model's, or NULL
    bool own_answers;         // of answers only
    uint32_t layer;           // layers whose FFN is done
    bool attn_done;           // of the next layer
    bool failed; // stopped inside a layer: the residual stream is half of one, half of the next
    float *x;    // (n_tokens, d_model)
};

// Rows that are computed with the same vectors.
typedef struct facet_stream_run {
    uint32_t n;
    bool model; // the model's, not the stream's own
} facet_stream_run;
// The run that begins at a token, of at most n.
facet_stream_run facet_stream_run_at(const facet_stream *stream, uint64_t token, uint32_t n);

// A gain or a bias, or NULL where the model has none.
static inline const float *facet_stream_vector(const facet_stream *stream, bool of_model,
                                               facet_role role, uint32_t layer)
{
    const bool owns = stream->own && !of_model;
    const float *own = owns ? facet_vectors_get(stream->own, role, layer).data : NULL;
    return own ? own : facet_vectors_get(&stream->engine->vectors, role, layer).data;
}

// Refuses a stream that failed before, and steps in the wrong order.
typedef enum facet_stream_stage {
    FACET_STREAM_ATTN,
    FACET_STREAM_FFN,
    FACET_STREAM_HEAD
} facet_stream_stage;
facet_status facet_stream_expect(const facet_stream *stream, facet_stream_stage stage,
                                 facet_err *err);
// Reports `done` of the tokens of the stage that runs, and asks whether to stop.
facet_status facet_stream_progress(const facet_stream *stream, uint64_t done, facet_err *err);

#endif
