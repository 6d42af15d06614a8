// SPDX-License-Identifier: Apache-2.0
// Held-out samples share no document with calibrating ones, nor those that judge a fit with those
// that make it; a single document is cut into two blocks, and that is said once.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "compiler/build_parts.h"
#include "compiler/family_documents.h"
#include "tests/support/failing.h"

enum { most = 64 };

// The marks of samples whose documents are the letters of `texts`, as a string of 0 and 1.
static void expect_marks(const char *texts, const char *want, bool want_cut)
{
    uint32_t documents[most], list[most];
    uint8_t marks[most];
    char got[most + 1] = "";
    bool cut = !want_cut;
    const uint32_t n = (uint32_t)strlen(texts);
    // The list is a part of more samples, which must not count.
    for (uint32_t i = 0; i < n; i++) {
        documents[i + 1] = (uint32_t)texts[i];
        list[i] = i + 1;
    }
    documents[0] = 1000;
    const facet_samples samples = {.n = n + 1, .documents = documents};
    assert_int_equal(facet_documents_judge(&samples, list, n, NULL, marks, &cut, NULL), FACET_OK);
    for (uint32_t i = 0; i < n; i++)
        got[i] = (char)('0' + marks[i]);
    assert_string_equal(got, want);
    assert_int_equal(cut, want_cut);
}

static void test_marks(void **state)
{
    (void)state;
    expect_marks("abcdefghijkl", "000010000100", false);
    expect_marks("aabbccddeeff", "000000001100", false); // the fifth document, whole
    expect_marks("zyxwvzyxwvuu", "000010000100", false); // windows that take turns
    expect_marks("aaaaab", "000001", false);
    expect_marks("abbbbb", "100000", false); // the long text calibrates
    expect_marks("abc", "001", false);
    expect_marks("aabbcc", "000011", false);
    expect_marks("aaaaaaaaaa", "0000000011", true);
    expect_marks("aaa", "001", true);
    expect_marks("a", "0", false);
    expect_marks("", "", false);
}

static void test_numbers(void **state)
{
    (void)state;
    uint32_t documents[] = {9, 4, 9, 0, 4}, numbers[5], count;
    static const uint32_t want[] = {0, 1, 0, 2, 1}, each[] = {0, 1, 2, 3, 4};
    facet_samples samples = {.n = 5, .documents = documents};
    assert_int_equal(facet_documents_number(&samples, NULL, 5, NULL, numbers, &count, NULL),
                     FACET_OK);
    assert_int_equal(count, 3);
    assert_memory_equal(numbers, want, sizeof want);
    samples.documents = NULL; // every sample its own
    assert_int_equal(facet_documents_number(&samples, NULL, 5, NULL, numbers, &count, NULL),
                     FACET_OK);
    assert_int_equal(count, 5);
    assert_memory_equal(numbers, each, sizeof each);
}

// ---- families --------------------------------------------------------------------------------

typedef struct heard {
    uint32_t n;
    char text[256];
} heard;

static void hear(void *ctx, facet_level level, const char *text)
{
    heard *h = ctx;
    if (level != FACET_LOG_WARN) return;
    h->n++;
    snprintf(h->text, sizeof h->text, "%s", text);
}

// Two labels that take turns; document i of a label has `windows` samples, if it is above 0.
typedef struct masks {
    facet_mask_set set;
    float scores[most * 4];
    char *labels[most];
    uint32_t documents[most], tokens[most], lengths[most], answers[most];
} masks;

static void masks_init(masks *m, uint32_t n, uint32_t windows)
{
    static char names[2][8] = {"red", "green"}, shape[] = "llama:1:8:4:100", none[] = "";
    *m = (masks){.set = {.n = n, .n_layers = 1, .d_ff = 4, .shape = shape, .model = none}};
    m->set.scores = m->scores;
    m->set.labels = m->labels;
    m->set.samples.n = n;
    m->set.samples.n_tokens = n;
    m->set.samples.tokens = m->tokens;
    m->set.samples.lengths = m->lengths;
    m->set.samples.answers = m->answers;
    if (windows > 0) m->set.samples.documents = m->documents;
    for (uint32_t i = 0; i < n; i++) {
        m->labels[i] = names[i % 2];
        m->lengths[i] = 1;
        m->answers[i] = i % 3 / 2;
        m->documents[i] = windows > 0 ? 2 * (i / 2 / windows) + i % 2 : 0;
        for (uint32_t j = 0; j < 4; j++)
            m->scores[4 * i + j] = (float)(1 + (i + j) % 3);
    }
}

static void cluster(masks *m, facet_family_set *out, heard *h)
{
    const facet_report report = {.ctx = h, .log = hear};
    const facet_family_opts opts = {.grouping = FACET_GROUP_LABEL, .report = &report};
    assert_int_equal(facet_family_cluster(&m->set, &opts, out, NULL, NULL), FACET_OK);
}

