// SPDX-License-Identifier: Apache-2.0
// Part of the vocabulary: which rows it has and what they stand for; a step's loss over it against
// plain loops in double, and over all of it against a step without; what a step refuses.
// test_gradient has the gradients.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "tests/support/failing.h"
#include "tests/support/memory_model.h"
#include "train/step.h"

enum { N_TOKENS = 90, D = 40, VOCAB = 4500, ONE_IN = 5 };

static uint32_t tokens[N_TOKENS], targets[N_TOKENS];
static uint32_t lengths[] = {60, 30};
static facet_real teacher[N_TOKENS * D];
static const facet_samples samples = {
    .tokens = tokens, .lengths = lengths, .n = 2, .n_tokens = N_TOKENS};

typedef struct world {
    facet_model *model;
    facet_pool *pool;
    facet_net *net;
    facet_step *step;
    facet_batch batch;
} world;

static void world_init(world *w, uint32_t train)
{
    facet_random random = facet_random_seed(3);
    *w = (world){.model = facet_memory_model_new(FACET_MEMORY_LLAMA, 9)};
    for (uint32_t t = 0; t < N_TOKENS; t++)
        tokens[t] = (uint32_t)facet_random_below(&random, VOCAB);
    for (uint32_t t = 0; t < N_TOKENS; t++)
        targets[t] = t % 7 == 3 ? FACET_NO_TARGET : tokens[(t + 1) % N_TOKENS];
    for (size_t i = 0; i < N_TOKENS * D; i++)
        teacher[i] = (facet_real)facet_random_normal(&random);
    assert_int_equal(facet_pool_new(2, NULL, &w->pool, NULL), FACET_OK);
    const facet_net_opts opts = {.train = train, .pool = w->pool};
    assert_int_equal(facet_net_new(w->model, &opts, &w->net, NULL), FACET_OK);
    // Nine tokens at a time over all of the vocabulary: several chunks, with part of it too.
    const facet_step_opts step = {.max_tokens = N_TOKENS,
                                  .longest = 60,
                                  .distill = true,
                                  .logits_bytes = 18 * VOCAB * sizeof(facet_real),
                                  .pool = w->pool};
    assert_int_equal(facet_step_new(w->net, &step, &w->step, NULL), FACET_OK);
    w->batch = (facet_batch){.tokens = tokens,
                             .lengths = lengths,
                             .n = 2,
                             .n_tokens = N_TOKENS,
                             .targets = targets,
                             .teacher = teacher,
                             .text = 0.25f,
                             .scale = 0.01f,
                             .backward = true};
}

static void world_fini(world *w)
{
    facet_step_free(w->step);
    facet_net_free(w->net);
    facet_pool_free(w->pool);
    facet_memory_model_free(w->model);
}

static facet_vocabulary *part_of(const world *w, uint32_t one_in, uint64_t seed)
{
    facet_vocabulary *part;
    assert_int_equal(facet_vocabulary_new(w->net, &samples, one_in, seed, NULL, &part, NULL),
                     FACET_OK);
    return part;
}

static bool is_text(uint32_t token)
{
    for (uint32_t t = 0; t < N_TOKENS; t++)
        if (tokens[t] == token) return true;
    return false;
}

static void test_rows(void **state)
{
    (void)state;
    world w;
    world_init(&w, FACET_PARAM_DOWN_BOTH);
    const float *head = facet_memory_model_data(w.model, FACET_ROLE_HEAD, 0);
    facet_vocabulary *part = part_of(&w, ONE_IN, 1), *same = part_of(&w, ONE_IN, 1),
                     *other = part_of(&w, ONE_IN, 2);
    uint32_t n_text = 0, n = 0;
    for (uint32_t token = 0; token < VOCAB; token++)
        n_text += is_text(token);
    const uint32_t rest = VOCAB - n_text, drawn = rest / ONE_IN;
    assert_int_equal(part->head.rows, n_text + drawn);
    for (uint32_t token = 0; token < VOCAB; token++) {
        const uint32_t row = part->place[token];
        if (is_text(token)) assert_int_not_equal(row, FACET_NO_PLACE);
        if (row == FACET_NO_PLACE) continue;
        assert_int_equal(row, n++);
        assert_memory_equal(part->head.value + (size_t)row * D, head + (size_t)token * D,
                            D * sizeof *head);
        const double stands = is_text(token) ? 0 : log((double)rest / drawn);
        assert_true(fabs((double)part->stands[row] - stands) < 1e-6);
    }
    assert_int_equal(n, part->head.rows);
    assert_memory_equal(same->place, part->place, sizeof(uint32_t[VOCAB]));
    assert_memory_not_equal(other->place, part->place, sizeof(uint32_t[VOCAB]));
    facet_vocabulary_free(part);
    facet_vocabulary_free(same);
    facet_vocabulary_free(other);
    // Of few others one stands for all.
    part = part_of(&w, 2 * VOCAB, 1);
    assert_int_equal(part->head.rows, n_text + 1);
    facet_vocabulary_free(part);
    world_fini(&w);
}

