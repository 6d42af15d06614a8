// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "calib/stream.h"
#include "predict/predict.h"
#include "tests/support/failing.h"
#include "tests/support/memory_model.h"

enum { L = 3, D = 40, F = 72, N = 5, TOKENS = 100 };

static uint32_t tokens[TOKENS];
static uint32_t lengths[N] = {0, 40, 1, 0, 59};
static const facet_samples samples = {
    .tokens = tokens, .lengths = lengths, .n = N, .n_tokens = TOKENS};
static float scores[N * L * F];

static float score_of(const float *all, size_t sample, size_t layer, size_t channel)
{
    return all[(sample * L + layer) * F + channel];
}

static void predict(const facet_model *model, facet_predictor predictor, uint64_t seed, float *out)
{
    const facet_predict_opts opts = {.predictor = predictor, .seed = seed, .n_threads = 2};
    facet_err err;
    assert_int_equal(facet_predict(model, &samples, &opts, out, &err), FACET_OK);
}

// z of every token of one layer, by the float32 model itself.
static facet_status keep_z(void *ctx, const facet_ffn_chunk *chunk, facet_err *err)
{
    (void)err;
    memcpy((float *)ctx + chunk->first * F, chunk->z, (size_t)chunk->n * F * sizeof(float));
    return FACET_OK;
}

static float *z_of_layer(const facet_model *model, uint32_t layer, float *down)
{
    float *z = malloc(TOKENS * F * sizeof *z);
    facet_stream *stream = NULL;
    assert_int_equal(facet_stream_new(model, &samples, NULL, &stream, NULL), FACET_OK);
    for (uint32_t l = 0; l <= layer; l++) {
        assert_int_equal(facet_stream_attn(stream, NULL), FACET_OK);
        assert_int_equal(facet_stream_ffn(stream, keep_z, z, NULL), FACET_OK);
    }
    assert_int_equal(facet_stream_down(stream, layer, down, NULL), FACET_OK);
    facet_stream_free(stream);
    return z;
}

// STATS and ENERGY by their formulas, written as plainly as they stand in the paper.
static void test_formulas(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_GEMMA, 2);
    static float energy[N * L * F], down[F * D];
    predict(model, FACET_PREDICT_STATS, 0, scores);
    predict(model, FACET_PREDICT_ENERGY, 0, energy);
    for (uint32_t layer = 0; layer < L; layer++) {
        float *z = z_of_layer(model, layer, down);
        size_t first = 0;
        for (size_t s = 0; s < N; first += lengths[s++]) {
            for (size_t j = 0; j < F; j++) {
                double stat = 0, sum = 0, row = 0;
                for (size_t t = first; t < first + lengths[s]; t++) {
                    double norm = 0;
                    for (size_t i = 0; i < F; i++)
                        norm += pow((double)z[t * F + i], 2);
                    stat += pow((double)z[t * F + j] / sqrt(norm), 2);
                    sum += pow((double)z[t * F + j], 2);
                }
                for (size_t i = 0; i < D; i++)
                    row += pow((double)down[j * D + i], 2);
                assert_true(fabs(sqrt(stat) - (double)score_of(scores, s, layer, j)) < 1e-4);
                assert_true(fabs(sqrt(sum * row) - (double)score_of(energy, s, layer, j)) <
                            1e-4 * (1 + sqrt(sum * row)));
            }
        }
        free(z);
    }
    facet_memory_model_free(model);
}

// The squares of a sample's statistics add up to its tokens, in every layer.
static void test_sum_is_tokens(void **state)
{
    (void)state;
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++) {
        facet_model *model = facet_memory_model_new((facet_memory_kind)kind, 3);
        predict(model, FACET_PREDICT_STATS, 0, scores);
        for (size_t row = 0; row < N * L; row++) {
            double sum = 0;
            for (size_t j = 0; j < F; j++)
                sum += pow((double)scores[row * F + j], 2);
            assert_true(fabs(sum - lengths[row / L]) < 1e-3);
        }
        facet_memory_model_free(model);
    }
}

// A layer whose gate is dead has z = 0: its statistics are zeros, not NaN.
static void test_zero_norm(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_LLAMA, 4);
    memset(facet_memory_model_data(model, FACET_ROLE_GATE, 1), 0, F * D * sizeof(float));
    predict(model, FACET_PREDICT_STATS, 0, scores);
    for (size_t s = 0; s < N; s++)
        for (size_t j = 0; j < F; j++)
            assert_true(score_of(scores, s, 1, j) == 0);
    assert_true(score_of(scores, 1, 2, 0) > 0);
    facet_memory_model_free(model);
}

