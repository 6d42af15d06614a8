// SPDX-License-Identifier: Apache-2.0
// A transformer whose weights are numbers that can be trained. In: an open model, and for each
// layer the channels that are kept (or all). Out: a list of parameters; those of the chosen roles
// have a gradient, the others are frozen and cost neither time nor memory for one. The net owns its
// parameters and borrows the model. Not here: running it (train/step.h), changing it
// (train/adam.h).
#ifndef FACET_TRAIN_NET_H
#define FACET_TRAIN_NET_H

#include "calib/stream.h"
#include "train/real.h"

// The roles of parameters are the model's and one more: the bias of a down projection.
#define FACET_PARAM_DOWN_BIAS FACET_ROLE_COUNT
#define FACET_PARAM_ROLES     (FACET_ROLE_COUNT + 1)
#define FACET_PARAM_BIT(role) (UINT32_C(1) << (role))
#define FACET_PARAM_ALL       (FACET_PARAM_BIT(FACET_PARAM_ROLES) - 1)
#define FACET_PARAM_DOWN_BOTH                                                                      \
    (FACET_PARAM_BIT(FACET_ROLE_DOWN) | FACET_PARAM_BIT(FACET_PARAM_DOWN_BIAS))

typedef struct facet_param {
    uint32_t role, layer; // layer 0 where the role has none
    uint32_t rows, cols;  // gains and biases: one row; down: (n_kept, d_model), by channel
    facet_real *value;    // gains with their offset added; NULL: `rounded`, or rows of the model
    uint16_t *rounded;    // BF16, of frozen matrices for products of BF16; NULL: `value`
    facet_real *grad;     // NULL: frozen
} facet_param;

static inline size_t facet_param_size(const facet_param *param)
{
    return (size_t)param->rows * param->cols;
}

typedef struct facet_net_opts {
    // (n_layers) or NULL: every layer keeps all channels and its own rows, without a bias. A
    // layer's `down` NULL: the model's rows; its `bias` NULL: zero where biases are trained, none
    // otherwise.
    const facet_ffn_custom *custom;
    // Vectors to start from in place of the model's, or NULL.
    const facet_vectors *vectors;
    uint32_t train;            // roles that get gradients, FACET_PARAM_BIT
    facet_precision precision; // of the products that the net is for
    facet_pool *pool;          // for the time of the call
    const facet_alloc *alloc;
} facet_net_opts;

typedef struct facet_net {
    const facet_alloc *alloc;
    facet_hparams hp;
    facet_precision precision; // of products with weights; attention and norms are F32
    const float *rope_factors; // borrowed from the model, or NULL
    // Rows of an embedding that is neither trained nor the head stay in the model: it would be the
    // largest matrix and a batch reads few of its rows. Borrowed; its parameter has no value.
    const facet_tensor *embed;
    uint32_t n_params;
    facet_param *params; // layer by layer, after those of no layer
    facet_param **index; // (n_layers, FACET_PARAM_ROLES); use facet_net_param
    size_t n_trained;    // numbers in all gradients
} facet_net;

facet_status facet_net_new(const facet_model *model, const facet_net_opts *opts, facet_net **net,
                           facet_err *err);
void facet_net_free(facet_net *net);

// NULL where the model has none. A tied head is the embedding. `layer` is ignored for roles that
// are not a layer's.
facet_param *facet_net_param(const facet_net *net, uint32_t role, uint32_t layer);
static inline bool facet_net_trains(const facet_net *net, uint32_t role, uint32_t layer)
{
    const facet_param *param = facet_net_param(net, role, layer);
    return param && param->grad;
}
// Channels of a layer.
static inline uint32_t facet_net_kept(const facet_net *net, uint32_t layer)
{
    return facet_net_param(net, FACET_ROLE_DOWN, layer)->rows;
}
// All gradients to zero.
void facet_net_zero(facet_net *net);

#endif
