// SPDX-License-Identifier: Apache-2.0
// Requantised down projections: blocks say what `values` says, error feedback pays on correlated
// inputs, and the type is the smallest that is good enough.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "compiler/pack.h"
#include "compiler/quantize.h"
#include "model/dtype.h"
#include "tests/support/failing.h"

static float *normals(size_t n, double scale, uint64_t seed)
{
    facet_random random = facet_random_seed(seed);
    float *x = calloc(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(scale * facet_random_normal(&random));
    return x;
}

static void read_row(const facet_quantized *q, uint32_t row, float *dst)
{
    static const struct {
        facet_pack pack;
        facet_dtype dtype;
    } same[] = {
        {FACET_PACK_F32, FACET_DTYPE_F32},   {FACET_PACK_F16, FACET_DTYPE_F16},
        {FACET_PACK_BF16, FACET_DTYPE_BF16}, {FACET_PACK_Q4_0, FACET_DTYPE_Q4_0},
        {FACET_PACK_Q4_1, FACET_DTYPE_Q4_1}, {FACET_PACK_Q5_0, FACET_DTYPE_Q5_0},
        {FACET_PACK_Q5_1, FACET_DTYPE_Q5_1}, {FACET_PACK_Q8_0, FACET_DTYPE_Q8_0},
    };
    const uint8_t *blocks = q->blocks + row * q->row_bytes;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        if (same[i].pack == q->pack) facet_dequantize(same[i].dtype, blocks, q->n_cols, dst);
    if (q->pack != FACET_PACK_Q6_0) return;
    for (uint32_t j = 0; j < q->n_cols; j++) {
        facet_q6_0 block;
        memcpy(&block, blocks + j / 32 * sizeof block, sizeof block);
        dst[j] = facet_half_to_float(block.d) * (float)(block.q[j % 32] - 32);
    }
}

static double relative_error(const facet_quantized *q, const float *rows)
{
    double error = 0, size = 0;
    for (size_t i = 0; i < (size_t)q->n * q->d; i++) {
        const double e = (double)(q->values[i] - rows[i]);
        error += e * e;
        size += (double)rows[i] * (double)rows[i];
    }
    return sqrt(error / size);
}

static void test_blocks_say_the_values(void **state)
{
    (void)state;
    static const struct {
        facet_pack pack;
        double error; // of normal weights, relative
    } packs[] = {
        {FACET_PACK_F32, 0},      {FACET_PACK_F16, 4e-4},   {FACET_PACK_BF16, 3e-3},
        {FACET_PACK_Q4_0, 0.09},  {FACET_PACK_Q4_1, 0.085}, {FACET_PACK_Q5_0, 0.045},
        {FACET_PACK_Q5_1, 0.042}, {FACET_PACK_Q6_0, 0.022}, {FACET_PACK_Q8_0, 0.006},
    };
    const uint32_t n = 72, n_cols = 96, d = 40; // ragged: 24 columns of padding
    float *rows = normals((size_t)n * d, 0.1, 3), *dst = calloc(n_cols, sizeof *dst);
    const facet_quantize_problem problem = {n, n_cols, d, rows, NULL, NULL};
    for (size_t p = 0; p < sizeof packs / sizeof packs[0]; p++) {
        facet_quantized q;
        assert_int_equal(facet_quantize(&problem, packs[p].pack, &q, NULL), FACET_OK);
        for (uint32_t r = 0; r < d; r++) {
            read_row(&q, r, dst);
            for (uint32_t i = 0; i < n; i++)
                assert_true(fabsf(dst[i] - q.values[(size_t)i * d + r]) <= 1e-7f);
        }
        assert_true(relative_error(&q, rows) <= packs[p].error);
        facet_quantized_fini(&q);
    }
    facet_quantized q;
    facet_err err;
    assert_int_equal(facet_quantize(&problem, FACET_PACK_Q4_K, &q, &err), FACET_UNSUPPORTED);
    free(rows);
    free(dst);
}

static void test_zeros(void **state)
{
    (void)state;
    float rows[64 * 2] = {0};
    const facet_quantize_problem problem = {64, 64, 2, rows, NULL, NULL};
    for (uint32_t pack = FACET_PACK_Q4_0; pack <= FACET_PACK_Q8_0; pack++) {
        facet_quantized q;
        assert_int_equal(facet_quantize(&problem, (facet_pack)pack, &q, NULL), FACET_OK);
        assert_memory_equal(q.values, rows, sizeof rows);
        facet_quantized_fini(&q);
    }
}

// Moments of tokens whose channels share a few causes.
static void correlated(facet_moments *moments, uint32_t n, uint32_t d, const float *rows)
{
    enum { tokens = 600, causes = 6 };
    assert_int_equal(facet_moments_init(moments, n, d, NULL, NULL), FACET_OK);
    float *mix = normals((size_t)causes * n, 1, 21);
    facet_random random = facet_random_seed(22);
    float *z = calloc((size_t)tokens * (n + 1), sizeof *z);
    float *y = calloc((size_t)tokens * d, sizeof *y);
    for (uint32_t t = 0; t < tokens; t++) {
        float *row = z + (size_t)t * (n + 1);
        row[n] = 1;
        for (int c = 0; c < causes; c++) {
            const float cause = (float)facet_random_normal(&random);
            for (uint32_t i = 0; i < n; i++)
                row[i] += cause * mix[(size_t)c * n + i];
        }
        for (uint32_t i = 0; i < n; i++)
            row[i] += (float)(0.3 * facet_random_normal(&random));
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t r = 0; r < d; r++)
                y[(size_t)t * d + r] += row[i] * rows[(size_t)i * d + r];
    }
    const facet_moments_rows fit = {400, z, y};
    const facet_moments_rows judge = {200, z + (size_t)400 * (n + 1), y + (size_t)400 * d};
    facet_moments_add(moments, FACET_PART_FIT, &fit);
    facet_moments_add(moments, FACET_PART_JUDGE, &judge);
    moments->energy = moments->wanted[FACET_PART_JUDGE]; // the target is the layer's own output
    free(mix);
    free(z);
    free(y);
}

