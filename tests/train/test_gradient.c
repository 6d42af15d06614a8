// SPDX-License-Identifier: Apache-2.0
// The gradient of every parameter, in double, against central differences along a random direction
// and along one coordinate; and that training fewer roles computes the same gradients.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "tests/support/memory_model.h"
#include "train/step.h"

enum { MOST_TOKENS = 160, D = 40, F = 72, LAYERS = 3, VOCAB = 4500, FEW_IDS = 300 };

// Ragged: one token, none, more than a block of queries, fewer than a window.
static const uint32_t long_lengths[] = {1, 0, 135, 5, 9};
static const uint32_t short_lengths[] = {1, 12, 3};
// What stands before them: nothing, a part of a window, more than one.
static const uint32_t long_prompts[] = {7, 3, 0, 155, 20};
static const uint32_t short_prompts[] = {5, 0, 40};
static const size_t prompt_places[] = {170, 9, 30, 12, 60}; // they may overlap
enum { PROMPT_TOKENS = 180 };

static const uint32_t few[] = {3, 9, 10, 31, 50, 51, 71};
static float bias[D];
static const facet_ffn_custom pruned[LAYERS] = {{.kept = few, .n_kept = 7, .bias = bias},
                                                {.kept = few, .n_kept = 0, .bias = bias},
                                                {.kept = few + 3, .n_kept = 1, .bias = bias}};

typedef struct world {
    facet_model *model;
    facet_pool *pool;
    facet_net *net;
    facet_step *step;
    facet_batch batch;
    uint32_t tokens[MOST_TOKENS], targets[MOST_TOKENS];
    facet_real weights[MOST_TOKENS], teacher[MOST_TOKENS * D];
    facet_prompts prompts;
    facet_real *keys; // and values
    facet_vocabulary *part;
} world;

// Most checks run on the first ids only: they need thousands of losses. The whole vocabulary is
// several parts of the head's products.
static void vocabulary_cut(facet_model *model)
{
    model->hp.n_vocab = FEW_IDS;
    for (uint32_t i = 0; i < model->n_tensors; i++)
        if (model->tensors[i].dims[1] == VOCAB) model->tensors[i].dims[1] = FEW_IDS;
}

typedef struct setting {
    facet_memory_kind kind;
    const facet_ffn_custom *custom;
    bool distill, long_samples, prompts, part;
    facet_real text; // beside the teacher
    uint32_t train;
} setting;

// Factors as in Llama 3, so that the rotary tables differ from the plain ones.
static const float factors[] = {1, 1, 1.5f, 2, 4, 8};

static void world_fill(world *w, const setting *s)
{
    facet_random random = facet_random_seed(11);
    for (uint32_t j = 0; j < D; j++)
        bias[j] = (float)(0.3 * facet_random_normal(&random));
    const uint32_t n_ids = s->long_samples ? VOCAB : FEW_IDS;
    const uint32_t *lengths = s->long_samples ? long_lengths : short_lengths;
    const uint32_t n =
        s->long_samples ? FACET_COUNT_OF(long_lengths) : FACET_COUNT_OF(short_lengths);
    w->batch = (facet_batch){.tokens = w->tokens,
                             .lengths = lengths,
                             .n = n,
                             .weights = w->weights,
                             .scale = 0.25,
                             .backward = true};
    for (uint32_t i = 0; i < n; i++)
        w->batch.n_tokens += lengths[i];
    assert_true(w->batch.n_tokens <= MOST_TOKENS);
    for (uint32_t t = 0; t < w->batch.n_tokens; t++) {
        w->tokens[t] = (uint32_t)facet_random_below(&random, t % 3 == 0 ? 5 : n_ids);
        w->targets[t] = (uint32_t)facet_random_below(&random, n_ids);
        if (s->text > 0 && t % 5 == 2) w->targets[t] = FACET_NO_TARGET;
        w->weights[t] = t % 4 == 1 ? 0 : facet_random_unit(&random) + 0.5;
        for (uint32_t j = 0; j < D; j++)
            w->teacher[t * D + j] = facet_random_normal(&random);
    }
    if (s->distill) w->batch.teacher = w->teacher;
    if (!s->distill || s->text > 0) w->batch.targets = w->targets;
    w->batch.text = s->text;
}

