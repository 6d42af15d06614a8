// SPDX-License-Identifier: Apache-2.0
// Making, switching and freeing a session. Every buffer lies in one block that is laid out twice:
// once to learn its size, once to place the pointers.
#include "runtime/session.h"

#include <math.h>
#include <string.h>

#include "runtime/eval.h"

typedef struct carve {
    char *base; // NULL while measuring
    size_t used;
    bool overflow;
} carve;

// n objects at a multiple of 64 bytes, so that no two threads' buffers share a cache line.
static void *take(carve *c, size_t n, size_t size)
{
    size_t bytes = 0, end = 0;
    if (!facet_mul_size(n, size, &bytes) || bytes > SIZE_MAX - 63 ||
        !facet_add_size(c->used, (bytes + 63) / 64 * 64, &end)) {
        c->overflow = true;
        return NULL;
    }
    void *place = c->base ? c->base + c->used : NULL;
    c->used = end;
    return place;
}

// Widths of the buffers in columns, rounded up to 32.
typedef struct widths {
    size_t model, lane;
} widths;

static void take_lane(carve *c, const widths *w, size_t rows, facet_lane *lane)
{
    lane->x = take(c, rows * w->model, sizeof(float));
    lane->xn = take(c, rows * w->lane, sizeof(float));
    lane->aq = take(c, rows * w->lane, 1);
    lane->as = take(c, rows * (w->lane / FACET_BLOCK) * 2, sizeof(float));
    lane->asum = take(c, rows * (w->lane / FACET_BLOCK) * 2, sizeof(int32_t));
}

static void take_caches(facet_session *s, carve *c)
{
    const facet_shape *shape = &s->bundle->shape;
    size_t cache = 0;
    if (!facet_mul_size((size_t)shape->n_layers * shape->n_kv_heads, s->n_ctx, &cache) ||
        !facet_mul_size(cache, shape->head_dim, &cache))
        c->overflow = true;
    s->caches = take(c, s->n_sequences, sizeof(facet_kv));
    s->lengths = take(c, s->n_sequences, sizeof(uint32_t));
    for (uint32_t i = 0; i < s->n_sequences; i++) {
        uint16_t *k = take(c, cache, sizeof(uint16_t)), *v = take(c, cache, sizeof(uint16_t));
        if (c->base) s->caches[i] = (facet_kv){k, v, s->n_ctx};
    }
}

static void lay_out(facet_session *s, carve *c)
{
    const facet_shape *shape = &s->bundle->shape;
    const size_t q_dim = (size_t)shape->n_heads * shape->head_dim;
    const size_t half = shape->rope_dims / 2, z = s->bundle->max_down_cols;
    widths w = {facet_round32(shape->d_model), facet_round32((uint32_t)q_dim)};
    if (w.model > w.lane) w.lane = w.model;
    if (z > w.lane) w.lane = z;
    take_caches(s, c);
    s->kv = take(c, FACET_CHUNK, sizeof(facet_kv));
    s->pos = take(c, FACET_CHUNK, sizeof(uint32_t));
    s->q = take(c, FACET_CHUNK * q_dim, sizeof(float));
    s->attn = take(c, FACET_CHUNK * q_dim, sizeof(float));
    s->y = take(c, FACET_CHUNK * (size_t)shape->d_model, sizeof(float));
    s->z = take(c, FACET_CHUNK * z, sizeof(float));
    s->zq = take(c, FACET_CHUNK * z, 1);
    s->zs = take(c, FACET_CHUNK * (z / FACET_BLOCK) * 2, sizeof(float));
    s->zsum = take(c, FACET_CHUNK * (z / FACET_BLOCK) * 2, sizeof(int32_t));
    for (uint32_t i = 0; i < 2; i++) {
        s->rope[i] = take(c, FACET_CHUNK * half * 2, sizeof(float));
        s->rope_freq[i] = take(c, half, sizeof(double));
    }
    s->logits = take(c, (size_t)s->n_sequences * shape->n_vocab, sizeof(float));
    s->order = take(c, shape->n_vocab, sizeof(uint32_t));
    s->weights = take(c, shape->n_vocab, sizeof(float));
    take_lane(c, &w, FACET_CHUNK, &s->shared);
    s->own = take(c, s->n_threads, sizeof(facet_lane));
    for (uint32_t t = 0; t < s->n_threads; t++) {
        facet_lane lane = {0};
        take_lane(c, &w, 1, &lane);
        lane.scratch = take(c, facet_round32(s->n_ctx + shape->head_dim), sizeof(float));
        if (c->base) s->own[t] = lane;
    }
}

// Layers without a window use base and factors and divide positions by the scale; layers with one
// use the local base alone.
static void set_frequencies(facet_session *s)
{
    const facet_manifest_model *m = &s->bundle->manifest.model;
    const float *factors = s->bundle->rope_factors;
    for (uint32_t i = 0; i < m->rope_dims / 2; i++) {
        const double exponent = -2.0 * i / m->rope_dims;
        s->rope_freq[0][i] = pow(m->rope_base, exponent) / m->rope_scale;
        if (factors) s->rope_freq[0][i] /= (double)factors[i];
        s->rope_freq[1][i] = pow(m->rope_base_local, exponent);
    }
}