// log of the sum over the part of e^(logit) of a state, and the logit of a token less it.
static double log_share(const facet_vocabulary *part, const facet_real *state, uint32_t token,
                        double *logits)
{
    double sum = 0;
    for (uint32_t r = 0; r < part->head.rows; r++) {
        logits[r] = (double)part->stands[r];
        for (size_t j = 0; j < D; j++)
            logits[r] += (double)state[j] * (double)part->head.value[r * D + j];
        sum += exp(logits[r]);
    }
    for (uint32_t r = 0; r < part->head.rows; r++)
        logits[r] -= log(sum);
    return token == FACET_NO_TARGET ? 0 : logits[part->place[token]];
}

static void test_loss(void **state)
{
    (void)state;
    world w;
    world_init(&w, FACET_PARAM_DOWN_BOTH);
    facet_vocabulary *part = part_of(&w, ONE_IN, 4);
    double loss, expected = 0, *s = calloc(VOCAB, sizeof *s), *t = calloc(VOCAB, sizeof *t);
    w.batch.vocabulary = part;
    assert_int_equal(facet_step_run(w.step, &w.batch, &loss, NULL), FACET_OK);
    for (size_t i = 0; i < N_TOKENS; i++) {
        const double of_s = log_share(part, facet_step_hidden(w.step) + i * D, targets[i], s);
        const double of_t = log_share(part, teacher + i * D, targets[i], t);
        const double text = targets[i] == FACET_NO_TARGET ? 0 : (double)w.batch.text;
        for (uint32_t r = 0; r < part->head.rows; r++)
            expected += (1 - text) * exp(t[r]) * (t[r] - s[r]);
        expected += text * (of_t - of_s);
    }
    assert_true(expected > 1 && fabs(loss - expected) < 1e-5 * expected);
    free(s);
    free(t);
    // A student that is its teacher has no loss, whatever the part.
    facet_real *own = malloc(sizeof teacher);
    memcpy(own, facet_step_hidden(w.step), sizeof teacher);
    w.batch.teacher = own;
    assert_int_equal(facet_step_run(w.step, &w.batch, &loss, NULL), FACET_OK);
    assert_true(fabs(loss) < 1e-5);
    free(own);
    facet_vocabulary_free(part);
    world_fini(&w);
}

static void test_whole(void **state)
{
    (void)state;
    world w, without;
    double loss, expected;
    world_init(&w, FACET_PARAM_DOWN_BOTH);
    world_init(&without, FACET_PARAM_DOWN_BOTH);
    facet_vocabulary *all = part_of(&w, 1, 4);
    assert_int_equal(all->head.rows, VOCAB);
    w.batch.vocabulary = all;
    assert_int_equal(facet_step_run(w.step, &w.batch, &loss, NULL), FACET_OK);
    assert_int_equal(facet_step_run(without.step, &without.batch, &expected, NULL), FACET_OK);
    assert_true(loss == expected);
    for (uint32_t i = 0; i < w.net->n_params; i++)
        if (w.net->params[i].grad)
            assert_memory_equal(w.net->params[i].grad, without.net->params[i].grad,
                                facet_param_size(&w.net->params[i]) * sizeof(facet_real));
    facet_vocabulary_free(all);
    world_fini(&w);
    world_fini(&without);
}

static void test_refusals(void **state)
{
    (void)state;
    world w;
    double loss;
    world_init(&w, FACET_PARAM_DOWN_BOTH);
    facet_vocabulary *part = part_of(&w, ONE_IN, 4);
    w.batch.vocabulary = part;
    while (part->place[targets[5]] != FACET_NO_PLACE)
        targets[5] = (targets[5] + 1) % VOCAB;
    assert_int_equal(facet_step_run(w.step, &w.batch, &loss, NULL), FACET_MISMATCH);
    facet_vocabulary_free(part);
    tokens[4] = VOCAB;
    assert_int_equal(facet_vocabulary_new(w.net, &samples, ONE_IN, 1, NULL, &part, NULL),
                     FACET_MISMATCH);
    world_fini(&w);
    world_init(&w, FACET_PARAM_BIT(FACET_ROLE_HEAD));
    part = part_of(&w, ONE_IN, 4);
    w.batch.vocabulary = part;
    assert_int_equal(facet_step_run(w.step, &w.batch, &loss, NULL), FACET_BAD_INPUT);
    facet_vocabulary_free(part);
    world_fini(&w);
}

static facet_status make(void *ctx, const facet_alloc *alloc)
{
    const world *w = ctx;
    facet_vocabulary *part = NULL;
    const facet_status status =
        facet_vocabulary_new(w->net, &samples, ONE_IN, 1, alloc, &part, NULL);
    if (status == FACET_OK) facet_vocabulary_free(part);
    return status;
}

static void test_memory(void **state)
{
    (void)state;
    world w;
    world_init(&w, FACET_PARAM_DOWN_BOTH);
    facet_failing_each(make, &w);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),   cmocka_unit_test(test_loss),
        cmocka_unit_test(test_whole),  cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
