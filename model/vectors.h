// SPDX-License-Identifier: Apache-2.0
// The vectors of a model as floats: gains of norms and biases. In: an open model and the roles that
// are wanted. Out: their values, which may then be changed: a family may have some of its own in
// place of the model's. A gain is complete everywhere behind model/: the offset that some sources
// leave out is added here, and nowhere else. Not here: matrices.
#ifndef FACET_MODEL_VECTORS_H
#define FACET_MODEL_VECTORS_H

#include "base/memory.h"
#include "model/model.h"

// Sets of roles.
#define FACET_ROLES_GAIN                                                                           \
    (FACET_ROLE_BIT(FACET_ROLE_OUT_NORM) | FACET_ROLE_BIT(FACET_ROLE_ATTN_NORM) |                  \
     FACET_ROLE_BIT(FACET_ROLE_FFN_NORM) | FACET_ROLE_BIT(FACET_ROLE_ATTN_POST) |                  \
     FACET_ROLE_BIT(FACET_ROLE_FFN_POST) | FACET_ROLE_BIT(FACET_ROLE_Q_NORM) |                     \
     FACET_ROLE_BIT(FACET_ROLE_K_NORM))
#define FACET_ROLES_BIAS                                                                           \
    (FACET_ROLE_BIT(FACET_ROLE_Q_BIAS) | FACET_ROLE_BIT(FACET_ROLE_K_BIAS) |                       \
     FACET_ROLE_BIT(FACET_ROLE_V_BIAS) | FACET_ROLE_BIT(FACET_ROLE_O_BIAS))
#define FACET_ROLES_VECTOR (FACET_ROLES_GAIN | FACET_ROLES_BIAS)

typedef struct facet_vector {
    float *data; // (n) NULL: not there
    uint32_t n;
} facet_vector;

typedef struct facet_vectors {
    facet_arena arena; // owns the rest
    uint32_t n_layers;
    uint32_t roles;     // FACET_ROLE_BIT of those that were asked for and that the model has
    facet_vector *list; // (n_layers, FACET_ROLE_COUNT); what is no layer's is layer 0's
} facet_vectors;

// The model's vectors of `roles`, a set of FACET_ROLES_VECTOR. On failure *vectors is empty.
facet_status facet_vectors_init(facet_vectors *vectors, const facet_model *model, uint32_t roles,
                                const facet_alloc *alloc, facet_err *err);
void facet_vectors_fini(facet_vectors *vectors); // of an empty one too

// No data where it was not asked for or the model has none.
static inline facet_vector facet_vectors_get(const facet_vectors *vectors, uint32_t role,
                                             uint32_t layer)
{
    const bool of_layer = role >= FACET_ROLE_ATTN_NORM;
    return vectors->list[(of_layer ? (size_t)layer : 0) * FACET_ROLE_COUNT + role];
}

// Are all values of all vectors finite? Integer kernels would swallow one that is not. Else
// FACET_BAD_TENSOR with its tensor, file and offset.
facet_status facet_vectors_check(const facet_model *model, const facet_alloc *alloc,
                                 facet_err *err);

// The vector of one tensor (dims[0] floats), complete.
void facet_vector_read(const facet_model *model, facet_role role, const facet_tensor *tensor,
                       float *out);

#endif
