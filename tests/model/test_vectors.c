// SPDX-License-Identifier: Apache-2.0
// Vectors of a model as floats: which are there, that gains are complete, and out of memory.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/vectors.h"
#include "tests/support/failing.h"
#include "tests/support/memory_model.h"

// Whether it is there and what it says, role by role. An offset is added to gains only.
static void check_all(const facet_vectors *vectors, facet_model *model, uint32_t wanted)
{
    for (uint32_t layer = 0; layer < model->hp.n_layers; layer++)
        for (uint32_t role = 0; role < FACET_ROLE_COUNT; role++) {
            const facet_tensor *tensor = facet_model_tensor(model, (facet_role)role, layer);
            const facet_vector vector = facet_vectors_get(vectors, role, layer);
            const bool there = tensor && (wanted & FACET_ROLE_BIT(role));
            assert_int_equal(vector.data != NULL, there);
            assert_true(!there || (vectors->roles & FACET_ROLE_BIT(role)));
            if (!there) continue;
            assert_int_equal(vector.n, tensor->dims[0]);
            const float *stored = facet_memory_model_data(model, (facet_role)role, layer);
            const bool gain = FACET_ROLES_GAIN & FACET_ROLE_BIT(role);
            for (uint32_t i = 0; i < vector.n; i++)
                assert_true(vector.data[i] == stored[i] + (gain ? model->hp.norm_offset : 0));
        }
}

static void test_values(void **state)
{
    (void)state;
    const uint32_t sets[] = {FACET_ROLES_VECTOR, FACET_ROLES_BIAS,
                             FACET_ROLE_BIT(FACET_ROLE_FFN_NORM), 0};
    for (int kind = 0; kind < FACET_MEMORY_COUNT; kind++)
        for (size_t i = 0; i < FACET_COUNT_OF(sets); i++) {
            facet_model *model = facet_memory_model_new((facet_memory_kind)kind, 3);
            facet_vectors vectors;
            assert_int_equal(facet_vectors_init(&vectors, model, sets[i], NULL, NULL), FACET_OK);
            check_all(&vectors, model, sets[i]);
            assert_int_equal(vectors.roles & ~sets[i], 0);
            facet_vectors_fini(&vectors);
            facet_vectors_fini(&vectors); // twice is safe
            facet_memory_model_free(model);
        }
}

static void test_memory(void **state)
{
    (void)state;
    facet_model *model = facet_memory_model_new(FACET_MEMORY_GEMMA, 3);
    for (long fail_at = 1;; fail_at++) {
        facet_failing failing;
        facet_failing_init(&failing, fail_at);
        facet_vectors vectors;
        const facet_status status =
            facet_vectors_init(&vectors, model, FACET_ROLES_VECTOR, &failing.alloc, NULL);
        if (status == FACET_OK) facet_vectors_fini(&vectors);
        assert_int_equal(atomic_load(&failing.alive), 0);
        if (status == FACET_OK) break;
        assert_int_equal(status, FACET_NO_MEMORY);
        assert_null(vectors.list);
    }
    facet_memory_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values),
                                       cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