// GLASS by counting: a rank is the number of smaller values plus half of the equal ones.
static double rank_of(const double *values, size_t j)
{
    double rank = 0.5;
    for (size_t i = 0; i < F; i++)
        rank += values[i] < values[j] ? 1 : values[i] == values[j] ? 0.5 : 0;
    return rank;
}

static void test_glass(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_QWEN2, 5);
    memset(facet_memory_model_data(model, FACET_ROLE_UP, 0), 0, 9 * D * sizeof(float)); // ties
    static float mixed[N * L * F];
    predict(model, FACET_PREDICT_STATS, 0, scores);
    predict(model, FACET_PREDICT_GLASS, 0, mixed);
    for (size_t layer = 0; layer < L; layer++) {
        double prior[F] = {0}, own[F];
        for (size_t s = 0; s < N; s++)
            for (size_t j = 0; lengths[s] && j < F; j++)
                prior[j] += pow((double)score_of(scores, s, layer, j), 2) / lengths[s];
        for (size_t s = 0; s < N; s++) {
            for (size_t j = 0; j < F; j++)
                own[j] = (double)score_of(scores, s, layer, j);
            for (size_t j = 0; j < F; j++) {
                const double expected = (rank_of(own, j) + rank_of(prior, j)) / (2.0 * F);
                assert_true(fabs(expected - (double)score_of(mixed, s, layer, j)) < 1e-6);
                assert_true(score_of(mixed, s, layer, j) > 0);
            }
        }
    }
    facet_memory_model_free(model);
}

static void test_random(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_LLAMA, 6);
    static float again[N * L * F], other[N * L * F];
    predict(model, FACET_PREDICT_RANDOM, 1, scores);
    predict(model, FACET_PREDICT_RANDOM, 1, again);
    predict(model, FACET_PREDICT_RANDOM, 2, other);
    assert_memory_equal(scores, again, sizeof scores);
    assert_memory_not_equal(scores, other, sizeof scores);
    for (size_t i = 0; i < N * L * F; i++)
        assert_true(scores[i] > 0 && scores[i] <= 1);
    facet_memory_model_free(model);
}

// Keeps the first groups that it is given; recalls them later.
typedef struct kept {
    float scores[90 * L * F];
    size_t n[4], total;
    int n_kept, n_recalled;
} kept;

static bool recall(void *ctx, float *out, size_t n)
{
    kept *k = ctx;
    if (k->n_recalled == k->n_kept) return false;
    assert_int_equal(n, k->n[k->n_recalled++]);
    memcpy(out, k->scores + k->total, n * sizeof *out);
    k->total += n;
    return true;
}

static void keep(void *ctx, const float *made, size_t n)
{
    kept *k = ctx;
    memcpy(k->scores + k->total, made, n * sizeof *made);
    k->total += n;
    k->n[k->n_kept++] = n;
    k->n_recalled = k->n_kept;
}

// With the first group, or all, recalled the result is the same to the bit, mixed ranks included.
static void expect_recalled(const facet_model *model, const facet_samples *s,
                            facet_predictor predictor)
{
    kept *k = calloc(1, sizeof *k);
    float *want = malloc(sizeof k->scores), *got = malloc(sizeof k->scores);
    const facet_predict_memory memory = {k, recall, keep};
    facet_predict_opts opts = {.predictor = predictor};
    assert_int_equal(facet_predict(model, s, &opts, want, NULL), FACET_OK);
    opts.memory = &memory;
    assert_int_equal(facet_predict(model, s, &opts, got, NULL), FACET_OK);
    assert_memory_equal(got, want, sizeof k->scores);
    assert_int_equal(k->n_kept, 2);
    for (int n = 2; n > 0; n--) {
        k->n_kept = n;
        k->n_recalled = 0;
        k->total = 0;
        memset(got, 0xff, sizeof k->scores);
        assert_int_equal(facet_predict(model, s, &opts, got, NULL), FACET_OK);
        assert_memory_equal(got, want, sizeof k->scores);
        assert_int_equal(k->n_kept, 2);
    }
    free(k);
    free(want);
    free(got);
}

