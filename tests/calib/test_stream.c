// SPDX-License-Identifier: Apache-2.0
// What the float32 model promises about itself; that its numbers are right is tests/oracle's
// business.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "calib/stream.h"
#include "tests/support/memory_model.h"

#define N_TOKENS 181u
#define D        40u
#define F        72u
#define VOCAB    4500u

static uint32_t tokens[N_TOKENS];
static uint32_t lengths[] = {1, 0, 140, 9, 31};
static const facet_samples samples = {
    .tokens = tokens, .lengths = lengths, .n = 5, .n_tokens = N_TOKENS};

static facet_stream *stream_of(const facet_model *model, const facet_samples *s, uint32_t n_threads)
{
    const facet_stream_opts opts = {.n_threads = n_threads};
    facet_stream *stream = NULL;
    facet_err err;
    assert_int_equal(facet_stream_new(model, s, &opts, &stream, &err), FACET_OK);
    return stream;
}

static void run_to(facet_stream *stream, uint32_t layer)
{
    while (facet_stream_layer(stream) < layer) {
        assert_int_equal(facet_stream_attn(stream, NULL), FACET_OK);
        assert_int_equal(facet_stream_ffn(stream, NULL, NULL, NULL), FACET_OK);
    }
}

static double largest_difference(const float *a, const float *b, size_t n)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)a[i] - (double)b[i]));
    return largest;
}

typedef struct gathered {
    uint64_t next;
    float x[N_TOKENS][D], z[N_TOKENS][F], y[N_TOKENS][D], res[N_TOKENS][D];
} gathered;

static facet_status gather(void *ctx, const facet_ffn_chunk *chunk, facet_err *err)
{
    (void)err;
    gathered *g = ctx;
    assert_int_equal(chunk->first, g->next);
    assert_true(chunk->n > 0 && chunk->first + chunk->n <= N_TOKENS);
    memcpy(g->x[chunk->first], chunk->x, chunk->n * sizeof g->x[0]);
    memcpy(g->z[chunk->first], chunk->z, chunk->n * sizeof g->z[0]);
    memcpy(g->y[chunk->first], chunk->y, chunk->n * sizeof g->y[0]);
    memcpy(g->res[chunk->first], chunk->res, chunk->n * sizeof g->res[0]);
    g->next += chunk->n;
    return FACET_OK;
}

// The tap sees every token once, in order; y is z times the channels' rows; a look changes nothing.
static void test_taps(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_LLAMA, 3);
    facet_stream *stream = stream_of(model, &samples, 2);
    run_to(stream, 1);
    assert_int_equal(facet_stream_attn(stream, NULL), FACET_OK);
    gathered *look = calloc(1, sizeof *look), *real = calloc(1, sizeof *real);
    float *before = malloc(N_TOKENS * D * sizeof *before), *down = malloc(F * D * sizeof *down);
    memcpy(before, facet_stream_x(stream), N_TOKENS * D * sizeof *before);
    assert_int_equal(facet_stream_ffn_look(stream, gather, look, NULL), FACET_OK);
    assert_memory_equal(before, facet_stream_x(stream), N_TOKENS * D * sizeof *before);
    assert_int_equal(facet_stream_layer(stream), 1);
    assert_int_equal(facet_stream_ffn(stream, gather, real, NULL), FACET_OK);
    assert_int_equal(facet_stream_layer(stream), 2);
    assert_int_equal(look->next, N_TOKENS);
    assert_memory_equal(look, real, sizeof *look);
    assert_memory_equal(look->res, before, sizeof look->res);
    assert_int_equal(facet_stream_down(stream, 1, down, NULL), FACET_OK);
    for (size_t t = 0; t < N_TOKENS; t++)
        for (size_t i = 0; i < D; i++) {
            double y = 0;
            for (size_t j = 0; j < F; j++)
                y += (double)look->z[t][j] * (double)down[j * D + i];
            assert_true(fabs(y - (double)look->y[t][i]) < 1e-4);
            const double x = (double)before[t * D + i] + y;
            assert_true(fabs(x - (double)facet_stream_x(stream)[t * D + i]) < 1e-4);
        }
    free(look);
    free(real);
    free(before);
    free(down);
    facet_stream_free(stream);
    facet_memory_model_free(model);
}

