// SPDX-License-Identifier: Apache-2.0
// The whole job on tiny models: it brings a pruned model nearer to the dense one, nearer with
// vectors of its own than without, gives the same bits for any number of threads, and leaves rows
// and vectors alone when it does not succeed.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "calib/stream.h"
#include "tests/support/failing.h"
#include "tests/support/memory_model.h"
#include "train/distill.h"

#define OWN_ROLES (FACET_ROLES_VECTOR & ~FACET_ROLE_BIT(FACET_ROLE_K_NORM))

enum { D = 40, F = 72, LAYERS = 3, KEPT = 36, N_TRAIN = 12, N_JUDGE = 4, MOST = 400, VOCAB = 4500 };

typedef struct world {
    facet_model *model;
    uint32_t kept[KEPT];
    float down[LAYERS][KEPT * D], bias[LAYERS][D];
    facet_distill_layer layers[LAYERS];
    uint32_t tokens[2][MOST], lengths[2][N_TRAIN];
    facet_samples train, judge;
    facet_vectors own;
    facet_distill_data data;
} world;

// Ragged samples from few ids, so that what is learnt holds for others.
static facet_samples samples_fill(world *w, int which, uint32_t n)
{
    facet_random random = facet_random_seed(30 + (uint64_t)which);
    uint64_t n_tokens = 0;
    for (uint32_t i = 0; i < n; i++) {
        w->lengths[which][i] = i == 1 ? 1 : 10 + 2 * i;
        n_tokens += w->lengths[which][i];
    }
    assert_true(n_tokens <= MOST);
    for (uint64_t t = 0; t < n_tokens; t++)
        w->tokens[which][t] = (uint32_t)facet_random_below(&random, 12);
    return (facet_samples){
        .tokens = w->tokens[which], .lengths = w->lengths[which], .n = n, .n_tokens = n_tokens};
}

static world *world_new(facet_memory_kind kind)
{
    world *w = calloc(1, sizeof *w);
    w->model = facet_memory_model_new(kind, 40);
    for (uint32_t i = 0; i < KEPT; i++)
        w->kept[i] = 2 * i + (i % 3 == 0);
    for (uint32_t layer = 0; layer < LAYERS; layer++) {
        const float *down = facet_memory_model_data(w->model, FACET_ROLE_DOWN, layer);
        for (size_t i = 0; i < KEPT; i++)
            for (size_t j = 0; j < D; j++)
                w->down[layer][i * D + j] = down[j * F + w->kept[i]];
        w->layers[layer] = (facet_distill_layer){w->kept, KEPT, w->down[layer], w->bias[layer]};
    }
    w->layers[1].n_kept = 0;
    w->train = samples_fill(w, 0, N_TRAIN);
    w->judge = samples_fill(w, 1, N_JUDGE);
    assert_int_equal(facet_vectors_init(&w->own, w->model, OWN_ROLES, NULL, NULL), FACET_OK);
    w->data = (facet_distill_data){.model = w->model,
                                   .layers = w->layers,
                                   .train = &w->train,
                                   .judge = &w->judge,
                                   .own = &w->own};
    return w;
}

static void world_free(world *w)
{
    facet_vectors_fini(&w->own);
    facet_memory_model_free(w->model);
    free(w);
}

static bool same_vector(const world *a, const world *b, uint32_t role, uint32_t layer)
{
    const facet_vector x = facet_vectors_get(&a->own, role, layer);
    const facet_vector y = facet_vectors_get(&b->own, role, layer);
    assert_int_equal(x.n, y.n);
    return memcmp(x.data, y.data, x.n * sizeof *x.data) == 0;
}

// Rows, biases and vectors are equal bit by bit.
static void assert_same(const world *a, const world *b)
{
    assert_memory_equal(a->down, b->down, sizeof a->down);
    assert_memory_equal(a->bias, b->bias, sizeof a->bias);
    assert_int_equal(a->own.roles, b->own.roles);
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        for (uint32_t role = 0; role < FACET_ROLE_COUNT; role++)
            if (a->own.roles & FACET_ROLE_BIT(role)) assert_true(same_vector(a, b, role, layer));
}

static facet_distill_opts opts_of(uint32_t n_threads)
{
    facet_distill_opts opts = FACET_DISTILL_OPTS_DEFAULT;
    opts.epochs = 6;
    opts.batch_tokens = 64;
    opts.rate = 0.02;
    opts.seed = 9;
    opts.n_threads = n_threads;
    return opts;
}

