// SPDX-License-Identifier: Apache-2.0
// The float step against calib's float32 model, its sameness for any number of threads, and what it
// refuses.
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
#include "tests/support/failing.h"
#include "tests/support/memory_model.h"
#include "train/step.h"

enum { N_TOKENS = 181, D = 40, F = 72, LAYERS = 3, VOCAB = 4500 };

static uint32_t tokens[N_TOKENS], targets[N_TOKENS];
static uint32_t lengths[] = {1, 0, 140, 9, 31};
static facet_real weights[N_TOKENS], teacher[N_TOKENS * D];
static const facet_samples samples = {
    .tokens = tokens, .lengths = lengths, .n = 5, .n_tokens = N_TOKENS};

static const uint32_t kept[] = {2, 3, 17, 40, 44, 45, 70};
static float rows[7 * D], bias[D];
static const facet_ffn_custom pruned[LAYERS] = {
    {kept, 7, rows, bias}, {kept, 0, NULL, bias}, {kept + 4, 1, NULL, NULL}};

static int inputs_fill(void **state)
{
    (void)state;
    facet_random random = facet_random_seed(3);
    for (size_t i = 0; i < FACET_COUNT_OF(rows); i++)
        rows[i] = (float)(0.2 * facet_random_normal(&random));
    for (size_t i = 0; i < D; i++)
        bias[i] = (float)(0.1 * facet_random_normal(&random));
    for (size_t i = 0; i < N_TOKENS * D; i++)
        teacher[i] = (facet_real)facet_random_normal(&random);
    for (uint32_t t = 0; t < N_TOKENS; t++)
        tokens[t] = (uint32_t)facet_random_below(&random, VOCAB);
    // The loss that calib counts: every token of a sample but its first, as the one before's
    // target.
    for (uint32_t i = 0, t = 0; i < samples.n; i++)
        for (uint32_t p = 0; p < lengths[i]; p++, t++) {
            const bool last = p + 1 == lengths[i];
            targets[t] = last ? 0 : tokens[t + 1];
            weights[t] = last ? 0 : 1;
        }
    return 0;
}

typedef struct world {
    facet_pool *pool;
    facet_net *net;
    facet_step *step;
} world;

static facet_status world_init(world *w, const facet_model *model, const facet_net_opts *wanted,
                               uint32_t n_threads, facet_err *err)
{
    facet_net_opts opts = *wanted;
    *w = (world){0};
    FACET_TRY(facet_pool_new(n_threads, opts.alloc, &w->pool, err));
    opts.pool = w->pool;
    FACET_TRY(facet_net_new(model, &opts, &w->net, err));
    // Logits of 20 tokens at a time: several chunks.
    const facet_step_opts step = {.max_tokens = N_TOKENS,
                                  .longest = 140,
                                  .distill = true,
                                  .logits_bytes = 40 * VOCAB * sizeof(facet_real),
                                  .pool = w->pool,
                                  .alloc = opts.alloc};
    return facet_step_new(w->net, &step, &w->step, err);
}

static void world_fini(world *w)
{
    facet_step_free(w->step);
    facet_net_free(w->net);
    facet_pool_free(w->pool);
}

static facet_batch batch_of(bool distill)
{
    facet_batch batch = {
        .tokens = tokens, .lengths = lengths, .n = 5, .n_tokens = N_TOKENS, .scale = 0.01f};
    if (distill) batch.teacher = teacher;
    if (!distill) batch.targets = targets, batch.weights = weights;
    return batch;
}

static void stream_run(const facet_model *model, const facet_ffn_custom *custom, float *hidden,
                       double *nats)
{
    facet_stream *stream;
    uint64_t scored;
    assert_int_equal(facet_stream_new(model, &samples, NULL, &stream, NULL), FACET_OK);
    for (uint32_t layer = 0; layer < LAYERS; layer++) {
        assert_int_equal(facet_stream_attn(stream, NULL), FACET_OK);
        assert_int_equal(custom ? facet_stream_ffn_custom(stream, &custom[layer], NULL)
                                : facet_stream_ffn(stream, NULL, NULL, NULL),
                         FACET_OK);
    }
    assert_int_equal(facet_stream_hidden(stream, hidden, NULL), FACET_OK);
    assert_int_equal(facet_stream_nll(stream, nats, &scored, NULL, NULL), FACET_OK);
    facet_stream_free(stream);
}

