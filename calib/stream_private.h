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
    uint32_t layer;           // layers whose FFN is done
    bool attn_done;           // of the next layer
    bool failed; // stopped inside a layer: the residual stream is half of one, half of the next
    float *x;    // (n_tokens, d_model)
};

// A gain or a bias, or NULL where the model has none.
static inline const float *facet_stream_vector(const facet_stream *stream, facet_role role,
                                               uint32_t layer)
{
    const float *own = stream->own ? facet_vectors_get(stream->own, role, layer).data : NULL;
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
