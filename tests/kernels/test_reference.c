// SPDX-License-Identifier: Apache-2.0
// Corners of the reference that a whole forward pass does not reach: the activation rule, unit
// counts, sequences with caches of their own in one step, windows.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "base/random.h"
#include "kernels/reference.h"

static void test_activation_rule(void **state)
{
    (void)state;
    float x[32] = {0};
    int8_t q[32];
    float scale[2] = {1.0f, 1.0f};
    int32_t sum[2];
    facet_quantize_row(x, 32, q, scale, sum);
    assert_true(scale[0] == 0.0f && scale[1] == 0.0f && sum[0] == 0 && sum[1] == 0 && q[5] == 0);
    x[0] = 127.0f;
    x[1] = 0.5f; // ties go to even
    x[2] = 1.5f;
    x[3] = -2.5f;
    x[16] = -127.0f;
    x[17] = 126.6f;
    facet_quantize_row(x, 32, q, scale, sum);
    assert_true(scale[0] == 1.0f && scale[1] == 1.0f);
    assert_int_equal(q[0], 127);
    assert_int_equal(q[1], 0);
    assert_int_equal(q[2], 2);
    assert_int_equal(q[3], -2);
    assert_int_equal(sum[0], 127);
    assert_int_equal(sum[1], 0);
    memset(x, 0, sizeof x);
    x[9] = 1e-44f; // 127 / amax overflows
    facet_quantize_row(x, 32, q, scale, sum);
    assert_true(scale[0] == 0.0f && q[9] == 0);
    x[9] = NAN;
    facet_quantize_row(x, 32, q, scale, sum);
    assert_int_equal(q[9], 0);
}

// Sums and values of random blocks: each value is within half a step.
static void test_activation_error(void **state)
{
    (void)state;
    facet_random random = facet_random_seed(4);
    float x[320], scale[20];
    int8_t q[320];
    int32_t sum[20];
    for (int i = 0; i < 320; i++)
        x[i] = (float)facet_random_normal(&random);
    facet_quantize_row(x, 320, q, scale, sum);
    for (uint32_t b = 0; b < 20; b++) {
        int32_t got = 0;
        for (uint32_t i = 16 * b; i < 16 * b + 16; i++) {
            got += q[i];
            assert_true(fabsf((float)q[i] * scale[b] - x[i]) <= 0.50001f * scale[b]);
        }
        assert_int_equal(got, sum[b]);
    }
}

static void test_units(void **state)
{
    (void)state;
    const facet_shape shape = {
        .n_layers = 1, .d_model = 40, .n_heads = 6, .n_kv_heads = 2, .n_vocab = 33};
    const facet_layer layer = {.n_tiles = 7};
    const facet_step step = {.shape = &shape, .layers = &layer};
    assert_int_equal(facet_stage_units(&step, 0, FACET_STAGE_QKV), 10);
    assert_int_equal(facet_stage_units(&step, 0, FACET_STAGE_ATTN), 6);
    assert_int_equal(facet_stage_units(&step, 0, FACET_STAGE_OUT), 3);
    assert_int_equal(facet_stage_units(&step, 0, FACET_STAGE_FFN_IN), 7);
    assert_int_equal(facet_stage_units(&step, 0, FACET_STAGE_DOWN), 3);
    assert_int_equal(facet_stage_units(&step, 1, FACET_STAGE_COUNT), 3);
}

enum { HEAD = 4, CTX = 8 };

// Two sequences in one step, one head each, values that say where they came from.
static void test_attention_rows(void **state)
{
    (void)state;
    const facet_shape shape = {
        .n_layers = 2, .n_heads = 2, .n_kv_heads = 1, .head_dim = HEAD, .attn_scale = 1.0f};
    uint16_t keys[2][2 * CTX * HEAD], values[2][2 * CTX * HEAD];
    for (int s = 0; s < 2; s++) {
        for (int i = 0; i < 2 * CTX * HEAD; i++) {
            keys[s][i] = facet_f32_to_f16(0.0f);
            values[s][i] = facet_f32_to_f16((float)(100 * s + i / HEAD));
        }
    }
    const facet_kv kv[2] = {{keys[0], values[0], CTX}, {keys[1], values[1], CTX}};
    const uint32_t pos[2] = {4, 2};
    const facet_layer layers[2] = {{.window = 0}, {.window = 2}};
    float q[2 * 2 * HEAD], attn[2 * 2 * HEAD], scratch[32];
    for (int i = 0; i < 2 * 2 * HEAD; i++)
        q[i] = 1.0f;
    const facet_step step = {.shape = &shape,
                             .layers = layers,
                             .n_tokens = 2,
                             .pos = pos,
                             .kv = kv,
                             .q = q,
                             .attn = attn};
    const facet_lane lane = {.scratch = scratch};
    // Equal scores: the mean of positions 0..pos, or of the last two; layer 1 starts at row CTX.
    facet_reference_stages[FACET_STAGE_ATTN].body(&step, 0, &lane, (facet_range){0, 4, 1});
    assert_true(fabsf(attn[0] - 2.0f) < 1e-5f);
    assert_true(fabsf(attn[2 * HEAD] - 101.0f) < 1e-4f);
    facet_reference_stages[FACET_STAGE_ATTN].body(&step, 1, &lane, (facet_range){0, 4, 1});
    assert_true(fabsf(attn[0] - (CTX + 3.5f)) < 1e-5f);
    assert_true(fabsf(attn[3 * HEAD] - (100.0f + CTX + 1.5f)) < 1e-4f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_activation_rule), cmocka_unit_test(test_activation_error),
        cmocka_unit_test(test_units), cmocka_unit_test(test_attention_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