// States and losses are calib's, dense and pruned; the dense model has no distance from itself.
static void test_against_stream(void **state)
{
    (void)state;
    float *hidden = calloc(N_TOKENS * D, sizeof *hidden);
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++)
        for (int is_pruned = 0; is_pruned < 2; is_pruned++) {
            const facet_ffn_custom *custom = is_pruned ? pruned : NULL;
            facet_model *model = facet_memory_model_new((facet_memory_kind)kind, 8);
            double nats, loss, largest = 0;
            world w;
            stream_run(model, custom, hidden, &nats);
            assert_int_equal(world_init(&w, model, &(facet_net_opts){.custom = custom}, 2, NULL),
                             FACET_OK);
            facet_batch batch = batch_of(false);
            assert_int_equal(facet_step_run(w.step, &batch, &loss, NULL), FACET_OK);
            assert_true(fabs(loss - nats) < 1e-6 * nats);
            for (size_t i = 0; i < N_TOKENS * D; i++) {
                largest = fmax(largest, fabs((double)hidden[i]));
                assert_true(fabs((double)(facet_step_hidden(w.step)[i] - hidden[i])) < 1e-5);
            }
            assert_true(largest > 1);
            batch.targets = NULL;
            batch.weights = NULL;
            batch.teacher = hidden;
            assert_int_equal(facet_step_run(w.step, &batch, &loss, NULL), FACET_OK);
            assert_true(fabs(loss) < 1e-6 * N_TOKENS);
            world_fini(&w);
            facet_memory_model_free(model);
        }
    free(hidden);
}

// Answers behind prompts that another pass has read come to the states of the one that reads all.
static void test_prompts(void **state)
{
    (void)state;
    uint32_t answers[] = {0, 0, 100, 0, 8}, answer_lengths[5], prompt_lengths[5];
    facet_samples answered = samples;
    answered.answers = answers;
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++) {
        facet_model *model = facet_memory_model_new((facet_memory_kind)kind, 8);
        const size_t n_prompts = 108, row = model->hp.n_kv_heads * model->hp.head_dim;
        float *keys = calloc(2 * LAYERS * n_prompts * row, sizeof *keys);
        float *values = keys + LAYERS * n_prompts * row;
        facet_stream *stream;
        assert_int_equal(facet_stream_new(model, &answered, NULL, &stream, NULL), FACET_OK);
        for (size_t layer = 0; layer < LAYERS; layer++) {
            const size_t at = layer * n_prompts * row;
            assert_int_equal(facet_stream_attn_keep(stream, keys + at, values + at, NULL),
                             FACET_OK);
            assert_int_equal(facet_stream_ffn_custom(stream, &pruned[layer], NULL), FACET_OK);
        }
        float *hidden = calloc(N_TOKENS * D, sizeof *hidden);
        assert_int_equal(facet_stream_hidden(stream, hidden, NULL), FACET_OK);
        world w;
        assert_int_equal(world_init(&w, model, &(facet_net_opts){.custom = pruned}, 2, NULL),
                         FACET_OK);
        uint32_t answer_tokens[N_TOKENS], places[N_TOKENS], n = 0;
        size_t first[5], prompts = 0;
        for (uint32_t i = 0, t = 0; i < 5; t += lengths[i++]) {
            prompt_lengths[i] = facet_samples_prompt(&answered, i);
            answer_lengths[i] = lengths[i] - prompt_lengths[i];
            first[i] = prompts;
            prompts += prompt_lengths[i];
            for (uint32_t p = prompt_lengths[i]; p < lengths[i]; p++) {
                places[n] = t + p;
                answer_tokens[n++] = tokens[t + p];
            }
        }
        assert_int_equal(prompts, n_prompts);
        const facet_prompts given = {keys, values, n_prompts, prompt_lengths, first};
        const facet_batch batch = {.tokens = answer_tokens,
                                   .lengths = answer_lengths,
                                   .n = 5,
                                   .n_tokens = n,
                                   .prompts = &given,
                                   .targets = targets};
        double loss;
        assert_int_equal(facet_step_run(w.step, &batch, &loss, NULL), FACET_OK);
        for (uint32_t t = 0; t < n; t++)
            for (uint32_t j = 0; j < D; j++)
                assert_true(fabsf(facet_step_hidden(w.step)[t * D + j] -
                                  hidden[places[t] * D + j]) < 1e-5f);
        // A sample with its prompt must fit what the step was made for.
        prompt_lengths[1] = 1;
        prompt_lengths[2] = 101;
        assert_int_equal(facet_step_run(w.step, &batch, &loss, NULL), FACET_BAD_INPUT);
        facet_stream_free(stream);
        world_fini(&w);
        facet_memory_model_free(model);
        free(keys);
        free(hidden);
    }
}