static void prompts_fill(world *w, const setting *s)
{
    const facet_hparams *hp = &w->model->hp;
    const size_t n = (size_t)LAYERS * PROMPT_TOKENS * hp->n_kv_heads * hp->head_dim;
    facet_random random = facet_random_seed(12);
    w->keys = calloc(2 * n, sizeof *w->keys);
    for (size_t i = 0; i < 2 * n; i++)
        w->keys[i] = facet_random_normal(&random);
    w->prompts = (facet_prompts){.keys = w->keys,
                                 .values = w->keys + n,
                                 .n_tokens = PROMPT_TOKENS,
                                 .lengths = s->long_samples ? long_prompts : short_prompts,
                                 .first = prompt_places};
    w->batch.prompts = &w->prompts;
}

// A part of the vocabulary that has the targets.
static void part_fill(world *w)
{
    uint32_t list[MOST_TOKENS], n = 0;
    for (uint32_t t = 0; t < w->batch.n_tokens; t++)
        if (w->targets[t] != FACET_NO_TARGET) list[n++] = w->targets[t];
    const facet_samples samples = {.tokens = list, .lengths = &n, .n = 1, .n_tokens = n};
    assert_int_equal(facet_vocabulary_new(w->net, &samples, 3, 8, NULL, &w->part, NULL), FACET_OK);
    w->batch.vocabulary = w->part;
}

static world *world_new(const setting *s)
{
    world *w = calloc(1, sizeof *w);
    facet_err err = {0};
    world_fill(w, s);
    w->model = facet_memory_model_new(s->kind, 21);
    if (!s->long_samples) vocabulary_cut(w->model);
    if (s->kind == FACET_MEMORY_LLAMA) w->model->rope_factors = factors;
    if (s->prompts) prompts_fill(w, s);
    assert_int_equal(facet_pool_new(2, NULL, &w->pool, &err), FACET_OK);
    const facet_net_opts opts = {.custom = s->custom, .train = s->train, .pool = w->pool};
    assert_int_equal(facet_net_new(w->model, &opts, &w->net, &err), FACET_OK);
    // Logits of seven tokens at a time: a batch is several chunks, the last one shorter.
    const facet_step_opts step_opts = {.max_tokens = MOST_TOKENS,
                                       .longest = MOST_TOKENS,
                                       .distill = s->distill,
                                       .logits_bytes = (s->distill ? 14 : 7) * sizeof(facet_real) *
                                                       w->model->hp.n_vocab,
                                       .pool = w->pool};
    assert_int_equal(facet_step_new(w->net, &step_opts, &w->step, &err), FACET_OK);
    if (s->part) part_fill(w);
    return w;
}

static void world_free(world *w)
{
    facet_vocabulary_free(w->part);
    facet_step_free(w->step);
    facet_net_free(w->net);
    facet_pool_free(w->pool);
    facet_memory_model_free(w->model);
    free(w->keys);
    free(w);
}

static double loss_of(world *w, bool backward)
{
    double loss;
    facet_err err = {0};
    w->batch.backward = backward;
    assert_int_equal(facet_step_run(w->step, &w->batch, &loss, &err), FACET_OK);
    return w->batch.scale * loss;
}

// The loss where a parameter has moved by `by` along a direction.
static double loss_at(world *w, facet_param *param, const facet_real *direction, double by)
{
    const size_t n = facet_param_size(param);
    for (size_t i = 0; i < n; i++)
        param->value[i] += by * direction[i];
    const double loss = loss_of(w, false);
    for (size_t i = 0; i < n; i++)
        param->value[i] -= by * direction[i];
    return loss;
}