// What a judging token counts: an eighth when it only leads on in a prompt that has an answer, and
// nothing when dense reads the prompt.
static double token_weight(const world *w, uint64_t token)
{
    const facet_samples *samples = &w->judge;
    uint64_t first = 0;
    uint32_t i = 0;
    while (first + samples->lengths[i] <= token)
        first += samples->lengths[i++];
    const uint32_t answer = samples->answers ? samples->answers[i] : samples->lengths[i];
    if (w->data.dense_prompts && answer < samples->lengths[i]) return token - first >= answer;
    return answer < samples->lengths[i] && token - first + 1 < answer ? 0.125 : 1;
}

// Mean KL of the judging tokens, from calib's logits.
static double divergence(const world *w)
{
    facet_stream *streams[2];
    float *logits[2];
    double sum = 0, weight = 0;
    for (int own = 0; own < 2; own++) {
        logits[own] = calloc(VOCAB, sizeof(float));
        assert_int_equal(facet_stream_new(w->model, &w->judge, NULL, &streams[own], NULL),
                         FACET_OK);
        if (own) facet_stream_own(streams[own], w->data.own, w->data.dense_prompts);
    }
    for (uint32_t layer = 0; layer < LAYERS; layer++) {
        const facet_ffn_custom custom = {w->kept, w->layers[layer].n_kept, w->down[layer],
                                         w->bias[layer]};
        for (int own = 0; own < 2; own++) {
            assert_int_equal(facet_stream_attn(streams[own], NULL), FACET_OK);
            assert_int_equal(own ? facet_stream_ffn_custom(streams[own], &custom, NULL)
                                 : facet_stream_ffn(streams[own], NULL, NULL, NULL),
                             FACET_OK);
        }
        if (w->data.dense_prompts) facet_stream_prompts(streams[1], facet_stream_x(streams[0]));
    }
    for (uint64_t t = 0; t < w->judge.n_tokens; t++) {
        double norm[2] = {0}, kl = 0;
        for (int own = 0; own < 2; own++) {
            assert_int_equal(facet_stream_logits(streams[own], t, logits[own], NULL), FACET_OK);
            for (size_t v = 0; v < VOCAB; v++)
                norm[own] += exp((double)logits[own][v]);
        }
        for (size_t v = 0; v < VOCAB; v++)
            kl += exp((double)logits[0][v]) / norm[0] *
                  ((double)logits[0][v] - log(norm[0]) - (double)logits[1][v] + log(norm[1]));
        sum += token_weight(w, t) * kl;
        weight += token_weight(w, t);
    }
    for (int own = 0; own < 2; own++) {
        facet_stream_free(streams[own]);
        free(logits[own]);
    }
    return sum / weight;
}

static void test_improves(void **state)
{
    (void)state;
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++) {
        world *w = world_new((facet_memory_kind)kind);
        const facet_distill_opts opts = opts_of(2);
        facet_distill_result result = {0};
        const double before = divergence(w);
        assert_int_equal(facet_distill(&w->data, &opts, &result, NULL), FACET_OK);
        print_message("kind %d: KL %.4f to %.4f, best of %u steps: %u\n", kind, result.before,
                      result.after, (unsigned)result.steps, (unsigned)result.best_step);
        assert_true(fabs(result.before - before) < 1e-5 * before);
        assert_true(fabs(result.after - divergence(w)) < 1e-5 * before);
        assert_true(result.after < 0.97 * result.before);
        assert_true(result.best_step > 0 && result.best_step <= result.steps);
        assert_int_equal(result.tokens, 6 * w->train.n_tokens);
        world_free(w);
    }
}

// Every vector of one's own learns, also behind layers without channels, and a model without them
// stays further away.
static void test_own(void **state)
{
    (void)state;
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++) {
        world *w = world_new((facet_memory_kind)kind),
              *without = world_new((facet_memory_kind)kind);
        world *before = world_new((facet_memory_kind)kind);
        const facet_distill_opts opts = opts_of(2);
        facet_distill_result result = {0}, other = {0};
        without->data.own = NULL;
        assert_int_equal(facet_distill(&w->data, &opts, &result, NULL), FACET_OK);
        assert_int_equal(facet_distill(&without->data, &opts, &other, NULL), FACET_OK);
        print_message("kind %d: KL %.4f to %.4f, without own vectors %.4f\n", kind, result.before,
                      result.after, other.after);
        assert_true(result.before == other.before && result.after < other.after);
        assert_true(fabs(other.after - divergence(without)) < 1e-5 * other.before);
        for (uint32_t layer = 0; layer < LAYERS; layer++)
            for (uint32_t role = 0; role < FACET_ROLE_COUNT; role++) {
                if (!(w->own.roles & FACET_ROLE_BIT(role))) continue;
                // Without channels the input of a layer's FFN does not matter.
                const bool dead = role == FACET_ROLE_FFN_NORM && w->layers[layer].n_kept == 0;
                assert_int_equal(same_vector(w, before, role, layer), dead);
                assert_true(same_vector(without, before, role, layer));
            }
        world_free(w);
        world_free(without);
        world_free(before);
    }
}