// Nats that the teacher gives the targets.
static double teacher_nats(const float *head)
{
    double sum = 0;
    for (size_t i = 0; i < N_TOKENS; i++) {
        double all = 0, target = 0;
        for (size_t v = 0; v < VOCAB; v++) {
            double logit = 0;
            for (size_t j = 0; j < D; j++)
                logit += (double)teacher[i * D + j] * (double)head[v * D + j];
            all += exp(logit);
            if (v == targets[i]) target = logit;
        }
        sum += log(all) - target;
    }
    return sum;
}

// The divergence is the sum over the vocabulary that its name says.
static void test_divergence(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_LLAMA, 9);
    const float *head = facet_memory_model_data(model, FACET_ROLE_HEAD, 0);
    world w;
    assert_int_equal(world_init(&w, model, &(facet_net_opts){0}, 2, NULL), FACET_OK);
    const facet_batch batch = batch_of(true);
    double loss, expected = 0, *s = calloc(VOCAB, sizeof *s), *t = calloc(VOCAB, sizeof *t);
    assert_int_equal(facet_step_run(w.step, &batch, &loss, NULL), FACET_OK);
    for (size_t i = 0; i < N_TOKENS; i++) {
        double sum_s = 0, sum_t = 0;
        for (size_t v = 0; v < VOCAB; v++) {
            s[v] = t[v] = 0;
            for (size_t j = 0; j < D; j++) {
                s[v] += (double)facet_step_hidden(w.step)[i * D + j] * (double)head[v * D + j];
                t[v] += (double)teacher[i * D + j] * (double)head[v * D + j];
            }
            sum_s += exp(s[v]);
            sum_t += exp(t[v]);
        }
        for (size_t v = 0; v < VOCAB; v++)
            expected += exp(t[v]) / sum_t * (t[v] - log(sum_t) - s[v] + log(sum_s));
    }
    assert_true(expected > 1 && fabs(loss - expected) < 1e-5 * expected);
    free(s);
    free(t);
    world_fini(&w);
    facet_memory_model_free(model);
}