static void test_families(void **state)
{
    (void)state;
    masks m;
    facet_family_set out;
    heard h = {0};
    masks_init(&m, 60, 3); // ten documents a label
    cluster(&m, &out, &h);
    assert_memory_equal(out.samples.documents, m.documents, 60 * sizeof *m.documents);
    assert_memory_equal(out.samples.lengths, m.lengths, 60 * sizeof *m.lengths);
    assert_memory_equal(out.samples.answers, m.answers, 60 * sizeof *m.answers);
    for (uint32_t i = 0; i < 60; i++)
        assert_int_equal(out.held[i], m.documents[i] / 2 % 5 == 4);
    assert_int_equal(h.n, 0);
    facet_family_set_fini(&out);

    masks_init(&m, 60, 30); // one document a label
    cluster(&m, &out, &h);
    for (uint32_t i = 0; i < 60; i++)
        assert_int_equal(out.held[i], i >= 48);
    assert_int_equal(h.n, 1);
    assert_non_null(strstr(h.text, "2 of 2 families (red ...) have one document"));
    facet_family_set_fini(&out);

    masks_init(&m, 60, 0); // no documents given
    m.set.samples.answers = NULL;
    cluster(&m, &out, &h);
    for (uint32_t i = 0; i < 60; i++)
        assert_int_equal(out.held[i], i / 2 % 5 == 4);
    assert_null(out.samples.documents);
    assert_null(out.samples.answers);
    assert_int_equal(h.n, 1);
    facet_family_set_fini(&out);
}

// ---- calibration -----------------------------------------------------------------------------

enum { length = 10 };

// Sample i is ten tokens 10 i, 10 i + 1 ...; document i / windows; answer at i % 11.
typedef struct texts {
    facet_samples samples;
    uint32_t tokens[most * length], lengths[most], documents[most], list[most], answers[most];
} texts;

static void texts_init(texts *t, uint32_t n, uint32_t windows)
{
    *t = (texts){0};
    t->samples = (facet_samples){t->tokens, t->lengths, n, n * length, t->documents, t->answers};
    for (uint32_t i = 0; i < n * length; i++)
        t->tokens[i] = i;
    for (uint32_t i = 0; i < n; i++) {
        t->lengths[i] = length;
        t->documents[i] = i / windows;
        t->answers[i] = i % (length + 1);
        t->list[i] = i;
    }
}

// Copies samples 1 to n - 1 and checks that no document is on both sides, but for a single one, and
// that every answer begins where it did or, in a sample that was cut before it, at the end.
static facet_samples pick(texts *t, uint64_t max_tokens, uint64_t *n_fit)
{
    facet_samples got;
    bool fits[most] = {false};
    assert_int_equal(facet_build_samples(&t->samples, t->list + 1, t->samples.n - 1, max_tokens,
                                         NULL, &got, n_fit, NULL),
                     FACET_OK);
    const bool single = t->documents[1] == t->documents[t->samples.n - 1];
    for (uint64_t i = 0; i < got.n_tokens && !single; i++) {
        const uint32_t document = t->documents[got.tokens[i] / length];
        if (i < *n_fit)
            fits[document] = true;
        else
            assert_false(fits[document]);
    }
    const uint32_t *tokens = got.tokens;
    for (uint32_t i = 0; i < got.n; tokens += got.lengths[i++]) {
        const uint32_t answer = t->answers[tokens[0] / length];
        assert_int_equal(got.answers[i], answer < got.lengths[i] ? answer : got.lengths[i]);
    }
    return got;
}

static void test_calibration(void **state)
{
    (void)state;
    texts t;
    uint64_t n_fit;
    texts_init(&t, 41, 4); // 11 documents: three, four, four ... samples, then one
    facet_samples got = pick(&t, 0, &n_fit);
    assert_int_equal(got.n_tokens, 400);
    assert_int_equal(n_fit, 320);
    facet_build_samples_fini(&got, NULL);
    // A limit keeps the shares and leaves out samples everywhere, not only at the end.
    got = pick(&t, 200, &n_fit);
    assert_int_equal(got.n_tokens, 200);
    assert_int_equal(n_fit, 160);
    assert_int_equal(got.tokens[0] / length, 1);
    assert_int_equal(got.tokens[n_fit - 1] / length, 35);
    assert_int_equal(got.tokens[199] / length, 38);
    facet_build_samples_fini(&got, NULL);
    // Two long documents: what judges is cut to a fifth, the rest of the limit fits.
    texts_init(&t, 41, 21);
    got = pick(&t, 100, &n_fit);
    assert_int_equal(got.n_tokens, 100);
    assert_int_equal(n_fit, 80);
    facet_build_samples_fini(&got, NULL);
    // A short one that judges leaves its share to the fit.
    texts_init(&t, 41, 39);
    got = pick(&t, 200, &n_fit);
    assert_int_equal(got.n_tokens, 200);
    assert_int_equal(n_fit, 180);
    facet_build_samples_fini(&got, NULL);
    // One document: the last fifth judges, in one block.
    texts_init(&t, 41, 41);
    got = pick(&t, 0, &n_fit);
    assert_int_equal(n_fit, 320);
    for (uint32_t i = 0; i < 400; i++)
        assert_int_equal(got.tokens[i], i + length);
    facet_build_samples_fini(&got, NULL);
    // A single sample is cut.
    texts_init(&t, 2, 1);
    got = pick(&t, 0, &n_fit);
    assert_int_equal(got.n_tokens, 10);
    assert_int_equal(n_fit, 8);
    facet_build_samples_fini(&got, NULL);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    texts t;
    uint64_t n_fit;
    texts_init(&t, 41, 4);
    facet_status status = FACET_NO_MEMORY;
    for (long n = 1; status != FACET_OK; n++) {
        facet_failing failing;
        facet_failing_init(&failing, n);
        facet_samples got = {0};
        status = facet_build_samples(&t.samples, t.list, 41, 0, &failing.alloc, &got, &n_fit, NULL);
        if (status == FACET_OK) facet_build_samples_fini(&got, &failing.alloc);
        assert_true(status == FACET_OK || status == FACET_NO_MEMORY);
        assert_int_equal(failing.alive, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_marks),         cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_families),      cmocka_unit_test(test_calibration),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