// It starts from the vectors that it is given, not from the model's.
static void test_start(void **state)
{
    (void)state;
    world *w = world_new(FACET_MEMORY_GEMMA);
    facet_distill_opts opts = opts_of(2);
    facet_distill_result result = {0};
    opts.max_steps = 2;
    for (uint32_t i = 0; i < D; i++)
        facet_vectors_get(&w->own, FACET_ROLE_OUT_NORM, 0).data[i] *= 1.5f;
    const double before = divergence(w);
    assert_int_equal(facet_distill(&w->data, &opts, &result, NULL), FACET_OK);
    assert_true(fabs(result.before - before) < 1e-5 * before);
    world_free(w);
}

// Two runs, and one, two, three threads: the same bits.
static void test_same(void **state)
{
    (void)state;
    const uint32_t threads[] = {1, 1, 2, 3};
    world *first = NULL;
    facet_distill_result expected = {0};
    for (size_t i = 0; i < FACET_COUNT_OF(threads); i++) {
        world *w = world_new(FACET_MEMORY_GEMMA);
        const facet_distill_opts opts = opts_of(threads[i]);
        facet_distill_result result = {0};
        assert_int_equal(facet_distill(&w->data, &opts, &result, NULL), FACET_OK);
        if (!first) {
            first = w;
            expected = result;
            continue;
        }
        assert_true(result.before == expected.before && result.after == expected.after);
        assert_same(w, first);
        world_free(w);
    }
    world_free(first);
}

static void count_warning(void *ctx, facet_level level, const char *text)
{
    (void)text;
    *(int *)ctx += level == FACET_LOG_WARN;
}

// Where nothing gets better, what comes out is what went in: no steps, or steps of harm. Numbers
// that are not finite are borne twice, each at a lower rate.
static void test_never_worse(void **state)
{
    (void)state;
    const double rates[] = {0, 1e4, 1e30};
    for (size_t i = 0; i < FACET_COUNT_OF(rates); i++) {
        int n_warnings = 0;
        const facet_report report = {.ctx = &n_warnings, .log = count_warning};
        world *w = world_new(FACET_MEMORY_QWEN2), *before = world_new(FACET_MEMORY_QWEN2);
        facet_distill_opts opts = opts_of(2);
        opts.rate = rates[i];
        opts.max_steps = 9;
        opts.report = &report;
        facet_distill_result result = {0};
        assert_int_equal(facet_distill(&w->data, &opts, &result, NULL), FACET_OK);
        assert_true(result.after == result.before && result.best_step == 0);
        if (rates[i] > 1e9) assert_int_equal(n_warnings, 3);
        if (rates[i] > 1e9) assert_true(result.rate == rates[i] / 64);
        assert_same(w, before);
        world_free(w);
        world_free(before);
    }
}

// A rate that does harm is given up, and what is left of the run gains all the same.
static void test_calmer(void **state)
{
    (void)state;
    world *w = world_new(FACET_MEMORY_LLAMA);
    facet_distill_opts opts = opts_of(2);
    facet_distill_result result = {0};
    opts.rate = 0.5;
    assert_int_equal(facet_distill(&w->data, &opts, &result, NULL), FACET_OK);
    print_message("rate %g to %g: KL %.4f to %.4f\n", opts.rate, result.rate, result.before,
                  result.after);
    assert_true(result.rate <= opts.rate / 4);
    assert_true(result.after < 0.97 * result.before);
    assert_true(fabs(result.after - divergence(w)) < 1e-5 * result.before);
    world_free(w);
}

static bool stop_later(void *ctx)
{
    return --*(int *)ctx < 0;
}

static void test_interrupt(void **state)
{
    (void)state;
    int n_stopped = 0;
    for (int after = 0; after < 200; after += 7) {
        world *w = world_new(FACET_MEMORY_LLAMA), *before = world_new(FACET_MEMORY_LLAMA);
        int left = after;
        const facet_report report = {.ctx = &left, .cancelled = stop_later};
        facet_distill_opts opts = opts_of(1);
        opts.report = &report;
        opts.max_steps = 4;
        const facet_status status = facet_distill(&w->data, &opts, NULL, NULL);
        if (status != FACET_OK) {
            n_stopped++;
            assert_int_equal(status, FACET_INTERRUPTED);
            if (after < 14) assert_same(w, before);
            assert_true(divergence(w) < (1 + 1e-5) * divergence(before));
        }
        world_free(w);
        world_free(before);
    }
    assert_true(n_stopped > 3 && n_stopped < 29);
}