// A share of the text beside a teacher: both losses, each times its share; the teacher itself has
// none, whatever the text.
static void test_text(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_LLAMA, 9);
    world w;
    assert_int_equal(world_init(&w, model, &(facet_net_opts){0}, 2, NULL), FACET_OK);
    facet_batch batch = batch_of(true);
    double kl, nats, teachers, loss;
    assert_int_equal(facet_step_run(w.step, &batch, &kl, NULL), FACET_OK);
    batch = batch_of(false);
    batch.weights = NULL;
    assert_int_equal(facet_step_run(w.step, &batch, &nats, NULL), FACET_OK);
    facet_real *own = malloc(N_TOKENS * D * sizeof *own);
    memcpy(own, facet_step_hidden(w.step), N_TOKENS * D * sizeof *own);
    batch.teacher = own;
    batch.text = (facet_real)0.5;
    assert_int_equal(facet_step_run(w.step, &batch, &loss, NULL), FACET_OK);
    assert_true(fabs(loss) < 1e-6 * N_TOKENS);
    teachers = teacher_nats(facet_memory_model_data(model, FACET_ROLE_HEAD, 0));
    batch.teacher = teacher;
    batch.text = (facet_real)0.25;
    assert_int_equal(facet_step_run(w.step, &batch, &loss, NULL), FACET_OK);
    const double expected = 0.75 * kl + 0.25 * (nats - teachers);
    assert_true(fabs(loss - expected) < 1e-5 * (kl + nats));
    free(own);
    world_fini(&w);
    facet_memory_model_free(model);
}

// One, two, three threads: the same bits of losses and gradients.
static void test_threads(void **state)
{
    (void)state;
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++) {
        facet_model *model = facet_memory_model_new((facet_memory_kind)kind, 10);
        const facet_net_opts opts = {.custom = pruned, .train = FACET_PARAM_ALL};
        world w[3];
        double loss[3];
        for (uint32_t i = 0; i < 3; i++) {
            facet_batch batch = batch_of(kind % 2 == 0);
            batch.backward = true;
            assert_int_equal(world_init(&w[i], model, &opts, i + 1, NULL), FACET_OK);
            assert_int_equal(facet_step_run(w[i].step, &batch, &loss[i], NULL), FACET_OK);
            assert_true(loss[i] == loss[0]);
            for (uint32_t p = 0; p < w[i].net->n_params; p++) {
                const facet_param *a = &w[i].net->params[p], *b = &w[0].net->params[p];
                assert_memory_equal(a->grad, b->grad, facet_param_size(a) * sizeof *a->grad);
            }
        }
        for (uint32_t i = 0; i < 3; i++)
            world_fini(&w[i]);
        facet_memory_model_free(model);
    }
}

