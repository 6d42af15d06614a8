// SPDX-License-Identifier: Apache-2.0
// Sequences that share a step get the bits that each gets alone, whatever their number, lengths,
// order and the number of threads, also when sequences end in between and begin anew; what cannot
// be done changes nothing. Baked kernels: rows.sh.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/tiny_opened.h"

enum { MOST = 16, LONGEST = 24, STEPS = 10, CONTEXT = 96 };

typedef struct fixture {
    tiny_opened o;
    uint32_t texts[MOST][CONTEXT];
    float *alone; // (MOST, CONTEXT, vocab) logits behind each token of each text, read alone
} fixture;

static void ok(facet_status status, const facet_err *err)
{
    if (status != FACET_OK) fail_msg("%s", err->message);
}

static facet_session *session(const fixture *f, const char *family, unsigned threads, uint32_t n)
{
    const facet_session_opts opts = {.n_ctx = CONTEXT, .n_threads = threads, .n_sequences = n};
    facet_session *s = NULL;
    facet_err err;
    ok(facet_session_new(f->o.bundle, family, &opts, &s, &err), &err);
    return s;
}

static float *alone(const fixture *f, uint32_t text, uint32_t place)
{
    return f->alone + ((size_t)text * CONTEXT + place) * f->o.vocab;
}

static void make(fixture *f, const tiny_opts *opts)
{
    tiny_open(&f->o, opts);
    f->alone = malloc(sizeof *f->alone * MOST * CONTEXT * f->o.vocab);
    assert_non_null(f->alone);
    for (uint32_t text = 0; text < MOST; text++)
        for (uint32_t i = 0; i < CONTEXT; i++)
            f->texts[text][i] = (i * i * 11 + i * (5 + text) + text * 37 + 2) % f->o.vocab;
}

// The texts as far as the tests go, token by token in sessions of one sequence.
static void read_alone(const fixture *f, const char *family)
{
    facet_err err;
    facet_session *s = session(f, family, 2, 0);
    for (uint32_t text = 0; text < MOST; text++) {
        ok(facet_session_rewind(s, 0, &err), &err);
        for (uint32_t i = 0; i < LONGEST + STEPS; i++)
            ok(facet_session_step(s, f->texts[text][i], alone(f, text, i), &err), &err);
    }
    facet_session_free(s);
}

static void drop(fixture *f)
{
    free(f->alone);
    tiny_close(&f->o);
}

// A sequence reads another text of another length from its beginning.
static void begin(const fixture *f, facet_session *s, uint32_t sequence, uint32_t text)
{
    facet_err err;
    float logits[1024];
    const uint32_t n = 1 + text * 7 % LONGEST;
    assert_true(f->o.vocab <= 1024);
    ok(facet_session_select(s, sequence, &err), &err);
    ok(facet_session_rewind(s, 0, &err), &err);
    ok(facet_session_prefill(s, f->texts[text], n, logits, &err), &err);
    assert_int_equal(facet_session_length(s), n);
    assert_memory_equal(logits, alone(f, text, n - 1), f->o.vocab * sizeof *logits);
}

// Sequences step together, some of them not every time and in changing order; every fifth step
// one of them ends and its place goes to the next text.
static void compare(const fixture *f, facet_session *s, uint32_t n)
{
    facet_err err;
    uint32_t text[MOST], place[MOST], sequences[MOST], tokens[MOST];
    float *logits = malloc(sizeof *logits * n * f->o.vocab);
    assert_non_null(logits);
    for (uint32_t i = 0; i < n; i++) {
        begin(f, s, i, text[i] = i);
        place[i] = 1 + i * 7 % LONGEST;
    }
    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t count = 0;
        for (uint32_t k = 0; k < n; k++) {
            const uint32_t i = (k * (n > 3 ? n - 1 : 1) + step) % n;
            if (n > 1 && (i + step) % 4 == 3) continue;
            sequences[count] = i;
            tokens[count++] = f->texts[text[i]][place[i]];
        }
        if (count == 0) continue;
        ok(facet_session_step_batch(s, count, sequences, tokens, logits, &err), &err);
        for (uint32_t k = 0; k < count; k++) {
            const uint32_t i = sequences[k];
            assert_memory_equal(logits + (size_t)k * f->o.vocab, alone(f, text[i], place[i]),
                                f->o.vocab * sizeof *logits);
            place[i]++;
        }
        if (step % 5 != 4) continue;
        const uint32_t i = step / 5 % n;
        text[i] = (text[i] + n) % MOST;
        begin(f, s, i, text[i]);
        place[i] = 1 + text[i] * 7 % LONGEST;
    }
    free(logits);
}

static void compare_all(const tiny_opts *opts)
{
    static const uint32_t counts[] = {1, 2, 3, 7, 16};
    static const char *const families[] = {"dense", "some"};
    fixture f;
    make(&f, opts);
    for (size_t family = 0; family < 2; family++) {
        read_alone(&f, families[family]);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            for (unsigned threads = 1; threads <= 3; threads++) {
                facet_session *s = session(&f, families[family], threads, counts[i]);
                const long calls = atomic_load(&f.o.memory.calls);
                compare(&f, s, counts[i]);
                assert_int_equal(atomic_load(&f.o.memory.calls), calls);
                facet_session_free(s);
            }
        }
    }
    drop(&f);
}

static void test_float(void **state)
{
    (void)state;
    compare_all(&tiny_plain);
}

static void test_quantised(void **state)
{
    (void)state;
    compare_all(&tiny_quantised);
}

