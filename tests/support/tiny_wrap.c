// SPDX-License-Identifier: Apache-2.0
// A tiny model as the rooms behind model/ want it: tensors by role, borrowed from the tiny model.
#include <math.h>
#include <stdlib.h>

#include "tests/support/tiny.h"

typedef struct wrapped {
    facet_model model; // first: a facet_model * is a wrapped *
    facet_tensor tensors[128];
    const facet_tensor *roles[7 * FACET_ROLE_COUNT];
} wrapped;

static void add(wrapped *w, facet_role role, uint32_t layer, const void *data, uint32_t rows,
                uint32_t cols)
{
    const size_t row = role < FACET_ROLE_ATTN_NORM ? 0 : (size_t)layer + 1;
    if (!data) return;
    facet_tensor *tensor = &w->tensors[w->model.n_tensors++];
    *tensor = (facet_tensor){.name = "tensor",
                             .dtype = FACET_DTYPE_F32,
                             .n_dims = rows == 1 ? 1 : 2,
                             .dims = {cols, rows, 1, 1},
                             .data = data,
                             .bytes = (uint64_t)rows * cols * sizeof(float)};
    w->roles[row * FACET_ROLE_COUNT + role] = tensor;
}

static void add_mat(wrapped *w, facet_role role, uint32_t layer, const tiny_mat *m)
{
    add(w, role, layer, m->data, m->rows, m->cols);
}

static void add_layer(wrapped *w, const tiny *t, uint32_t layer)
{
    const tiny_layer *l = &t->layers[layer];
    for (uint32_t v = 0; v < TINY_VECTORS; v++)
        add(w, tiny_vector_role(v), layer, l->vectors[0][v], 1, tiny_vector_size(&t->opts, v));
    add(w, FACET_ROLE_O_BIAS, layer, l->o_bias, 1, t->opts.d_model);
    add(w, FACET_ROLE_Q_NORM, layer, l->q_norm, 1, t->opts.head_dim);
    add(w, FACET_ROLE_K_NORM, layer, l->k_norm, 1, t->opts.head_dim);
    add_mat(w, FACET_ROLE_Q, layer, &l->q);
    add_mat(w, FACET_ROLE_K, layer, &l->k);
    add_mat(w, FACET_ROLE_V, layer, &l->v);
    add_mat(w, FACET_ROLE_O, layer, &l->o);
    add_mat(w, FACET_ROLE_GATE, layer, &l->gate);
    add_mat(w, FACET_ROLE_UP, layer, &l->up);
    add_mat(w, FACET_ROLE_DOWN, layer, &l->down);
}

static facet_hparams hparams_of(const tiny *t)
{
    static const facet_rotary rotaries[] = {[FACET_ROPE_NONE] = FACET_ROTARY_NONE,
                                            [FACET_ROPE_NORMAL] = FACET_ROTARY_NORMAL,
                                            [FACET_ROPE_NEOX] = FACET_ROTARY_NEOX};
    const tiny_opts *o = &t->opts;
    return (facet_hparams){.n_layers = o->n_layers,
                           .d_model = o->d_model,
                           .d_ff = o->d_ff,
                           .n_heads = o->n_heads,
                           .n_kv_heads = o->n_kv_heads,
                           .head_dim = o->head_dim,
                           .n_vocab = t->n_vocab,
                           .n_ctx = o->n_ctx,
                           .rotary = rotaries[o->rope_style],
                           .act = o->act == FACET_ACT_SILU ? FACET_GATE_SILU : FACET_GATE_GELU_TANH,
                           .rope_dims = o->rope_dims,
                           .rms_eps = 1e-5f,
                           .rope_base = 10000,
                           .rope_base_local = 500,
                           .rope_scale = (float)o->rope_scale,
                           .attn_scale = (float)(1.0 / sqrt(o->head_dim)),
                           .embed_scale = (float)o->embed_scale,
                           .window = o->window,
                           .window_period = o->window_period};
}

facet_model *tiny_wrap(const tiny *t)
{
    wrapped *w = calloc(1, sizeof *w);
    if (!w) abort();
    w->model = (facet_model){.path = "tiny",
                             .format = "gguf",
                             .arch = "llama",
                             .name = "",
                             .tensors = w->tensors,
                             .roles = w->roles,
                             .rope_factors = t->rope_factors,
                             .tied = t->head.data == NULL,
                             .tensor_norms_are_f32 = true,
                             .hp = hparams_of(t)};
    for (uint32_t layer = 0; layer < t->opts.n_layers; layer++)
        add_layer(w, t, layer);
    add_mat(w, FACET_ROLE_TOKEN_EMBD, 0, &t->embed);
    add(w, FACET_ROLE_OUT_NORM, 0, t->out_norm[0], 1, t->opts.d_model);
    add_mat(w, FACET_ROLE_HEAD, 0, &t->head);
    if (w->model.tied) w->roles[FACET_ROLE_HEAD] = w->roles[FACET_ROLE_TOKEN_EMBD];
    return &w->model;
}

facet_role tiny_vector_role(tiny_vector vector)
{
    static const facet_role roles[TINY_VECTORS] = {
        FACET_ROLE_ATTN_NORM, FACET_ROLE_FFN_NORM,  FACET_ROLE_Q_BIAS,  FACET_ROLE_K_BIAS,
        FACET_ROLE_V_BIAS,    FACET_ROLE_ATTN_POST, FACET_ROLE_FFN_POST};
    return roles[vector];
}