// Weights that are frozen and operands of BF16: the same loss and direction, but for the rounding.
static void test_bf16(void **state)
{
    (void)state;
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++) {
        facet_model *model = facet_memory_model_new((facet_memory_kind)kind, 8);
        double loss[2], products[3] = {0};
        world w[2];
        for (int i = 0; i < 2; i++) {
            const facet_net_opts opts = {.custom = pruned,
                                         .train = FACET_PARAM_DOWN_BOTH,
                                         .precision =
                                             i ? FACET_PRECISION_BF16 : FACET_PRECISION_F32};
            assert_int_equal(world_init(&w[i], model, &opts, 2, NULL), FACET_OK);
            facet_batch batch = batch_of(true);
            batch.backward = true;
            assert_int_equal(facet_step_run(w[i].step, &batch, &loss[i], NULL), FACET_OK);
        }
        assert_true(fabs(loss[1] / loss[0] - 1) < 5e-3);
        for (uint32_t i = 0; i < w[0].net->n_params; i++) {
            const facet_param *a = &w[0].net->params[i], *b = &w[1].net->params[i];
            assert_true(!facet_bf16_has() || !b->grad == !b->value || b->rows == 1);
            for (size_t j = 0; a->grad && j < facet_param_size(a); j++) {
                products[0] += (double)a->grad[j] * (double)b->grad[j];
                products[1] += (double)a->grad[j] * (double)a->grad[j];
                products[2] += (double)b->grad[j] * (double)b->grad[j];
            }
        }
        assert_true(products[0] > 0.999 * sqrt(products[1] * products[2]));
        for (int i = 0; i < 2; i++)
            world_fini(&w[i]);
        facet_memory_model_free(model);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_LLAMA, 10);
    world w;
    assert_int_equal(world_init(&w, model, &(facet_net_opts){0}, 1, NULL), FACET_OK);
    double loss = 7;
    facet_batch batch = batch_of(false);
    batch.n_tokens--;
    assert_int_equal(facet_step_run(w.step, &batch, &loss, NULL), FACET_BAD_INPUT);
    batch.n_tokens++;
    batch.targets = NULL;
    assert_int_equal(facet_step_run(w.step, &batch, &loss, NULL), FACET_BAD_INPUT);
    batch = batch_of(false);
    uint32_t too_long[] = {N_TOKENS};
    batch.lengths = too_long;
    batch.n = 1;
    assert_int_equal(facet_step_run(w.step, &batch, &loss, NULL), FACET_BAD_INPUT);
    batch = batch_of(false);
    const uint32_t id = tokens[4];
    tokens[4] = VOCAB;
    assert_int_equal(facet_step_run(w.step, &batch, &loss, NULL), FACET_MISMATCH);
    tokens[4] = id;
    facet_net_param(w.net, FACET_ROLE_UP, 1)->value[5] = (facet_real)NAN;
    assert_int_equal(facet_step_run(w.step, &batch, &loss, NULL), FACET_FAILED);
    assert_true(loss == 7);
    const facet_step_opts opts = {.max_tokens = 4, .longest = 5, .pool = w.pool};
    facet_step *step = NULL;
    assert_int_equal(facet_step_new(w.net, &opts, &step, NULL), FACET_BAD_INPUT);
    const uint32_t unsorted[] = {4, 3};
    facet_ffn_custom bad[LAYERS] = {{.kept = unsorted, .n_kept = 2}};
    world none;
    facet_err err;
    assert_int_equal(world_init(&none, model, &(facet_net_opts){.custom = bad}, 1, &err),
                     FACET_BAD_INPUT);
    world_fini(&none);
    world_fini(&w);
    facet_memory_model_free(model);
}

// Every allocation may fail: a code, no leak.
static void test_memory(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_GEMMA, 10);
    for (long fail_at = 1;; fail_at++) {
        facet_failing failing;
        facet_failing_init(&failing, fail_at);
        const facet_net_opts opts = {
            .custom = pruned, .train = FACET_PARAM_DOWN_BOTH, .alloc = &failing.alloc};
        world w;
        const facet_status status = world_init(&w, model, &opts, 2, NULL);
        if (status == FACET_OK) {
            const long before = atomic_load(&failing.calls);
            double loss;
            facet_batch batch = batch_of(true);
            batch.backward = true;
            assert_int_equal(facet_step_run(w.step, &batch, &loss, NULL), FACET_OK);
            assert_int_equal(atomic_load(&failing.calls), before);
        }
        world_fini(&w);
        assert_int_equal(atomic_load(&failing.alive), 0);
        if (status == FACET_OK) break;
        assert_int_equal(status, FACET_NO_MEMORY);
    }
    facet_memory_model_free(model);
}

static double ulps(float x)
{
    int exponent;
    const double exact = exp((double)x);
    frexp(exact, &exponent);
    return fabs((double)facet_real_exp(x) - exact) / ldexp(1, exponent - 24);
}

static void test_exp(void **state)
{
    (void)state;
    double worst = 0;
    for (float x = -87.3f; x < 88.72f; x += 1e-4f)
        worst = fmax(worst, ulps(x));
    for (float x = -0.01f; x < 0.01f; x += 1e-7f)
        worst = fmax(worst, ulps(x));
    assert_true(worst < 1.25);
    assert_true(facet_real_exp(0) == 1);
    assert_true(isnan(facet_real_exp((float)NAN)));
    assert_true(facet_real_exp(-INFINITY) < 1.2e-38f && facet_real_exp(-INFINITY) >= 0);
    assert_true(facet_real_exp(1000) > 3.4e38f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_stream),
        cmocka_unit_test(test_divergence),
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_exp),
    };
    return cmocka_run_group_tests(tests, inputs_fill, NULL);
}
