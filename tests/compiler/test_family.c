// SPDX-License-Identifier: Apache-2.0
// Families: planted groups are found, names and splits follow the rules, bad inputs get one clear
// line.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/memory.h"
#include "base/random.h"
#include "compiler/family.h"
#include "tests/support/failing.h"

enum { layers = 3, channels = 100, text = 20 };

typedef struct masks {
    facet_mask_set set;
    char *labels[64];
    char shape[32], model[2];
} masks;

// n samples of k groups, sample i in group i % k; groups like different channels.
static void masks_init(masks *m, uint32_t n, uint32_t k, uint64_t seed)
{
    static char names[8][8] = {"red", "green", "blue", "cyan", "pink", "gold", "grey", "teal"};
    facet_random random = facet_random_seed(seed);
    *m = (masks){.shape = "llama:3:8:100:40000"};
    m->set = (facet_mask_set){.n = n,
                              .n_layers = layers,
                              .d_ff = channels,
                              .labels = m->labels,
                              .shape = m->shape,
                              .model = m->model};
    m->set.scores = calloc((size_t)n * layers * channels, sizeof(float));
    m->set.samples = (facet_samples){calloc(n * text, 4), calloc(n, 4), n, n * text, NULL, NULL};
    for (uint32_t i = 0; i < n; i++) {
        m->labels[i] = names[i % k];
        m->set.samples.lengths[i] = text;
        for (uint32_t t = 0; t < text; t++)
            m->set.samples.tokens[i * text + t] = (uint32_t)facet_random_below(&random, 40000);
        const double loud = 0.2 + 3 * facet_random_unit(&random);
        for (uint32_t j = 0; j < layers * channels; j++)
            m->set.scores[(size_t)i * layers * channels + j] =
                (float)(loud * (facet_random_unit(&random) + (j * 7 / 50 % k == i % k ? 1.5 : 0)));
    }
}

static void masks_free(masks *m)
{
    free(m->set.scores);
    free(m->set.samples.tokens);
    free(m->set.samples.lengths);
}

static void test_auto_finds_the_groups(void **state)
{
    (void)state;
    for (uint32_t k = 2; k <= 6; k += 2) {
        masks m;
        masks_init(&m, 48, k, k);
        const facet_family_opts opts = {.grouping = FACET_GROUP_AUTO, .keep = 0.4, .seed = 3};
        facet_family_set out;
        facet_family_curve curve;
        facet_err err;
        assert_int_equal(facet_family_cluster(&m.set, &opts, &out, &curve, &err), FACET_OK);
        assert_int_equal(out.n_families, k);
        assert_int_equal(curve.n, 16);
        assert_int_equal(curve.points[curve.chosen].k, k);
        assert_true(curve.points[curve.chosen].within > curve.points[curve.chosen].between);
        for (uint32_t i = 0; i < 48; i++)
            assert_int_equal(out.assign[i], i % k);
        for (uint32_t a = 0; a < k; a++)
            assert_string_equal(out.names[a], m.labels[a]);
        for (uint32_t row = 0; row < k * layers; row++)
            assert_int_equal(facet_bits_count(out.mask + row * 13, channels), 40);
        facet_family_set_fini(&out);
        masks_free(&m);
    }
}

static void test_one_kind_stays_one(void **state)
{
    (void)state;
    masks m;
    masks_init(&m, 40, 1, 9);
    const facet_family_opts opts = {.grouping = FACET_GROUP_AUTO};
    facet_family_set out;
    assert_int_equal(facet_family_cluster(&m.set, &opts, &out, NULL, NULL), FACET_OK);
    assert_int_equal(out.n_families, 1);
    facet_family_set_fini(&out);
    masks_free(&m);
}

static void test_label_and_fixed(void **state)
{
    (void)state;
    masks m;
    masks_init(&m, 30, 3, 2);
    facet_family_opts opts = {.grouping = FACET_GROUP_LABEL};
    facet_family_set out;
    assert_int_equal(facet_family_cluster(&m.set, &opts, &out, NULL, NULL), FACET_OK);
    assert_int_equal(out.n_families, 3);
    double overlap[9];
    assert_int_equal(facet_family_overlap(&out, overlap, NULL), FACET_OK);
    assert_true(fabs(overlap[0] - 1) < 1e-5 && overlap[1] < 0.7);
    facet_family_set_fini(&out);
    // More clusters than kinds: names get numbers, every cluster has a member.
    opts = (facet_family_opts){.grouping = FACET_GROUP_FIXED, .k = 5};
    assert_int_equal(facet_family_cluster(&m.set, &opts, &out, NULL, NULL), FACET_OK);
    uint32_t sizes[5] = {0};
    bool numbered = false;
    for (uint32_t i = 0; i < 30; i++)
        sizes[out.assign[i]]++;
    for (int k = 0; k < 5; k++) {
        assert_true(sizes[k] > 0);
        numbered = numbered || strstr(out.names[k], "-2") != NULL;
    }
    assert_true(numbered);
    facet_family_set_fini(&out);
    facet_mask_overlap measured;
    assert_int_equal(facet_mask_set_overlap(&m.set, NULL, &measured, NULL), FACET_OK);
    assert_true(measured.within > measured.between);
    assert_true(measured.nearest_label_accuracy > 0.99);
    masks_free(&m);
}

