// SPDX-License-Identifier: Apache-2.0
// A session that changes family in the middle of a conversation: what the context holds stays as
// the earlier family wrote it, what follows is the later family's, and going there and back leaves
// no trace and costs no memory.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/tiny_opened.h"

enum { TURN = 20, TURNS = 5, TOKENS = TURN * TURNS };

typedef struct fixture {
    tiny_opened o;
    uint32_t tokens[TOKENS];
} fixture;

static void ok(facet_status status, const facet_err *err)
{
    if (status != FACET_OK) fail_msg("%s", err->message);
}

static void make(fixture *f, const tiny_opts *opts)
{
    tiny_open(&f->o, opts);
    for (uint32_t i = 0; i < TOKENS; i++)
        f->tokens[i] = (i * i * 11 + i * 5 + 2) % f->o.vocab;
}

static void drop(fixture *f)
{
    tiny_close(&f->o);
}

static facet_session *session(const fixture *f, const char *family, unsigned threads,
                              const char *prefill)
{
    const facet_session_opts opts = {.n_ctx = TOKENS, .n_threads = threads, .prefill = prefill};
    facet_session *s = NULL;
    facet_err err;
    ok(facet_session_new(f->o.bundle, family, &opts, &s, &err), &err);
    return s;
}

static void become(facet_session *s, const char *family)
{
    facet_err err;
    ok(facet_session_family(s, family, &err), &err);
}

// Steps through n tokens; logits (n, vocab).
static void step(const fixture *f, facet_session *s, uint32_t n, float *logits)
{
    facet_err err;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t token = f->tokens[facet_session_length(s)];
        ok(facet_session_step(s, token, logits + (size_t)i * f->o.vocab, &err), &err);
    }
}

static void prefill(const fixture *f, facet_session *s, uint32_t n, float *logits)
{
    facet_err err;
    ok(facet_session_prefill(s, f->tokens + facet_session_length(s), n, logits, &err), &err);
}

static float *rows(const fixture *f, size_t n)
{
    float *made = malloc(n * f->o.vocab * sizeof *made);
    assert_non_null(made);
    return made;
}

// Every pair of families against a forward pass that shares no code with the runtime, and that also
// tells the pairs apart.
static void test_oracle(void **state)
{
    (void)state;
    fixture f;
    make(&f, &tiny_plain);
    float *got = rows(&f, TURN), *want = rows(&f, 2 * TURN), *other = rows(&f, 2 * TURN);
    for (uint32_t pair = 0; pair < TINY_FAMILIES * TINY_FAMILIES; pair++) {
        const uint32_t first = pair / TINY_FAMILIES, second = pair % TINY_FAMILIES;
        facet_session *s = session(&f, tiny_family_names[first], 2, NULL);
        prefill(&f, s, TURN, NULL);
        become(s, tiny_family_names[second]);
        step(&f, s, TURN, got);
        facet_session_free(s);
        tiny_forward(f.o.t, second, first, TURN, f.tokens, 2 * TURN, want);
        assert_true(tiny_distance(got, want + (size_t)TURN * f.o.vocab, (size_t)TURN * f.o.vocab) <
                    1e-4);
        // Had the later family read everything, the answer would be another one. "all" is dense.
        if (first == second || (first < 2 && second < 2)) continue;
        tiny_forward(f.o.t, second, second, 0, f.tokens, 2 * TURN, other);
        assert_true(tiny_distance(got, other + (size_t)TURN * f.o.vocab, (size_t)TURN * f.o.vocab) >
                    1e-3);
    }
    free(got);
    free(want);
    free(other);
    drop(&f);
}

// Prefilled by dense under another family, or under dense and then switched: the same bits.
static void test_prefill_is_a_switch(void **state)
{
    (void)state;
    fixture f;
    make(&f, &tiny_quantised);
    float *a = rows(&f, TURN), *b = rows(&f, TURN);
    facet_session *asked = session(&f, "some", 1, "dense"),
                  *switched = session(&f, "dense", 3, NULL);
    prefill(&f, asked, TURN, NULL);
    prefill(&f, switched, TURN, NULL);
    become(switched, "some");
    step(&f, asked, TURN, a);
    step(&f, switched, TURN, b);
    assert_memory_equal(a, b, (size_t)TURN * f.o.vocab * sizeof *a);
    facet_session_free(asked);
    facet_session_free(switched);
    free(a);
    free(b);
    drop(&f);
}

// Turns of changing families, by single steps and by prefill of whole turns: the same bits after
// each turn, so a family's tokens depend on the context and nothing else that was computed before.
static void test_turns(void **state)
{
    (void)state;
    static const char *const order[TURNS] = {"some", "one", "some", "dense", "one"};
    fixture f;
    make(&f, &tiny_quantised);
    float *a = rows(&f, TURN), *b = rows(&f, 1);
    facet_session *steps = session(&f, "dense", 1, NULL), *turns = session(&f, "all", 2, NULL);
    for (uint32_t i = 0; i < TURNS; i++) {
        become(steps, order[i]);
        become(turns, order[i]);
        step(&f, steps, TURN, a);
        prefill(&f, turns, TURN, b);
        assert_memory_equal(a + (size_t)(TURN - 1) * f.o.vocab, b, f.o.vocab * sizeof *b);
    }
    facet_session_free(steps);
    facet_session_free(turns);
    free(a);
    free(b);
    drop(&f);
}

// A detour, taken back by a rewind, and a switch to a family that does not exist: as if nothing had
// happened. Neither allocates.
static void test_there_and_back(void **state)
{
    (void)state;
    fixture f;
    make(&f, &tiny_quantised);
    facet_err err;
    float *a = rows(&f, TURN), *b = rows(&f, TURN);
    facet_session *straight = session(&f, "some", 2, NULL), *detour = session(&f, "some", 2, NULL);
    const long calls = atomic_load(&f.o.memory.calls);
    prefill(&f, straight, TURN, NULL);
    prefill(&f, detour, TURN, NULL);
    step(&f, straight, TURN, a);
    for (uint32_t i = 1; i < TINY_FAMILIES; i++) {
        become(detour, tiny_family_names[i]);
        step(&f, detour, TURN, b);
        become(detour, "dense");
        prefill(&f, detour, TURN, NULL);
        ok(facet_session_rewind(detour, TURN, &err), &err);
        become(detour, "some");
        assert_int_equal(facet_session_family(detour, "none", &err), FACET_NOT_FOUND);
        step(&f, detour, TURN, b);
        assert_memory_equal(a, b, (size_t)TURN * f.o.vocab * sizeof *a);
        ok(facet_session_rewind(detour, TURN, &err), &err);
    }
    assert_int_equal(atomic_load(&f.o.memory.calls), calls);
    facet_session_free(straight);
    facet_session_free(detour);
    free(a);
    free(b);
    drop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle),
        cmocka_unit_test(test_prefill_is_a_switch),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