// A pruned FFN is what its formula says, with the model's rows and with the caller's.
static void custom_against_formula(facet_memory_kind kind, const facet_ffn_custom *custom)
{
    facet_model *model = facet_memory_model_new(kind, 4);
    facet_stream *stream = stream_of(model, &samples, 2), *ours;
    assert_int_equal(facet_stream_attn(stream, NULL), FACET_OK);
    assert_int_equal(facet_stream_copy(stream, &ours, NULL), FACET_OK);
    gathered *g = calloc(1, sizeof *g);
    float *down = malloc(F * D * sizeof *down);
    assert_int_equal(facet_stream_ffn_look(stream, gather, g, NULL), FACET_OK);
    assert_int_equal(facet_stream_down(stream, 0, down, NULL), FACET_OK);
    assert_int_equal(facet_stream_ffn_custom(ours, custom, NULL), FACET_OK);
    assert_int_equal(facet_stream_layer(ours), 1);
    for (size_t t = 0; t < N_TOKENS; t++)
        for (size_t i = 0; i < D; i++) {
            double y = custom->bias ? (double)custom->bias[i] : 0;
            for (size_t j = 0; j < custom->n_kept; j++) {
                const float *rows =
                    custom->down ? custom->down + j * D : down + (size_t)custom->kept[j] * D;
                y += (double)g->z[t][custom->kept[j]] * (double)rows[i];
            }
            const double expected = (double)g->res[t][i] + y;
            assert_true(fabs(expected - (double)facet_stream_x(ours)[t * D + i]) < 1e-4);
        }
    free(g);
    free(down);
    facet_stream_free(stream);
    facet_stream_free(ours);
    facet_memory_model_free(model);
}

typedef struct part {
    float *z; // (N_TOKENS, n_kept)
    uint32_t n_kept;
} part;

static facet_status gather_part(void *ctx, const facet_ffn_chunk *chunk, facet_err *err)
{
    (void)err;
    const part *p = ctx;
    assert_null(chunk->y);
    memcpy(p->z + chunk->first * p->n_kept, chunk->z, sizeof(float) * chunk->n * p->n_kept);
    return FACET_OK;
}

// A look at kept channels shows what a look at all shows; adding their product is a pruned FFN.
static void test_look_kept_then_add(void **state)
{
    (void)state;
    enum { n_kept = 4 };
    const uint32_t kept[n_kept] = {1, 2, 40, 71};
    const facet_ffn_custom custom = {.kept = kept, .n_kept = n_kept};
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++) {
        facet_model *model = facet_memory_model_new((facet_memory_kind)kind, 6);
        facet_stream *stream = stream_of(model, &samples, 2), *pruned;
        assert_int_equal(facet_stream_attn(stream, NULL), FACET_OK);
        assert_int_equal(facet_stream_copy(stream, &pruned, NULL), FACET_OK);
        gathered *all = calloc(1, sizeof *all);
        part some = {calloc(N_TOKENS * n_kept, sizeof(float)), n_kept};
        float *down = malloc(F * D * sizeof *down), *y = calloc(N_TOKENS * D, sizeof *y);
        assert_int_equal(facet_stream_ffn_look(stream, gather, all, NULL), FACET_OK);
        assert_int_equal(facet_stream_ffn_look_kept(stream, kept, n_kept, gather_part, &some, NULL),
                         FACET_OK);
        assert_int_equal(facet_stream_down(stream, 0, down, NULL), FACET_OK);
        for (size_t t = 0; t < N_TOKENS; t++)
            for (size_t i = 0; i < n_kept; i++) {
                const float z = some.z[t * n_kept + i];
                assert_true(fabs((double)(z - all->z[t][kept[i]])) < 1e-5);
                for (size_t r = 0; r < D; r++)
                    y[t * D + r] += z * down[(size_t)kept[i] * D + r];
            }
        assert_int_equal(facet_stream_ffn_add(stream, y, NULL), FACET_OK);
        assert_int_equal(facet_stream_ffn_add(stream, y, NULL), FACET_FAILED); // attention first
        assert_int_equal(facet_stream_ffn_custom(pruned, &custom, NULL), FACET_OK);
        assert_int_equal(facet_stream_layer(stream), 1);
        for (size_t i = 0; i < N_TOKENS * D; i++)
            assert_true(fabs((double)(facet_stream_x(stream)[i] - facet_stream_x(pruned)[i])) <
                        1e-4);
        free(all);
        free(some.z);
        free(down);
        free(y);
        facet_stream_free(stream);
        facet_stream_free(pruned);
        facet_memory_model_free(model);
    }
}

static void test_custom(void **state)
{
    (void)state;
    const uint32_t kept[] = {0, 5, 6, 31, 71};
    float down[5 * D], bias[D];
    for (size_t i = 0; i < 5 * D; i++)
        down[i] = (float)sin((double)i);
    for (size_t i = 0; i < D; i++)
        bias[i] = (float)cos((double)i);
    const facet_ffn_custom cases[] = {
        {kept, 5, NULL, NULL}, {kept, 5, NULL, bias}, {kept, 5, down, bias},
        {kept, 1, down, NULL}, {kept, 0, NULL, bias}, {kept, 0, down, NULL},
    };
    for (size_t i = 0; i < FACET_COUNT_OF(cases); i++)
        custom_against_formula(FACET_MEMORY_QWEN2, &cases[i]);
}