static void test_names(void **state)
{
    (void)state;
    masks m;
    masks_init(&m, 6, 3, 2);
    char dense[] = "dense", path[] = "../a b", empty[] = "";
    for (int i = 0; i < 6; i++)
        m.labels[i] = i % 3 == 0 ? dense : i % 3 == 1 ? path : empty;
    const facet_family_opts opts = {.grouping = FACET_GROUP_LABEL};
    facet_family_set out;
    assert_int_equal(facet_family_cluster(&m.set, &opts, &out, NULL, NULL), FACET_OK);
    assert_string_equal(out.names[0], "dense-2");
    assert_string_equal(out.names[1], "-.-a-b");
    assert_string_equal(out.names[2], "family");
    facet_family_set_fini(&out);
    masks_free(&m);
}

static void test_split(void **state)
{
    (void)state;
    masks m;
    masks_init(&m, 40, 2, 4);
    uint32_t *tokens = m.set.samples.tokens;
    // Every sample begins with a template of ten tokens; sample 2 copies a piece of sample 8.
    for (uint32_t i = 0; i < 40; i++)
        for (uint32_t t = 0; t < 10; t++)
            tokens[i * text + t] = t;
    memcpy(tokens + 2 * text + 11, tokens + 8 * text + 11, 9 * sizeof *tokens);
    const facet_family_opts opts = {.grouping = FACET_GROUP_LABEL};
    facet_family_set out;
    facet_family_split splits[2];
    assert_int_equal(facet_family_cluster(&m.set, &opts, &out, NULL, NULL), FACET_OK);
    assert_int_equal(out.held[8], 1); // the fifth of its family
    assert_int_equal(facet_family_splits(&out, NULL, splits, NULL), FACET_OK);
    assert_int_equal(splits[0].n_held, 4);
    assert_int_equal(splits[0].n_duplicates, 1);
    assert_int_equal(splits[0].n_calibrate, 15);
    assert_int_equal(splits[0].calibrate[1], 4); // 0, then not 2
    assert_int_equal(splits[1].n_calibrate, 16);
    for (int k = 0; k < 2; k++)
        facet_family_split_fini(&splits[k], NULL);
    facet_family_set_fini(&out);
    masks_free(&m);

    masks_init(&m, 1, 1, 5); // one line: it calibrates
    assert_int_equal(facet_family_cluster(&m.set, &opts, &out, NULL, NULL), FACET_OK);
    assert_int_equal(out.held[0], 0);
    facet_family_set_fini(&out);
    masks_free(&m);
}

static void test_masks_only(void **state)
{
    (void)state;
    masks m;
    masks_init(&m, 24, 2, 6);
    m.set.mask = calloc(24 * layers, 13);
    for (uint32_t row = 0; row < 24 * layers; row++)
        for (uint32_t j = 0; j < channels; j++)
            if (m.set.scores[row * channels + j] > 1) facet_bits_set(m.set.mask + row * 13, j);
    float *scores = m.set.scores;
    m.set.scores = NULL;
    const facet_family_opts opts = {.grouping = FACET_GROUP_FIXED, .k = 2};
    facet_family_set out;
    assert_int_equal(facet_family_cluster(&m.set, &opts, &out, NULL, NULL), FACET_OK);
    assert_int_equal(out.n_families, 2);
    facet_family_set_fini(&out);
    free(m.set.mask);
    m.set.scores = scores;
    masks_free(&m);
}

static void expect_bad(const masks *m, const facet_family_opts *opts, const char *word)
{
    facet_family_set out;
    facet_err err;
    assert_int_equal(facet_family_cluster(&m->set, opts, &out, NULL, &err), FACET_BAD_INPUT);
    if (!strstr(err.message, word)) fail_msg("no \"%s\" in: %s", word, err.message);
    assert_null(strchr(err.message, '\n'));
}

static void test_bad_inputs(void **state)
{
    (void)state;
    masks m;
    masks_init(&m, 12, 2, 6);
    const double keeps[] = {2, -0.5, (double)NAN};
    for (int i = 0; i < 3; i++) {
        const facet_family_opts opts = {.grouping = FACET_GROUP_AUTO, .keep = keeps[i]};
        expect_bad(&m, &opts, "keep ratio");
    }
    facet_family_opts opts = {.grouping = FACET_GROUP_FIXED, .k = 13};
    expect_bad(&m, &opts, "13 families");
    opts.k = 2;
    m.set.scores[channels + 3] = NAN;
    expect_bad(&m, &opts, "sample 0, layer 1");
    m.set.scores[channels + 3] = -1;
    expect_bad(&m, &opts, "negative");
    m.set.labels = NULL;
    opts.grouping = FACET_GROUP_LABEL;
    expect_bad(&m, &opts, "labels");
    m.set.n = 0;
    expect_bad(&m, &opts, "no samples");
    masks_free(&m);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    masks m;
    masks_init(&m, 12, 2, 6);
    facet_status status = FACET_NO_MEMORY;
    for (long n = 1; status != FACET_OK; n++) {
        facet_failing failing;
        facet_failing_init(&failing, n);
        const facet_family_opts opts = {.grouping = FACET_GROUP_AUTO, .alloc = &failing.alloc};
        facet_family_set out = {0};
        status = facet_family_cluster(&m.set, &opts, &out, NULL, NULL);
        if (status == FACET_OK)
            facet_family_set_fini(&out);
        else
            assert_int_equal(status, FACET_NO_MEMORY);
        assert_int_equal(failing.alive, 0);
    }
    masks_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auto_finds_the_groups),
        cmocka_unit_test(test_one_kind_stays_one),
        cmocka_unit_test(test_label_and_fixed),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_masks_only),
        cmocka_unit_test(test_bad_inputs),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