// Answers of some samples are known, one of them from its first token on.
static void check_answers(facet_memory_kind kind, bool dense_prompts)
{
    world *w = world_new(kind);
    uint32_t judge[N_JUDGE], train[N_TRAIN];
    memcpy(judge, w->judge.lengths, sizeof judge);
    memcpy(train, w->train.lengths, sizeof train);
    judge[2] = 9;
    judge[3] = 0;
    train[5] = 14;
    train[8] = 20;
    const double before = divergence(w);
    w->judge.answers = judge;
    w->train.answers = train;
    w->data.dense_prompts = dense_prompts;
    const double weighted = divergence(w);
    assert_true(fabs(weighted - before) > 1e-4 * before);
    const facet_distill_opts opts = opts_of(2);
    facet_distill_result result;
    assert_int_equal(facet_distill(&w->data, &opts, &result, NULL), FACET_OK);
    assert_true(fabs(result.before - weighted) < 1e-5 * weighted);
    assert_true(fabs(result.after - divergence(w)) < 1e-5 * weighted);
    assert_true(result.after < result.before);
    assert_int_equal(result.tokens, 6 * (w->train.n_tokens - (dense_prompts ? 34 : 0)));
    world_free(w);
}

static void test_answers(void **state)
{
    (void)state;
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++)
        for (int dense_prompts = 0; dense_prompts < 2; dense_prompts++)
            check_answers((facet_memory_kind)kind, dense_prompts);
}

// All text and no teacher: what is reported is the text's nats over dense's, and training that aims
// at it gains more of it than one that aims at dense.
static void test_text(void **state)
{
    (void)state;
    world *w = world_new(FACET_MEMORY_QWEN3), *other = world_new(FACET_MEMORY_QWEN3);
    facet_distill_opts opts = opts_of(2);
    facet_distill_result text, teacher;
    opts.text = 1;
    assert_int_equal(facet_distill(&w->data, &opts, &text, NULL), FACET_OK);
    assert_true(text.after < text.before);
    opts.text = 0;
    assert_int_equal(facet_distill(&other->data, &opts, &teacher, NULL), FACET_OK);
    opts.text = 1;
    opts.rate = 0;
    assert_int_equal(facet_distill(&other->data, &opts, &teacher, NULL), FACET_OK);
    assert_true(text.after < teacher.before);
    world_free(w);
    world_free(other);
}

static void test_refusals(void **state)
{
    (void)state;
    world *w = world_new(FACET_MEMORY_LLAMA);
    facet_distill_opts opts = opts_of(1);
    opts.batch_tokens = 0;
    assert_int_equal(facet_distill(&w->data, &opts, NULL, NULL), FACET_BAD_INPUT);
    opts = opts_of(1);
    opts.rate = (double)NAN;
    assert_int_equal(facet_distill(&w->data, &opts, NULL, NULL), FACET_BAD_INPUT);
    opts = opts_of(1);
    opts.text = 1.5;
    assert_int_equal(facet_distill(&w->data, &opts, NULL, NULL), FACET_BAD_INPUT);
    opts = opts_of(1);
    const facet_samples none = {0};
    w->data.judge = &none;
    assert_int_equal(facet_distill(&w->data, &opts, NULL, NULL), FACET_BAD_INPUT);
    w->data.judge = &w->judge;
    w->tokens[0][3] = VOCAB;
    assert_int_equal(facet_distill(&w->data, &opts, NULL, NULL), FACET_MISMATCH);
    world_free(w);
}

static void test_memory(void **state)
{
    (void)state;
    world *w = world_new(FACET_MEMORY_LLAMA);
    for (long fail_at = 1;; fail_at++) {
        facet_failing failing;
        facet_failing_init(&failing, fail_at);
        facet_distill_opts opts = opts_of(2);
        opts.max_steps = 1;
        opts.alloc = &failing.alloc;
        const facet_status status = facet_distill(&w->data, &opts, NULL, NULL);
        assert_int_equal(atomic_load(&failing.alive), 0);
        if (status == FACET_OK) break;
        assert_int_equal(status, FACET_NO_MEMORY);
    }
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_improves),    cmocka_unit_test(test_own),
        cmocka_unit_test(test_start),       cmocka_unit_test(test_same),
        cmocka_unit_test(test_never_worse), cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_answers),     cmocka_unit_test(test_calmer),
        cmocka_unit_test(test_text),        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
