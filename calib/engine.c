// SPDX-License-Identifier: Apache-2.0
#include "calib/engine.h"

#include <math.h>
#include <string.h>

#include "calib/rotary.h"

// Tokens of an attention batch, unless one sample is longer: enough to keep products large.
#define BATCH_TOKENS 2048u

// A large item wastes less on packing the weights anew, a small one spreads few tokens over
// threads.
static uint32_t unit_for(uint64_t n_tokens)
{
    if (n_tokens >= 8192) return 512;
    if (n_tokens >= 2048) return 256;
    return n_tokens >= 512 ? 128 : 64;
}

// a * b + c * d for scratch sizes; the shapes come from a file, so the products are checked.
static bool add_product(size_t *sum, size_t a, size_t b)
{
    size_t product;
    return facet_mul_size(a, b, &product) && facet_add_size(*sum, product, sum);
}

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

// Floats of the scratch buffers: phases never overlap, so each buffer has the size of its largest.
//   shared   attention: q, k, v of a batch     head: FACET_ENGINE_VOCAB rows of the matrix
//   lane     attention: xn or y of an item, or scores     ffn: x, z, u, y     head: x, logits
static facet_status scratch_new(facet_engine *engine, facet_err *err)
{
    const facet_hparams *hp = &engine->model->hp;
    const size_t d = hp->d_model, unit = engine->unit;
    size_t heads = 0, shared = 0, rows = 0, lane = 0, scores = 0, ffn = 0, head = 0;
    bool fits = add_product(&heads, (size_t)hp->n_heads + 2 * (size_t)hp->n_kv_heads, hp->head_dim);
    fits = fits && add_product(&shared, heads, (size_t)engine->n_batch);
    fits = fits && add_product(&rows, FACET_ENGINE_VOCAB, d);
    fits = fits && add_product(&lane, unit, d);
    fits = fits && add_product(&scores, FACET_ENGINE_QUERY, engine->longest);
    fits = fits && add_product(&ffn, 2 * unit, d) && add_product(&ffn, 2 * unit, hp->d_ff);
    fits = fits && add_product(&head, unit, d + FACET_ENGINE_VOCAB);
    if (!fits) return facet_fail_memory(err, SIZE_MAX);
    // Lanes start on cache lines of their own.
    lane = max_size(max_size(lane, scores), max_size(ffn, head));
    engine->lane_floats = (lane + 15) & ~(size_t)15;
    shared = max_size(shared, rows);
    engine->shared = facet_mem_new_aligned(engine->alloc, shared, sizeof(float));
    if (!engine->shared) return facet_fail_memory(err, shared * sizeof(float));
    size_t lanes;
    if (!facet_mul_size(engine->lane_floats, engine->n_threads, &lanes))
        return facet_fail_memory(err, SIZE_MAX);
    engine->lanes = facet_mem_new_aligned(engine->alloc, lanes, sizeof(float));
    if (!engine->lanes) return facet_fail_memory(err, lanes * sizeof(float));
    return FACET_OK;
}

static facet_status rotary_new(facet_engine *engine, facet_err *err)
{
    const size_t row = (size_t)engine->model->hp.rope_dims / 2 * 2;
    if (engine->model->hp.rotary == FACET_ROTARY_NONE) return FACET_OK;
    for (int local = 0; local < 2; local++) {
        engine->rotary[local] =
            facet_mem_new_aligned(engine->alloc, engine->longest, row * sizeof(float));
        if (!engine->rotary[local])
            return facet_fail_memory(err, engine->longest * row * sizeof(float));
        facet_rotary_fill(&engine->model->hp, engine->model->rope_factors, local != 0,
                          engine->longest, engine->rotary[local]);
    }
    return FACET_OK;
}

static void engine_free(facet_engine *engine)
{
    const facet_alloc *alloc = engine->alloc;
    for (int role = 0; role < FACET_ROLE_COUNT; role++)
        facet_mem_free_aligned(alloc, engine->slots[role].data);
    facet_mem_free_aligned(alloc, engine->rotary[0]);
    facet_mem_free_aligned(alloc, engine->rotary[1]);
    facet_mem_free_aligned(alloc, engine->shared);
    facet_mem_free_aligned(alloc, engine->lanes);
    facet_vectors_fini(&engine->vectors);
    facet_pool_free(engine->pool);
    facet_mem_free(alloc, engine);
}