// More tokens than one group holds: the same scores as each sample on its own.
static void test_groups(void **state)
{
    (void)state;
    enum { many = 90, length = 100 };
    facet_model *model = facet_memory_model_new(FACET_MEMORY_QWEN3, 7);
    uint32_t *ids = malloc(many * length * sizeof *ids), sizes[many];
    float *all = malloc((size_t)many * L * F * sizeof *all), one[L * F];
    for (uint32_t i = 0; i < many * length; i++)
        ids[i] = (i * 37 + i / length * 11) % 4500;
    for (uint32_t i = 0; i < many; i++)
        sizes[i] = length;
    const facet_samples s = {ids, sizes, many, many * length, NULL, NULL};
    assert_int_equal(facet_predict(model, &s, NULL, all, NULL), FACET_OK);
    for (uint32_t i = 0; i < many; i += 27) {
        const facet_samples single = {ids + i * length, sizes, 1, length, NULL, NULL};
        assert_int_equal(facet_predict(model, &single, NULL, one, NULL), FACET_OK);
        for (size_t j = 0; j < L * F; j++)
            assert_true(fabs((double)one[j] - (double)all[i * L * F + j]) < 1e-4);
    }
    expect_recalled(model, &s, FACET_PREDICT_GLASS);
    expect_recalled(model, &s, FACET_PREDICT_ENERGY);
    free(ids);
    free(all);
    facet_memory_model_free(model);
}

static void test_nearest(void **state)
{
    (void)state;
    const float prompt[2 * 3] = {1, 0, 0, 0, 2, 0};
    const float families[4][2 * 3] = {
        {0, 1, 0, 0, 0, 1}, {5, 0, 0, 0, 3, 0}, {9, 0, 0, 0, 9, 0}, {0, 0, 0, 0, 0, 0}};
    double similarity[4];
    assert_int_equal(facet_predict_nearest(prompt, families[0], 4, 2, 3, similarity), 1);
    assert_true(similarity[0] == 0 && similarity[3] == 0);
    assert_true(fabs(similarity[1] - 1) < 1e-12 && fabs(similarity[2] - 1) < 1e-12);
}

typedef struct stopper {
    int asked, stop_at;
    uint64_t last;
} stopper;

static bool stopper_cancelled(void *ctx)
{
    stopper *s = ctx;
    return ++s->asked == s->stop_at;
}

static void stopper_progress(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    stopper *s = ctx;
    assert_string_equal(what, "predict");
    assert_true(done >= s->last && done <= total);
    s->last = done;
}

static void test_faults(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_LLAMA, 8);
    facet_status status = FACET_FAILED;
    facet_predict_opts opts = {.predictor = FACET_PREDICT_GLASS, .n_threads = 2};
    for (long n = 1; status != FACET_OK; n++) {
        opts.predictor = n % 2 ? FACET_PREDICT_GLASS : FACET_PREDICT_ENERGY;
        facet_failing failing;
        facet_failing_init(&failing, n);
        opts.alloc = &failing.alloc;
        status = facet_predict(model, &samples, &opts, scores, NULL);
        assert_true(status == FACET_OK || status == FACET_NO_MEMORY);
        assert_int_equal(atomic_load(&failing.alive), 0);
    }
    status = FACET_FAILED;
    for (int n = 1; status != FACET_OK; n++) {
        stopper stop = {.stop_at = n};
        const facet_report report = {
            .ctx = &stop, .progress = stopper_progress, .cancelled = stopper_cancelled};
        const facet_predict_opts asking = {.report = &report};
        status = facet_predict(model, &samples, &asking, scores, NULL);
        assert_true(status == FACET_OK || status == FACET_INTERRUPTED);
        assert_true(status != FACET_OK || stop.last == TOKENS);
    }
    const facet_samples none = {0};
    assert_int_equal(facet_predict(model, &none, NULL, scores, NULL), FACET_BAD_INPUT);
    facet_memory_model_data(model, FACET_ROLE_GATE, 2)[7] = INFINITY;
    facet_err err;
    assert_int_equal(facet_predict(model, &samples, NULL, scores, &err), FACET_BAD_TENSOR);
    facet_memory_model_free(model);
}

int main(void)
{
    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = (i * 7919u + 13) % 4500;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formulas),  cmocka_unit_test(test_sum_is_tokens),
        cmocka_unit_test(test_zero_norm), cmocka_unit_test(test_glass),
        cmocka_unit_test(test_random),    cmocka_unit_test(test_groups),
        cmocka_unit_test(test_nearest),   cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
