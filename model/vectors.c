// SPDX-License-Identifier: Apache-2.0
#include "model/vectors.h"

#include <math.h>

void facet_vector_read(const facet_model *model, facet_role role, const facet_tensor *tensor,
                       float *out)
{
    facet_tensor_row(tensor, 0, out);
    if (!(FACET_ROLES_GAIN & FACET_ROLE_BIT(role))) return;
    for (uint64_t i = 0; i < tensor->dims[0]; i++)
        out[i] += model->hp.norm_offset;
}

static facet_status vector_add(facet_vectors *vectors, const facet_model *model, facet_role role,
                               uint32_t layer, facet_err *err)
{
    const facet_tensor *tensor = facet_model_tensor(model, role, layer);
    if (!tensor) return FACET_OK;
    facet_vector *vector = &vectors->list[(size_t)layer * FACET_ROLE_COUNT + role];
    vector->n = (uint32_t)tensor->dims[0];
    vector->data = facet_arena_new(&vectors->arena, vector->n, sizeof *vector->data);
    if (!vector->data) return facet_fail_memory(err, vector->n * sizeof *vector->data);
    facet_vector_read(model, role, tensor, vector->data);
    vectors->roles |= FACET_ROLE_BIT(role);
    return FACET_OK;
}

facet_status facet_vectors_init(facet_vectors *vectors, const facet_model *model, uint32_t roles,
                                const facet_alloc *alloc, facet_err *err)
{
    const size_t n = (size_t)model->hp.n_layers * FACET_ROLE_COUNT;
    facet_status status = FACET_OK;
    *vectors = (facet_vectors){.n_layers = model->hp.n_layers};
    facet_arena_init(&vectors->arena, alloc);
    vectors->list = facet_arena_new(&vectors->arena, n, sizeof *vectors->list);
    if (!vectors->list) return facet_fail_memory(err, n * sizeof *vectors->list);
    for (uint32_t layer = 0; layer < model->hp.n_layers; layer++) {
        for (uint32_t role = 0; role < FACET_ROLE_COUNT && status == FACET_OK; role++) {
            const bool wanted = roles & FACET_ROLES_VECTOR & FACET_ROLE_BIT(role);
            if (wanted && (layer == 0 || role >= FACET_ROLE_ATTN_NORM))
                status = vector_add(vectors, model, (facet_role)role, layer, err);
        }
    }
    if (status != FACET_OK) facet_vectors_fini(vectors);
    return status;
}

static facet_status check_values(const facet_tensor *tensor, const facet_vector *vector,
                                 facet_err *err)
{
    for (uint32_t i = 0; i < vector->n; i++)
        if (!isfinite(vector->data[i]))
            return facet_fail_at(err, FACET_BAD_TENSOR, tensor->file, (int64_t)tensor->offset,
                                 "%s: tensor %s: value %u is not finite; the weights are damaged, "
                                 "fetch the model again",
                                 tensor->file, tensor->name, (unsigned)i);
    return FACET_OK;
}

facet_status facet_vectors_check(const facet_model *model, const facet_alloc *alloc, facet_err *err)
{
    facet_vectors vectors;
    FACET_TRY(facet_vectors_init(&vectors, model, FACET_ROLES_VECTOR, alloc, err));
    facet_status status = FACET_OK;
    for (uint32_t layer = 0; layer < model->hp.n_layers; layer++)
        for (uint32_t role = 0; role < FACET_ROLE_COUNT && status == FACET_OK; role++) {
            const facet_vector *vector = &vectors.list[(size_t)layer * FACET_ROLE_COUNT + role];
            if (vector->data)
                status =
                    check_values(facet_model_tensor(model, (facet_role)role, layer), vector, err);
        }
    facet_vectors_fini(&vectors);
    return status;
}

void facet_vectors_fini(facet_vectors *vectors)
{
    facet_arena_fini(&vectors->arena);
    *vectors = (facet_vectors){0};
}
