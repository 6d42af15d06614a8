// SPDX-License-Identifier: Apache-2.0
// Plans for tests of the code generator, and what the check must be told about them.
#ifndef FACET_TESTS_SUPPORT_PLANS_H
#define FACET_TESTS_SUPPORT_PLANS_H

#include "base/random.h"
#include "compiler/plan.h"
#include "kernels/abi.h"

#define PLANS_LAYERS 12u
#define PLANS_TILES  16u // most tiles of a layer

// Everything a plan borrows.
typedef struct test_plan {
    facet_plan plan;
    facet_plan_layer layers[PLANS_LAYERS];
    uint32_t tiles[PLANS_LAYERS][PLANS_TILES];
    uint32_t order[PLANS_LAYERS][PLANS_TILES * FACET_TILE];
    facet_layer checked[PLANS_LAYERS]; // as facet_check_spec.layers wants them
    facet_mat head;
} test_plan;

typedef enum test_shape {
    TEST_SHAPE_PACKS,  // d 256, f 300: every packing, a layer each
    TEST_SHAPE_TINY,   // d 64, f 172, heads of 16, one layer kind, F32
    TEST_SHAPE_UNEVEN, // d 72, f 50, heads of 24 and 6 rotated dimensions: nothing fills a vector
} test_shape;

// A plan on a shape: dense with a random order, or a family with random masks (an empty one, one
// tile, the ragged last tile, all tiles among them).
void test_plan_init(test_plan *p, test_shape shape, const char *target, bool dense, uint64_t seed);

#endif
