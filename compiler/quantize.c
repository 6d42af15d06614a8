// SPDX-License-Identifier: Apache-2.0
// Channels are rounded in the order they are stored, 32 at a time:
//
//     fit the block's scale -> round channel i -> spread its error over the block's later channels
//     -> after the block, over all later channels at once (one matrix product)
//
// with weights from the factor U of the inverse moments (the OBQ/GPTQ update). Rows are channels,
// so a channel is contiguous and every update is a BLAS call.
#include "compiler/quantize.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "compiler/pack.h"
#include "compiler/quantize_block.h"

enum { block = FACET_BLOCK };

void facet_quantized_fini(facet_quantized *quantized)
{
    facet_mem_free(quantized->alloc, quantized->blocks);
    facet_mem_free(quantized->alloc, quantized->values);
    *quantized = (facet_quantized){0};
}

uint32_t facet_quantize_block_bytes(facet_pack pack)
{
    return facet_pack_bytes(pack) / FACET_GROUP * (block / facet_pack_cols(pack));
}

static facet_status quantized_init(const facet_quantize_problem *p, facet_pack pack,
                                   facet_quantized *out, facet_err *err)
{
    *out = (facet_quantized){
        .alloc = p->alloc, .pack = pack, .n = p->n, .n_cols = p->n_cols, .d = p->d};
    const uint32_t block_bytes =
        facet_block_known(pack) ? facet_block_bytes(pack) : facet_quantize_block_bytes(pack);
    out->row_bytes = (size_t)(p->n_cols / block) * block_bytes;
    out->blocks = facet_mem_new(p->alloc, p->d, out->row_bytes);
    out->values = facet_mem_new(p->alloc, p->n, p->d * sizeof(float));
    if (out->blocks && out->values) return FACET_OK;
    facet_quantized_fini(out);
    return facet_fail_memory(err, p->d * out->row_bytes);
}

// ---- float types --------------------------------------------------------------------------------

static uint16_t float_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static void store_float(const facet_quantize_problem *p, facet_quantized *out)
{
    for (uint32_t r = 0; r < p->d; r++) {
        uint8_t *row = out->blocks + r * out->row_bytes;
        for (uint32_t i = 0; i < p->n; i++) {
            const size_t at = (size_t)i * p->d + r;
            float value = p->rows[at];
            if (out->pack == FACET_PACK_F32) {
                memcpy(row + 4 * (size_t)i, &value, 4);
            } else {
                const bool half = out->pack == FACET_PACK_F16;
                const uint16_t bits = half ? facet_float_to_half(value) : float_to_bf16(value);
                memcpy(row + 2 * (size_t)i, &bits, 2);
                value = half ? facet_half_to_float(bits) : facet_bf16_to_float(bits);
            }
            out->values[at] = value;
        }
    }
}

// ---- blocks -------------------------------------------------------------------------------------

typedef struct work {
    const facet_quantize_problem *problem;
    facet_quantized *out;
    float *rows;               // (n, d) what is left to round, errors included
    float *errors;             // (block, d)
    facet_block_scale *scales; // (d)
    uint8_t *codes;            // (d, block)
} work;

static void fit_scales(work *w, uint32_t first, uint32_t n)
{
    const uint32_t d = w->problem->d;
    for (uint32_t r = 0; r < d; r++) {
        float x[block] = {0};
        for (uint32_t i = 0; i < n; i++)
            x[i] = w->rows[(size_t)(first + i) * d + r];
        w->scales[r] = facet_block_fit(w->out->pack, x);
    }
}

// Rounds channel first + i and leaves its scaled error in errors[i].
static void round_channel(work *w, uint32_t first, uint32_t i, float pivot)
{
    const uint32_t d = w->problem->d;
    const float *row = w->rows + (size_t)(first + i) * d;
    float *values = w->out->values + (size_t)(first + i) * d;
    float *errors = w->errors + (size_t)i * d;
    for (uint32_t r = 0; r < d; r++) {
        const uint8_t code = facet_block_code(w->out->pack, &w->scales[r], row[r]);
        w->codes[(size_t)r * block + i] = code;
        values[r] = facet_block_value(w->out->pack, &w->scales[r], code);
        errors[r] = (row[r] - values[r]) / pivot;
    }
}