// Central differences of fourth order: at this step neither rounding nor the next term reaches 1e-6
// of a slope.
static double slope_along(world *w, facet_param *param, const facet_real *direction)
{
    const double h = 1e-3;
    const double near = loss_at(w, param, direction, h) - loss_at(w, param, direction, -h);
    const double far = loss_at(w, param, direction, 2 * h) - loss_at(w, param, direction, -2 * h);
    return (8 * near - far) / (12 * h);
}

static double length_of(const facet_real *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

static void param_check(world *w, facet_param *param, facet_random *random)
{
    const size_t n = facet_param_size(param);
    if (n == 0) return;
    facet_real *direction = calloc(n, sizeof *direction);
    const double size = length_of(param->grad, n);
    for (int one = 0; one < 2; one++) {
        size_t largest = 0;
        double expected = 0;
        for (size_t i = 0; i < n; i++) {
            direction[i] = one ? 0 : facet_random_normal(random);
            if (fabs(param->grad[i]) > fabs(param->grad[largest])) largest = i;
        }
        direction[largest] += 1;
        const double length = length_of(direction, n);
        for (size_t i = 0; i < n; i++) {
            direction[i] /= length;
            expected += param->grad[i] * direction[i];
        }
        const double slope = slope_along(w, param, direction);
        const double error = fabs(slope - expected),
                     bound = 1e-6 * fmax(fabs(expected), size * 0.1);
        if (!(error <= bound + 1e-9))
            fail_msg("role %u layer %u: gradient %.12g, differences %.12g", (unsigned)param->role,
                     (unsigned)param->layer, expected, slope);
        // Softmax does not feel a bias of the keys; an FFN without channels does not feel its
        // input.
        if (param->role != FACET_ROLE_K_BIAS && param->role != FACET_ROLE_FFN_NORM)
            assert_true(size > 1e-6);
    }
    free(direction);
}

static void setting_check(const setting *s)
{
    world *w = world_new(s);
    facet_random random = facet_random_seed(5);
    loss_of(w, true);
    uint32_t n_checked = 0;
    for (uint32_t i = 0; i < w->net->n_params; i++) {
        facet_param *param = &w->net->params[i];
        assert_true(!param->grad == !(s->train & FACET_PARAM_BIT(param->role)));
        if (!param->grad) continue;
        // A teacher's logits move with the head, which its gradient does not count.
        if (s->distill && param == facet_net_param(w->net, FACET_ROLE_HEAD, 0)) continue;
        param_check(w, param, &random);
        n_checked++;
    }
    assert_true(n_checked >= 3);
    world_free(w);
}

static void test_all_parameters(void **state)
{
    (void)state;
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++)
        for (int distill = 0; distill < 2; distill++)
            setting_check(&(setting){
                .kind = (facet_memory_kind)kind, .distill = distill, .train = FACET_PARAM_ALL});
}

static void test_pruned(void **state)
{
    (void)state;
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++)
        setting_check(&(setting){.kind = (facet_memory_kind)kind,
                                 .custom = pruned,
                                 .distill = true,
                                 .text = kind % 2 ? 0.3 : 0,
                                 .train = FACET_PARAM_ALL});
}

// More than one block of queries, windows that leave keys out, pruned down rows alone.
static void test_long_samples(void **state)
{
    (void)state;
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++)
        setting_check(&(setting){.kind = (facet_memory_kind)kind,
                                 .custom = pruned,
                                 .distill = kind % 2,
                                 .long_samples = true,
                                 .train = FACET_PARAM_DOWN_BOTH |
                                          FACET_PARAM_BIT(FACET_ROLE_ATTN_NORM) |
                                          FACET_PARAM_BIT(FACET_ROLE_K)});
}