// Keeping every channel is the dense model, bit for bit, post norms included.
static void test_custom_all(void **state)
{
    (void)state;
    uint32_t all[F];
    for (uint32_t j = 0; j < F; j++)
        all[j] = j;
    const facet_ffn_custom custom = {.kept = all, .n_kept = F};
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++) {
        facet_model *model = facet_memory_model_new((facet_memory_kind)kind, 5);
        facet_stream *dense = stream_of(model, &samples, 1), *ours;
        assert_int_equal(facet_stream_copy(dense, &ours, NULL), FACET_OK);
        run_to(dense, 3);
        for (int layer = 0; layer < 3; layer++) {
            assert_int_equal(facet_stream_attn(ours, NULL), FACET_OK);
            assert_int_equal(facet_stream_ffn_custom(ours, &custom, NULL), FACET_OK);
        }
        assert_memory_equal(facet_stream_x(dense), facet_stream_x(ours),
                            N_TOKENS * D * sizeof(float));
        facet_stream_free(dense);
        facet_stream_free(ours);
        facet_memory_model_free(model);
    }
}

// A copy of the model whose vectors of `roles` are other ones.
static facet_model *changed_model(facet_memory_kind kind, uint32_t roles)
{
    facet_model *model = facet_memory_model_new(kind, 5);
    for (uint32_t layer = 0; layer < model->hp.n_layers; layer++)
        for (uint32_t role = 0; role < FACET_ROLE_COUNT; role++) {
            const facet_tensor *tensor = facet_model_tensor(model, (facet_role)role, layer);
            const bool once = role < FACET_ROLE_ATTN_NORM && layer > 0;
            if (!tensor || once || !(roles & FACET_ROLE_BIT(role))) continue;
            float *data = facet_memory_model_data(model, (facet_role)role, layer);
            for (uint64_t i = 0; i < tensor->dims[0]; i++)
                data[i] += 0.1f * (float)(i % 5);
        }
    return model;
}

// Vectors of one's own are the model that has them, bit for bit, in the stream, its copies and its
// losses; without them the stream is the model's again.
static void test_own(void **state)
{
    (void)state;
    const uint32_t sets[] = {FACET_ROLES_VECTOR, FACET_ROLES_BIAS,
                             FACET_ROLE_BIT(FACET_ROLE_OUT_NORM)};
    const size_t bytes = N_TOKENS * D * sizeof(float);
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++)
        for (size_t set = 0; set < FACET_COUNT_OF(sets); set++) {
            facet_model *model = facet_memory_model_new((facet_memory_kind)kind, 5);
            facet_model *changed = changed_model((facet_memory_kind)kind, sets[set]);
            facet_vectors own;
            assert_int_equal(facet_vectors_init(&own, changed, sets[set], NULL, NULL), FACET_OK);
            facet_stream *streams[] = {stream_of(model, &samples, 2), NULL,
                                       stream_of(changed, &samples, 2),
                                       stream_of(model, &samples, 2)};
            facet_stream_own(streams[0], &own, false);
            assert_int_equal(facet_stream_copy(streams[0], &streams[1], NULL), FACET_OK);
            facet_stream_own(streams[3], &own, false);
            facet_stream_own(streams[3], NULL, false);
            double nats[4];
            for (int i = 0; i < 4; i++) {
                uint64_t scored;
                run_to(streams[i], 3);
                assert_int_equal(facet_stream_nll(streams[i], &nats[i], &scored, NULL, NULL),
                                 FACET_OK);
            }
            assert_memory_equal(facet_stream_x(streams[0]), facet_stream_x(streams[2]), bytes);
            assert_memory_equal(facet_stream_x(streams[1]), facet_stream_x(streams[2]), bytes);
            assert_true(nats[0] == nats[2] && nats[1] == nats[2]);
            assert_true(own.roles == 0 || nats[3] != nats[2]);
            for (int i = 0; i < 4; i++)
                facet_stream_free(streams[i]);
            facet_vectors_fini(&own);
            facet_memory_model_free(changed);
            facet_memory_model_free(model);
        }
}

