// SPDX-License-Identifier: Apache-2.0
// What a refit aims at, for a stream that has lost what the layer below it gave: the layer's own
// output, what brings dense's residual stream back, or the mean of both. Nothing else differs. And
// how much a token counts: less, the longer its state is.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "compiler/layer_fit.h"
#include "tests/support/fake_build.h"

enum { TOKENS = 40, FIT = 30, KEPT = 32 };

static char box[64];

typedef struct world {
    facet_fake_build fake;
    facet_build_ops ops;
    facet_build_opts opts;
    facet_building building;
    uint32_t tokens[TOKENS], length;
    facet_samples samples;
    facet_layer_fit fit;
    void *dense, *stream;
} world;

// Layer 1 in sight; the stream went without layer 0.
static void world_init(world *w, const facet_model *model, facet_refit_target target)
{
    *w = (world){.opts = {.compensate = FACET_COMPENSATE_REFIT}, .length = TOKENS};
    w->ops = facet_fake_ops(&w->fake);
    w->building = (facet_building){.model = model, .opts = &w->opts, .ops = &w->ops};
    for (uint32_t t = 0; t < TOKENS; t++)
        w->tokens[t] = (7 * t + 3) % 50;
    w->samples =
        (facet_samples){.tokens = w->tokens, .lengths = &w->length, .n = 1, .n_tokens = TOKENS};
    assert_int_equal(facet_layer_fit_init(&w->fit, &w->building, target, &w->samples, FIT, NULL),
                     FACET_OK);
    const facet_build_ops *ops = &w->ops;
    assert_int_equal(ops->stream_new(ops->ctx, model, &w->samples, &w->dense, NULL), FACET_OK);
    assert_int_equal(ops->stream_copy(ops->ctx, w->dense, &w->stream, NULL), FACET_OK);
    assert_int_equal(facet_layer_fit_dense(&w->fit, w->dense, NULL), FACET_OK);
    float *nothing = calloc((size_t)TOKENS * model->hp.d_model, sizeof *nothing);
    assert_int_equal(ops->stream_add(ops->ctx, w->stream, nothing, NULL), FACET_OK);
    free(nothing);
    for (uint32_t i = 0; i < KEPT; i++)
        w->fit.channels[i] = (7 * i + 1) % model->hp.d_ff;
    assert_int_equal(facet_layer_fit_begin(&w->fit, 1, KEPT, NULL), FACET_OK);
    assert_int_equal(facet_layer_fit_dense(&w->fit, w->dense, NULL), FACET_OK);
    const float *behind = w->fit.repair > 0 ? ops->stream_x(ops->ctx, w->dense) : NULL;
    assert_int_equal(facet_layer_fit_look(&w->fit, w->stream, behind, NULL), FACET_OK);
}

static void world_fini(world *w)
{
    w->ops.stream_free(w->ops.ctx, w->dense);
    w->ops.stream_free(w->ops.ctx, w->stream);
    facet_layer_fit_fini(&w->fit);
}

static float lacking(const world *w, size_t i)
{
    return w->ops.stream_x(w->ops.ctx, w->dense)[i] - w->ops.stream_x(w->ops.ctx, w->stream)[i];
}

// What is wanted of a token, as if it had no weight.
static double wanted(const world *w, size_t i)
{
    return (double)w->fit.wanted[i] / (double)w->fit.weight[i / w->fit.d];
}

static void test_targets(void **state)
{
    (void)state;
    facet_model *model = facet_fake_model(box, "F32", "80");
    assert_non_null(model);
    world layer, residual, half;
    world_init(&layer, model, FACET_REFIT_LAYER);
    world_init(&residual, model, FACET_REFIT_RESIDUAL);
    world_init(&half, model, FACET_REFIT_HALF);
    const size_t n = (size_t)TOKENS * model->hp.d_model;
    double apart = 0;
    for (size_t i = 0; i < n; i++) {
        const double l = wanted(&layer, i), r = wanted(&residual, i);
        assert_true(fabs(r - (double)lacking(&residual, i)) < 1e-5);
        assert_true(fabs(wanted(&half, i) - (l + r) / 2) < 1e-5);
        apart += fabs(l - r) / (double)n;
    }
    assert_true(apart > 1e-3);
    for (int part = 0; part < FACET_PART_COUNT; part++)
        assert_memory_equal(half.fit.moments.c[part], residual.fit.moments.c[part],
                            (KEPT + 1) * (KEPT + 1) * sizeof(float));
    world_fini(&layer);
    world_fini(&residual);
    world_fini(&half);
    facet_model_close(model);
}