static void round_block(work *w, uint32_t first)
{
    const facet_quantize_problem *p = w->problem;
    const uint32_t n = p->n, d = p->d;
    const uint32_t in_block = first >= n ? 0 : n - first < block ? n - first : block;
    fit_scales(w, first, in_block);
    // Columns past the last channel hold the code of zero: they multiply zeros, but stay small.
    for (uint32_t r = 0; r < d; r++)
        for (uint32_t i = in_block; i < block; i++)
            w->codes[(size_t)r * block + i] = facet_block_code(w->out->pack, &w->scales[r], 0);
    for (uint32_t i = 0; i < in_block; i++) {
        const uint32_t row = first + i;
        const float *u = p->feedback;
        round_channel(w, first, i, u ? u[(size_t)row * n + row] : 1.0f);
        for (uint32_t j = i + 1; u && j < in_block; j++)
            cblas_saxpy((int)d, -u[(size_t)(first + j) * n + row], w->errors + (size_t)i * d, 1,
                        w->rows + (size_t)(first + j) * d, 1);
    }
    const uint32_t next = first + in_block;
    if (p->feedback && next < n)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)(n - next), (int)d,
                    (int)in_block, -1.0f, p->feedback + (size_t)next * n + first, (int)n, w->errors,
                    (int)d, 1.0f, w->rows + (size_t)next * d, (int)d);
    const uint32_t bytes = facet_block_bytes(w->out->pack);
    for (uint32_t r = 0; r < d; r++)
        facet_block_write(w->out->pack, &w->scales[r], w->codes + (size_t)r * block,
                          w->out->blocks + r * w->out->row_bytes + (size_t)(first / block) * bytes);
}

static facet_status store_blocks(const facet_quantize_problem *p, facet_quantized *out,
                                 facet_err *err)
{
    const facet_alloc *alloc = p->alloc;
    work w = {.problem = p, .out = out};
    w.rows = facet_mem_new(alloc, p->n, p->d * sizeof(float));
    w.errors = facet_mem_new(alloc, block, p->d * sizeof(float));
    w.scales = facet_mem_new(alloc, p->d, sizeof *w.scales);
    w.codes = facet_mem_new(alloc, p->d, block);
    facet_status status = FACET_OK;
    if (w.rows && w.errors && w.scales && w.codes) {
        memcpy(w.rows, p->rows, (size_t)p->n * p->d * sizeof(float));
        for (uint32_t first = 0; first < p->n_cols; first += block)
            round_block(&w, first);
    } else {
        status = facet_fail_memory(err, (size_t)p->n * p->d * sizeof(float));
    }
    facet_mem_free(alloc, w.rows);
    facet_mem_free(alloc, w.errors);
    facet_mem_free(alloc, w.scales);
    facet_mem_free(alloc, w.codes);
    return status;
}

facet_status facet_quantize(const facet_quantize_problem *problem, facet_pack pack,
                            facet_quantized *out, facet_err *err)
{
    const bool blocks = facet_block_known(pack);
    if (!blocks && pack != FACET_PACK_F32 && pack != FACET_PACK_F16 && pack != FACET_PACK_BF16)
        return facet_fail(err, FACET_UNSUPPORTED,
                          "a family's down projection cannot be stored as %s; use a type of 32 "
                          "columns",
                          facet_pack_name(pack));
    facet_quantized made;
    FACET_TRY(quantized_init(problem, pack, &made, err));
    facet_status status = FACET_OK;
    if (blocks)
        status = store_blocks(problem, &made, err);
    else
        store_float(problem, &made);
    if (status == FACET_OK)
        *out = made;
    else
        facet_quantized_fini(&made);
    return status;
}

// ---- error feedback -----------------------------------------------------------------------------

// (C + damping * mean diagonal)^-1 = U^T U. Float is enough: the damping bounds the condition.
static bool factorise(const facet_moments *moments, double damping, float *h)
{
    const size_t n_all = moments->n, n = n_all - 1;
    double mean = 0;
    for (size_t i = 0; i < n; i++)
        mean += (double)moments->c[FACET_PART_FIT][i * n_all + i];
    mean /= (double)n;
    for (size_t i = 0; i < n; i++) {
        memcpy(h + i * n, moments->c[FACET_PART_FIT] + i * n_all, n * sizeof *h);
        h[i * n + i] += (float)(damping * mean);
    }
    const lapack_int size = (lapack_int)n;
    // Rows' upper triangle is columns' lower one.
    if (LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'L', size, h, size) != 0) return false;
    if (LAPACKE_spotri_work(LAPACK_COL_MAJOR, 'L', size, h, size) != 0) return false;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            h[i * n + j] = h[j * n + i];
    if (LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'U', size, h, size) != 0) return false;
    for (size_t i = 0; i < n; i++)
        if (!(h[i * n + i] > 0) || isinf(h[i * n + i])) return false;
    return true;
}