facet_status facet_engine_new(const facet_model *model, const facet_samples *samples,
                              const facet_stream_opts *opts, facet_engine **out, facet_err *err)
{
    const facet_alloc *alloc = opts->alloc;
    facet_engine *engine = facet_mem_new(alloc, 1, sizeof *engine);
    if (!engine) return facet_fail_memory(err, sizeof *engine);
    engine->model = model;
    engine->alloc = alloc;
    engine->report = opts->report;
    engine->precision = opts->precision;
    engine->n_threads = opts->n_threads ? opts->n_threads : facet_cores();
    engine->n_refs = 1;
    engine->unit = unit_for(samples->n_tokens);
    for (uint32_t i = 0; i < samples->n; i++)
        if (samples->lengths[i] > engine->longest) engine->longest = samples->lengths[i];
    engine->n_batch = engine->longest > BATCH_TOKENS ? engine->longest : BATCH_TOKENS;
    if (engine->n_batch > samples->n_tokens) engine->n_batch = samples->n_tokens;

    facet_status status;
    FACET_TRY_GOTO(facet_pool_new(engine->n_threads, alloc, &engine->pool, err), done);
    FACET_TRY_GOTO(facet_vectors_init(&engine->vectors, model, FACET_ROLES_VECTOR, alloc, err),
                   done);
    FACET_TRY_GOTO(rotary_new(engine, err), done);
    FACET_TRY_GOTO(scratch_new(engine, err), done);
    *out = engine;
    return FACET_OK;
done:
    engine_free(engine);
    return status;
}

void facet_engine_release(facet_engine *engine)
{
    if (engine && --engine->n_refs == 0) engine_free(engine);
}

facet_status facet_engine_matrix(facet_engine *engine, facet_role role, uint32_t layer,
                                 const float **data, facet_err *err)
{
    const facet_tensor *tensor = facet_model_tensor(engine->model, role, layer);
    facet_engine_slot *slot = &engine->slots[role];
    if (!tensor)
        return facet_fail_at(err, FACET_BAD_TENSOR, engine->model->path, -1,
                             "layer %u: a weight matrix is missing; use a complete model",
                             (unsigned)layer);
    if (slot->tensor != tensor) {
        size_t n;
        if (!facet_mul_size((size_t)tensor->dims[0], (size_t)tensor->dims[1], &n))
            return facet_fail_memory(err, SIZE_MAX);
        if (n > slot->n) {
            facet_mem_free_aligned(engine->alloc, slot->data);
            *slot = (facet_engine_slot){0};
            slot->data = facet_mem_new_aligned(engine->alloc, n, sizeof(float));
            if (!slot->data) return facet_fail_memory(err, n * sizeof(float));
            slot->n = n;
        }
        facet_each_rows(engine->pool, tensor, 0, tensor->dims[1], slot->data);
        slot->tensor = tensor;
    }
    *data = slot->data;
    return FACET_OK;
}

void facet_rms_norm(float *dst, const float *src, const float *gain, uint32_t n_rows, uint32_t n,
                    float eps)
{
    for (uint32_t r = 0; r < n_rows; r++, src += n, dst += n) {
        double sum = 0;
        for (uint32_t j = 0; j < n; j++)
            sum += (double)src[j] * (double)src[j];
        const float scale = (float)(1.0 / sqrt(sum / n + (double)eps));
        for (uint32_t j = 0; j < n; j++)
            dst[j] = src[j] * scale * gain[j];
    }
}

void facet_engine_product(const facet_engine *engine, const uint32_t mnk[3], const float *a,
                          const float *b, bool b_transposed, float *c)
{
    const size_t m = mnk[0], n = mnk[1], k = mnk[2];
    const facet_gemm gemm = {.b_transposed = b_transposed,
                             .m = m,
                             .n = n,
                             .k = k,
                             .alpha = 1,
                             .a = a,
                             .b = b,
                             .c = c,
                             .stride_a = k,
                             .stride_b = b_transposed ? k : n,
                             .stride_c = n};
    facet_gemm_run(&gemm, engine->precision);
}