static facet_status find_family(const facet_bundle *bundle, const char *name, uint32_t *index,
                                facet_err *err)
{
    for (uint32_t i = 0; i < bundle->manifest.n_families; i++) {
        if (strcmp(bundle->manifest.families[i].name, name) != 0) continue;
        *index = i;
        return FACET_OK;
    }
    return facet_fail_at(err, FACET_NOT_FOUND, bundle->path, -1,
                         "family %.64s: the bundle %s has none of that name; facet inspect lists "
                         "them",
                         name, bundle->path);
}

static facet_status set_options(facet_session *s, const char *family,
                                const facet_session_opts *opts, facet_err *err)
{
    const uint32_t model_ctx = s->bundle->manifest.model.n_ctx;
    FACET_TRY(find_family(s->bundle, family ? family : "dense", &s->family, err));
    s->n_ctx = opts->n_ctx ? opts->n_ctx : model_ctx < 4096 ? model_ctx : 4096;
    if (s->n_ctx > model_ctx)
        return facet_fail(err, FACET_BAD_INPUT,
                          "context: %u tokens are more than the model's %u; choose fewer", s->n_ctx,
                          model_ctx);
    s->n_sequences = opts->n_sequences ? opts->n_sequences : 1;
    if (s->n_sequences > FACET_SEQUENCES_MAX)
        return facet_fail(err, FACET_BAD_INPUT,
                          "sequences: %u are more than a session holds, %u; choose fewer",
                          s->n_sequences, FACET_SEQUENCES_MAX);
    if (opts->prefill && strcmp(opts->prefill, "dense") == 0)
        s->prefill_dense = true;
    else if (opts->prefill && strcmp(opts->prefill, "family") != 0)
        return facet_fail(err, FACET_BAD_INPUT,
                          "prefill %.64s: it is \"family\" or \"dense\"; choose one",
                          opts->prefill);
    s->n_threads = opts->n_threads ? opts->n_threads : s->bundle->n_threads;
    if (s->n_threads == 0) s->n_threads = facet_cores();
    return FACET_OK;
}

static facet_status build(facet_session *s, const char *family, const facet_session_opts *opts,
                          facet_err *err)
{
    FACET_TRY(set_options(s, family, opts, err));
    // The pool first: it bounds the number of threads, which the buffers are counted by.
    FACET_TRY(facet_pool_new(s->n_threads, s->alloc, &s->pool, err));
    carve measure = {0};
    lay_out(s, &measure);
    s->block = measure.overflow ? NULL : facet_mem_new_aligned(s->alloc, measure.used, 1);
    if (!s->block) return facet_fail_memory(err, measure.used);
    carve place = {.base = s->block};
    lay_out(s, &place);
    set_frequencies(s);
    return FACET_OK;
}

facet_status facet_session_new(facet_bundle *bundle, const char *family,
                               const facet_session_opts *opts, facet_session **out, facet_err *err)
{
    static const facet_session_opts defaults = {0};
    facet_session *s = facet_mem_new(bundle->alloc, 1, sizeof *s);
    if (!s) return facet_fail_memory(err, sizeof *s);
    s->bundle = bundle;
    s->alloc = bundle->alloc;
    const facet_status status = build(s, family, opts ? opts : &defaults, err);
    if (status != FACET_OK) {
        facet_session_free(s);
        return status;
    }
    *out = s;
    return FACET_OK;
}

void facet_session_free(facet_session *session)
{
    if (!session) return;
    facet_pool_free(session->pool);
    facet_session_stats_end(session);
    facet_mem_free_aligned(session->alloc, session->block);
    facet_mem_free(session->alloc, session);
}

facet_status facet_session_family(facet_session *session, const char *family, facet_err *err)
{
    return find_family(session->bundle, family, &session->family, err);
}

facet_status facet_session_check(const facet_session *session, uint32_t sequence, facet_err *err)
{
    if (sequence < session->n_sequences) return FACET_OK;
    return facet_fail(err, FACET_BAD_INPUT,
                      "sequence %u: the session has %u, counted from 0; name one of them", sequence,
                      session->n_sequences);
}

facet_status facet_session_select(facet_session *session, uint32_t sequence, facet_err *err)
{
    FACET_TRY(facet_session_check(session, sequence, err));
    session->current = sequence;
    return FACET_OK;
}

facet_status facet_session_rewind(facet_session *session, uint32_t n, facet_err *err)
{
    uint32_t *length = &session->lengths[session->current];
    if (n > *length)
        return facet_fail(err, FACET_BAD_INPUT,
                          "rewind: the context has %u tokens, not %u; name an earlier position",
                          *length, n);
    *length = n;
    return FACET_OK;
}

uint32_t facet_session_length(const facet_session *session)
{
    return session->lengths[session->current];
}

uint32_t facet_session_threads(const facet_session *session)
{
    return session->n_threads;
}