// Prompts that nobody here reads: positions, windows and keys begin in them.
static void test_prompts(void **state)
{
    (void)state;
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++)
        for (int is_long = 0; is_long < 2; is_long++)
            setting_check(
                &(setting){.kind = (facet_memory_kind)kind,
                           .custom = pruned,
                           .distill = kind % 2,
                           .long_samples = is_long,
                           .prompts = true,
                           .train = FACET_PARAM_DOWN_BOTH | FACET_PARAM_BIT(FACET_ROLE_ATTN_NORM) |
                                    FACET_PARAM_BIT(FACET_ROLE_K) | FACET_PARAM_BIT(FACET_ROLE_V)});
}

// A loss over part of the vocabulary, of fewer parts than the whole head's when it is long.
static void test_part(void **state)
{
    (void)state;
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++)
        setting_check(&(setting){.kind = (facet_memory_kind)kind,
                                 .custom = pruned,
                                 .distill = true,
                                 .text = kind % 2 ? 0.3 : 0.7,
                                 .long_samples = kind == 1,
                                 .part = true,
                                 .train = FACET_PARAM_DOWN_BOTH |
                                          FACET_PARAM_BIT(FACET_ROLE_OUT_NORM) |
                                          FACET_PARAM_BIT(FACET_ROLE_FFN_NORM)});
}

// What is computed for some roles is what is computed for all, to rounding: nothing is cut off that
// a trained parameter needs.
static void test_roles_alone(void **state)
{
    (void)state;
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++) {
        setting s = {.kind = (facet_memory_kind)kind, .custom = pruned, .train = FACET_PARAM_ALL};
        world *all = world_new(&s);
        const double loss = loss_of(all, true);
        for (uint32_t role = 0; role < FACET_PARAM_ROLES; role++) {
            s.train = FACET_PARAM_BIT(role);
            world *alone = world_new(&s);
            assert_true(fabs(loss_of(alone, true) - loss) < 1e-9);
            for (uint32_t i = 0; i < alone->net->n_params; i++) {
                const facet_param *a = &alone->net->params[i];
                if (!a->grad) continue;
                const facet_param *b = facet_net_param(all->net, a->role, a->layer);
                for (size_t j = 0; j < facet_param_size(a); j++)
                    assert_true(fabs(a->grad[j] - b->grad[j]) <= 1e-12 * (1 + fabs(b->grad[j])));
            }
            world_free(alone);
        }
        world_free(all);
    }
}

// Gradients add up: two half batches give what the whole gives.
static void test_accumulation(void **state)
{
    (void)state;
    const setting s = {.kind = FACET_MEMORY_QWEN3, .distill = true, .train = FACET_PARAM_ALL};
    world *whole = world_new(&s), *parts = world_new(&s);
    const double loss = loss_of(whole, true);
    const facet_batch batch = parts->batch;
    parts->batch.n = 2;
    parts->batch.n_tokens = batch.lengths[0] + batch.lengths[1];
    double sum = loss_of(parts, true);
    const uint32_t first = parts->batch.n_tokens;
    parts->batch = batch;
    parts->batch.n -= 2;
    parts->batch.n_tokens -= first;
    parts->batch.lengths += 2;
    parts->batch.tokens += first;
    parts->batch.weights += first;
    parts->batch.teacher += (size_t)first * D;
    sum += loss_of(parts, true);
    assert_true(fabs(sum - loss) < 1e-9);
    for (uint32_t i = 0; i < whole->net->n_params; i++) {
        const facet_param *a = &whole->net->params[i], *b = &parts->net->params[i];
        for (size_t j = 0; j < facet_param_size(a); j++)
            assert_true(fabs(a->grad[j] - b->grad[j]) < 1e-10);
    }
    facet_net_zero(parts->net);
    for (uint32_t i = 0; i < parts->net->n_params; i++)
        assert_true(
            length_of(parts->net->params[i].grad, facet_param_size(&parts->net->params[i])) == 0);
    world_free(whole);
    world_free(parts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_parameters), cmocka_unit_test(test_pruned),
        cmocka_unit_test(test_long_samples),   cmocka_unit_test(test_roles_alone),
        cmocka_unit_test(test_accumulation),   cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