static double length(const float *x, const float *y, size_t d)
{
    double sum = 0;
    for (size_t i = 0; i < d; i++)
        sum += ((double)x[i] + (double)y[i]) * ((double)x[i] + (double)y[i]);
    return sqrt(sum / (double)d);
}

// The root of the length of the state behind the layer: dense's, or that of the stream itself where
// dense's is not known. The stored output of a layer is free of it.
static void test_weights(void **state)
{
    (void)state;
    facet_model *model = facet_fake_model(box, "F32", "80");
    assert_non_null(model);
    world layer, half;
    world_init(&layer, model, FACET_REFIT_LAYER);
    world_init(&half, model, FACET_REFIT_HALF);
    const size_t d = model->hp.d_model;
    float *zero = calloc(d, sizeof *zero), *y = calloc(d, sizeof *y);
    for (size_t t = 0; t < TOKENS; t++) {
        const float *dense = half.ops.stream_x(half.ops.ctx, half.dense) + t * d;
        const float *own = layer.ops.stream_x(layer.ops.ctx, layer.stream) + t * d;
        for (size_t i = 0; i < d; i++)
            y[i] = (float)wanted(&layer, t * d + i);
        assert_true(fabs((double)half.fit.weight[t] * sqrt(length(dense, zero, d)) - 1) < 1e-4);
        assert_true(fabs((double)layer.fit.weight[t] * sqrt(length(own, y, d)) - 1) < 1e-4);
        assert_true(half.fit.z[t * (KEPT + 1) + KEPT] == half.fit.weight[t]);
    }
    const float first = half.fit.z[0] / half.fit.weight[0];
    facet_layer_fit_output(&half.fit, half.fit.rows, NULL);
    assert_true(fabsf(half.fit.z[0] - first) < 1e-5f * fabsf(first) + 1e-7f);
    free(zero);
    free(y);
    world_fini(&layer);
    world_fini(&half);
    facet_model_close(model);
}

// A pass sees what a look sees, and the stream is then where the dense FFN leaves it.
static void test_pass(void **state)
{
    (void)state;
    facet_model *model = facet_fake_model(box, "F32", "80");
    assert_non_null(model);
    world look, pass;
    world_init(&look, model, FACET_REFIT_LAYER);
    world_init(&pass, model, FACET_REFIT_LAYER);
    const size_t n = (size_t)TOKENS * model->hp.d_model;
    float *before = malloc(n * sizeof *before);
    memcpy(before, pass.ops.stream_x(pass.ops.ctx, pass.stream), n * sizeof *before);
    assert_int_equal(facet_layer_fit_pass(&pass.fit, pass.stream, NULL, NULL), FACET_OK);
    for (int part = 0; part < FACET_PART_COUNT; part++) {
        assert_memory_equal(pass.fit.moments.c[part], look.fit.moments.c[part],
                            (KEPT + 1) * (KEPT + 1) * sizeof(float));
        assert_memory_equal(pass.fit.moments.m[part], look.fit.moments.m[part],
                            (size_t)(KEPT + 1) * model->hp.d_model * sizeof(float));
    }
    for (size_t i = 0; i < n; i++) {
        const double moved = (double)pass.ops.stream_x(pass.ops.ctx, pass.stream)[i];
        assert_true(fabs(moved - (double)before[i] - wanted(&look, i)) < 1e-5);
    }
    free(before);
    world_fini(&look);
    world_fini(&pass);
    facet_model_close(model);
}

// Behind a norm of the FFN's output only the layer itself can be the target.
static void test_post_norm(void **state)
{
    (void)state;
    facet_model *model = facet_fake_model_of("gemma3", box, "F32", "80");
    assert_non_null(model);
    world w;
    world_init(&w, model, FACET_REFIT_HALF);
    assert_true(w.fit.repair == 0);
    world_fini(&w);
    facet_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_pass),
        cmocka_unit_test(test_post_norm),
    };
    snprintf(box, sizeof box, "/tmp/facet-test-fit.XXXXXX");
    if (!mkdtemp(box)) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    facet_dir_remove(box, NULL);
    return failed;
}