static double output_error(const facet_moments *moments, const facet_quantized *q)
{
    float *rows = calloc((size_t)moments->n * moments->d, sizeof *rows);
    float *scratch = calloc((size_t)moments->n * moments->d, sizeof *rows);
    memcpy(rows, q->values, (size_t)q->n * q->d * sizeof *rows);
    const double error = facet_moments_error(moments, FACET_PART_JUDGE, rows, scratch);
    free(rows);
    free(scratch);
    return error;
}

static void test_feedback_beats_rounding(void **state)
{
    (void)state;
    const uint32_t n = 128, d = 24;
    float *rows = normals((size_t)n * d, 0.1, 5);
    facet_moments moments;
    correlated(&moments, n, d, rows);
    float *feedback = NULL;
    assert_int_equal(facet_quantize_feedback(&moments, &feedback, NULL), FACET_OK);
    assert_non_null(feedback);
    facet_quantize_problem problem = {n, n, d, rows, NULL, NULL};
    for (uint32_t pack = FACET_PACK_Q4_0; pack <= FACET_PACK_Q8_0; pack++) {
        facet_quantized plain, fed;
        problem.feedback = NULL;
        assert_int_equal(facet_quantize(&problem, (facet_pack)pack, &plain, NULL), FACET_OK);
        problem.feedback = feedback;
        assert_int_equal(facet_quantize(&problem, (facet_pack)pack, &fed, NULL), FACET_OK);
        assert_true(output_error(&moments, &fed) < 0.4 * output_error(&moments, &plain));
        facet_quantized_fini(&plain);
        facet_quantized_fini(&fed);
    }
    facet_mem_free(NULL, feedback);
    facet_moments_fini(&moments);
    free(rows);
}

static void test_choice(void **state)
{
    (void)state;
    const uint32_t n = 128, d = 24;
    float *rows = normals((size_t)n * d, 0.1, 5);
    facet_moments moments;
    correlated(&moments, n, d, rows);
    const facet_quantize_problem problem = {n, n, d, rows, NULL, NULL};
    facet_pack sloppy = FACET_PACK_COUNT, exact = FACET_PACK_COUNT, again = FACET_PACK_Q4_0;
    const double energy = moments.energy;
    facet_quantize_choice large = {.moments = &moments, .error = 10 * energy};
    facet_quantize_choice none = {.moments = &moments, .error = 0};
    facet_quantized q;
    // A layer that is wrong anyway may be stored in few bits; an exact one may not.
    assert_int_equal(facet_quantize_best(&problem, &large, &sloppy, &q, NULL), FACET_OK);
    facet_quantized_fini(&q);
    assert_int_equal(facet_quantize_best(&problem, &none, &exact, &q, NULL), FACET_OK);
    assert_true(none.added <= 1e-4);
    assert_int_equal(q.pack, exact);
    facet_quantized_fini(&q);
    assert_int_equal(sloppy, FACET_PACK_Q4_0);
    assert_true(exact > sloppy);
    // The start changes the way, not the end.
    assert_int_equal(facet_quantize_best(&problem, &none, &again, &q, NULL), FACET_OK);
    assert_int_equal(again, exact);
    facet_quantized_fini(&q);
    // Without moments: eight bits.
    facet_quantize_choice blind = {0};
    assert_int_equal(facet_quantize_best(&problem, &blind, &again, &q, NULL), FACET_OK);
    assert_int_equal(q.pack, FACET_PACK_Q8_0);
    facet_quantized_fini(&q);
    facet_moments_fini(&moments);
    free(rows);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    float *rows = normals(64 * 8, 0.1, 9);
    facet_moments moments;
    correlated(&moments, 64, 8, rows);
    facet_status status = FACET_NO_MEMORY;
    for (long n = 1; status != FACET_OK; n++) {
        facet_failing failing;
        facet_failing_init(&failing, n);
        const facet_quantize_problem problem = {64, 64, 8, rows, NULL, &failing.alloc};
        facet_quantize_choice choice = {.moments = &moments, .error = 0};
        facet_pack start = FACET_PACK_COUNT;
        facet_quantized q;
        status = facet_quantize_best(&problem, &choice, &start, &q, NULL);
        if (status == FACET_OK)
            facet_quantized_fini(&q);
        else
            assert_int_equal(status, FACET_NO_MEMORY);
        assert_int_equal(failing.alive, 0);
    }
    facet_moments_fini(&moments);
    free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_say_the_values),   cmocka_unit_test(test_zeros),
        cmocka_unit_test(test_feedback_beats_rounding), cmocka_unit_test(test_choice),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