facet_status facet_quantize_feedback(const facet_moments *moments, float **factor, facet_err *err)
{
    *factor = NULL;
    const size_t n = moments->n - 1;
    if (moments->tokens[FACET_PART_FIT] == 0 || n == 0) return FACET_OK;
    float *h = facet_mem_new(moments->alloc, n, n * sizeof *h);
    if (!h) return facet_fail_memory(err, n * n * sizeof *h);
    for (double damping = 0.01; damping < 20; damping *= 10) {
        if (!factorise(moments, damping, h)) continue;
        *factor = h;
        return FACET_OK;
    }
    facet_mem_free(moments->alloc, h); // all-zero activations: nothing to feed back
    return FACET_OK;
}

// ---- choice of the type -------------------------------------------------------------------------

static const facet_pack sizes[] = {FACET_PACK_Q4_0, FACET_PACK_Q4_1, FACET_PACK_Q5_0,
                                   FACET_PACK_Q5_1, FACET_PACK_Q6_0, FACET_PACK_Q8_0};
enum { n_sizes = sizeof sizes / sizeof sizes[0], six_bits = 4, eight_bits = 5 };
static const double own_share = 0.0015, energy_share = 1e-4;

static facet_status measure(const facet_quantize_problem *p, const facet_moments *moments,
                            const facet_quantized *q, double *added, facet_err *err)
{
    const size_t cells = (size_t)moments->n * p->d;
    float *change = facet_mem_new(p->alloc, cells, sizeof *change);
    float *scratch = facet_mem_new(p->alloc, cells, sizeof *scratch);
    facet_status status = FACET_OK;
    if (change && scratch) {
        for (size_t i = 0; i < (size_t)p->n * p->d; i++)
            change[i] = q->values[i] - p->rows[i];
        *added = facet_moments_size(moments, FACET_PART_JUDGE, change, scratch);
    } else {
        status = facet_fail_memory(err, cells * sizeof *change);
    }
    facet_mem_free(p->alloc, change);
    facet_mem_free(p->alloc, scratch);
    return status;
}

// Tries one size; a good one replaces *out.
static facet_status try_size(const facet_quantize_problem *p, facet_quantize_choice *choice, int at,
                             bool *good, facet_quantized *out, facet_err *err)
{
    facet_quantized made;
    double added = 0;
    FACET_TRY(facet_quantize(p, sizes[at], &made, err));
    const facet_status status = measure(p, choice->moments, &made, &added, err);
    if (status != FACET_OK) {
        facet_quantized_fini(&made);
        return status;
    }
    const double energy = choice->moments->energy;
    *good = added <= fmax(own_share * choice->error, energy_share * energy) || at == n_sizes - 1;
    if (*good) {
        facet_quantized_fini(out);
        *out = made;
        choice->added = energy > 0 ? added / energy : 0;
    } else {
        facet_quantized_fini(&made);
    }
    return FACET_OK;
}

facet_status facet_quantize_best(const facet_quantize_problem *problem,
                                 facet_quantize_choice *choice, facet_pack *start,
                                 facet_quantized *out, facet_err *err)
{
    choice->added = 0;
    if (!choice->moments || choice->moments->tokens[FACET_PART_JUDGE] == 0)
        return facet_quantize(problem, sizes[eight_bits], out, err);
    const int least = choice->only_8bit ? eight_bits : 0;
    int at = least > six_bits ? least : six_bits;
    for (int i = least; i < n_sizes; i++)
        if (sizes[i] == *start) at = i;
    facet_quantized best = {0};
    bool good = false;
    facet_status status = try_size(problem, choice, at, &good, &best, err);
    // Downwards as long as it stays good; else upwards until it is.
    const int step = good ? -1 : 1;
    while (status == FACET_OK && at + step >= least && at + step < n_sizes) {
        const bool was_good = good;
        status = try_size(problem, choice, at + step, &good, &best, err);
        if (status != FACET_OK) break;
        if (step < 0 && !good) break;
        at += step;
        if (step > 0 && good && !was_good) break;
    }
    if (status == FACET_OK) {
        *start = sizes[at];
        *out = best;
    } else {
        facet_quantized_fini(&best);
    }
    return status;
}