// Each sequence draws by its own sampler what it draws alone; without samplers, greedily.
static void compare_draws(const fixture *f, bool greedy)
{
    enum { N = 3 };
    static const uint32_t sequences[N] = {2, 0, 1};
    static const facet_sampler all[N] = {{.temperature = 0.8f, .state = 3},
                                         {.temperature = 1.5f, .top_k = 9, .state = 4},
                                         {.temperature = 1.1f, .top_p = 0.8f, .state = 5}};
    facet_err err;
    facet_session *together = session(f, "some", 2, N), *single = session(f, "some", 1, 1);
    facet_sampler samplers[N];
    uint32_t drawn[STEPS][N], ids[N] = {5, 6, 7};
    memcpy(samplers, all, sizeof all);
    for (uint32_t step = 0; step < STEPS; step++) {
        ok(facet_session_next_batch(together, N, sequences, ids, greedy ? NULL : samplers, ids,
                                    &err),
           &err);
        memcpy(drawn[step], ids, sizeof ids);
    }
    for (uint32_t i = 0; i < N; i++) {
        facet_sampler own = all[i];
        uint32_t id = 5 + i;
        ok(facet_session_rewind(single, 0, &err), &err);
        for (uint32_t step = 0; step < STEPS; step++) {
            ok(facet_session_next(single, id, greedy ? NULL : &own, &id, &err), &err);
            assert_int_equal(id, drawn[step][i]);
        }
    }
    facet_session_free(together);
    facet_session_free(single);
}

static void test_draws(void **state)
{
    (void)state;
    fixture f;
    make(&f, &tiny_quantised);
    compare_draws(&f, false);
    compare_draws(&f, true);
    drop(&f);
}

static void refuse(facet_session *s, uint32_t n, const uint32_t *sequences, const uint32_t *tokens,
                   const char *words)
{
    facet_err err;
    uint32_t ids[3];
    assert_int_equal(facet_session_step_batch(s, n, sequences, tokens, NULL, &err),
                     FACET_BAD_INPUT);
    assert_non_null(strstr(err.message, words));
    assert_int_equal(facet_session_next_batch(s, n, sequences, tokens, NULL, ids, &err),
                     FACET_BAD_INPUT);
    assert_non_null(strstr(err.message, words));
}

// What is refused leaves every length, the current sequence and what follows as they were.
static void test_bad_input(void **state)
{
    (void)state;
    fixture f;
    facet_err err;
    make(&f, &tiny_plain);
    read_alone(&f, "dense");
    facet_session *s = session(&f, "dense", 2, 3);
    begin(&f, s, 2, 2);
    begin(&f, s, 0, 0);
    const uint32_t length = facet_session_length(s), place = 1 + 2 * 7 % LONGEST;
    ok(facet_session_select(s, 1, &err), &err);
    ok(facet_session_prefill(s, f.texts[1], CONTEXT, NULL, &err), &err);
    ok(facet_session_select(s, 0, &err), &err);
    const uint32_t good[] = {0, 2}, twice[] = {2, 2}, none[] = {2, 3}, full[] = {0, 1};
    const uint32_t tokens[] = {1, 2}, unknown[] = {1, f.o.vocab};
    refuse(s, 0, good, tokens, "none");
    refuse(s, 2, twice, tokens, "sequence 2: is named twice");
    refuse(s, 2, none, tokens, "sequence 3: the session has 3");
    refuse(s, 2, full, tokens, "sequence 1: its context of 96 tokens is full");
    refuse(s, 2, good, unknown, "at place 1");
    assert_int_equal(facet_session_select(s, 3, &err), FACET_BAD_INPUT);
    assert_int_equal(facet_session_length(s), length);
    float *logits = malloc(2 * sizeof *logits * f.o.vocab);
    assert_non_null(logits);
    const uint32_t next[] = {f.texts[0][length], f.texts[2][place]};
    ok(facet_session_step_batch(s, 2, good, next, logits, &err), &err);
    assert_memory_equal(logits, alone(&f, 0, length), f.o.vocab * sizeof *logits);
    assert_memory_equal(logits + f.o.vocab, alone(&f, 2, place), f.o.vocab * sizeof *logits);
    assert_int_equal(facet_session_length(s), length + 1);
    free(logits);
    facet_session_free(s);
    const facet_session_opts opts = {.n_ctx = 8, .n_sequences = FACET_SEQUENCES_MAX + 1};
    assert_int_equal(facet_session_new(f.o.bundle, "dense", &opts, &s, &err), FACET_BAD_INPUT);
    drop(&f);
}

// As many as a session holds.
static void test_most(void **state)
{
    (void)state;
    fixture f;
    facet_err err;
    make(&f, &tiny_quantised);
    read_alone(&f, "some");
    facet_session *s = session(&f, "some", 2, FACET_SEQUENCES_MAX);
    uint32_t sequences[FACET_SEQUENCES_MAX], tokens[FACET_SEQUENCES_MAX];
    float *logits = malloc(sizeof *logits * FACET_SEQUENCES_MAX * f.o.vocab);
    assert_non_null(logits);
    for (uint32_t place = 0; place < 3; place++) {
        for (uint32_t i = 0; i < FACET_SEQUENCES_MAX; i++) {
            sequences[i] = FACET_SEQUENCES_MAX - 1 - i;
            tokens[i] = f.texts[sequences[i] % MOST][place];
        }
        ok(facet_session_step_batch(s, FACET_SEQUENCES_MAX, sequences, tokens, logits, &err), &err);
        for (uint32_t i = 0; i < FACET_SEQUENCES_MAX; i++)
            assert_memory_equal(logits + (size_t)i * f.o.vocab,
                                alone(&f, sequences[i] % MOST, place), f.o.vocab * sizeof *logits);
    }
    free(logits);
    facet_session_free(s);
    drop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float), cmocka_unit_test(test_quantised),
        cmocka_unit_test(test_draws), cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