// Losses and best ids follow from the logits, over more than one block of the vocabulary.
static void check_head(const facet_samples *of)
{
    facet_model *model = facet_memory_model_new(FACET_MEMORY_QWEN3, 6);
    facet_stream *stream = stream_of(model, of, 2);
    run_to(stream, 3);
    // The row of id 4300 doubles id 12's, so neither can beat the other: the lower id must win.
    float *head = facet_memory_model_data(model, FACET_ROLE_HEAD, 0);
    memcpy(head + 4300u * D, head + 12u * D, D * sizeof *head);
    double nats, per_sample[5], expected = 0;
    uint64_t scored, count = 0;
    uint32_t ids[N_TOKENS];
    assert_int_equal(facet_stream_nll(stream, &nats, &scored, per_sample, NULL), FACET_OK);
    assert_int_equal(facet_stream_argmax(stream, ids, NULL), FACET_OK);
    float *logits = malloc(VOCAB * sizeof *logits);
    for (uint64_t t = 0, i = 0; i < of->n; i++) {
        const bool answered = of->answers && of->answers[i] < lengths[i];
        double sum = 0;
        for (uint32_t p = 0; p < lengths[i]; p++, t++) {
            assert_int_equal(facet_stream_logits(stream, t, logits, NULL), FACET_OK);
            double total = 0;
            uint32_t best = 0;
            for (uint32_t id = 0; id < VOCAB; id++) {
                total += exp((double)logits[id]);
                if (logits[id] > logits[best]) best = id;
            }
            assert_int_equal(ids[t], best);
            assert_int_not_equal(best, 4300);
            if (p + 1 == lengths[i] || (answered && p + 1 < of->answers[i])) continue;
            sum += log(total) - (double)logits[tokens[t + 1]];
            count++;
        }
        assert_true(fabs(sum - per_sample[i]) < 1e-3);
        expected += sum;
    }
    assert_int_equal(scored, count);
    assert_true(fabs(nats - expected) < 1e-3);
    free(logits);
    facet_stream_free(stream);
    facet_memory_model_free(model);
}

// With answers only these are scored; one at 0 begins with the token that follows nothing.
static void test_head(void **state)
{
    (void)state;
    uint32_t answers[] = {0, 0, 100, 0, 31};
    facet_samples answered = samples;
    answered.answers = answers;
    check_head(&samples);
    check_head(&answered);
}

// Samples do not see each other, tokens do not see later ones, and threads change nothing at all.
static void test_independence(void **state)
{
    (void)state;
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++) {
        facet_model *model = facet_memory_model_new((facet_memory_kind)kind, 7);
        facet_stream *all = stream_of(model, &samples, 1), *same = stream_of(model, &samples, 3);
        run_to(all, 3);
        run_to(same, 3);
        assert_memory_equal(facet_stream_x(all), facet_stream_x(same),
                            N_TOKENS * D * sizeof(float));
        uint64_t first = 0;
        for (uint32_t i = 0; i < samples.n; first += lengths[i++]) {
            if (lengths[i] == 0) continue;
            uint32_t n = lengths[i] > 8 ? lengths[i] - 3 : lengths[i]; // without its last tokens
            const facet_samples one = {
                .tokens = tokens + first, .lengths = &n, .n = 1, .n_tokens = n};
            facet_stream *alone = stream_of(model, &one, 2);
            run_to(alone, 3);
            assert_true(largest_difference(facet_stream_x(all) + first * D, facet_stream_x(alone),
                                           (size_t)n * D) < 1e-4);
            facet_stream_free(alone);
        }
        facet_stream_free(all);
        facet_stream_free(same);
        facet_memory_model_free(model);
    }
}

// More tokens than one attention batch and than one group of the FFN.
static void test_batches(void **state)
{
    (void)state;
    enum { n_samples = 40, n = 77 };
    facet_model *model = facet_memory_model_new(FACET_MEMORY_GEMMA, 8);
    uint32_t *many = malloc(n_samples * n * sizeof *many), sizes[n_samples];
    for (uint32_t i = 0; i < n_samples * n; i++)
        many[i] = i % n * 17 + i / n % 2; // two samples that take turns
    for (uint32_t i = 0; i < n_samples; i++)
        sizes[i] = n;
    const facet_samples s = {many, sizes, n_samples, n_samples * n, NULL, NULL};
    facet_stream *stream = stream_of(model, &s, 2);
    run_to(stream, 3);
    const float *x = facet_stream_x(stream);
    for (size_t i = 2; i < n_samples; i++)
        assert_true(largest_difference(x + i * n * D, x + i % 2 * n * D, n * D) < 1e-4);
    facet_stream_free(stream);
    facet_memory_model_free(model);
    free(many);
}

int main(void)
{
    for (uint32_t i = 0; i < N_TOKENS; i++)
        tokens[i] = (i * 7919u + i * i * 31u) % VOCAB;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taps),         cmocka_unit_test(test_look_kept_then_add),
        cmocka_unit_test(test_custom),       cmocka_unit_test(test_custom_all),
        cmocka_unit_test(test_own),          cmocka_unit_test(test_head),
        cmocka_unit_test(test_independence), cmocka_unit_test(test_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
