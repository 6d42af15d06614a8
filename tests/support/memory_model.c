// SPDX-License-Identifier: Apache-2.0
#include "tests/support/memory_model.h"

#include <math.h>
#include <stdlib.h>

#include "base/random.h"

typedef struct memory_model {
    facet_model model; // first: a facet_model * is a memory_model *
    facet_tensor tensors[4 * FACET_ROLE_COUNT];
    const facet_tensor *roles[4 * FACET_ROLE_COUNT];
} memory_model;

static const facet_hparams shape = {
    .n_layers = 3,
    .d_model = 40,
    .d_ff = 72,
    .n_heads = 6,
    .n_kv_heads = 2,
    .head_dim = 12,
    .n_vocab = 4500,
    .n_ctx = 512,
    .rotary = FACET_ROTARY_NEOX,
    .act = FACET_GATE_SILU,
    .rope_dims = 12,
    .rms_eps = 1e-5f,
    .rope_base = 10000,
    .rope_base_local = 10000,
    .rope_scale = 1,
    .attn_scale = 0.288675f,
    .embed_scale = 1,
};

// Row 0 of the roles is the model's own, row 1 + i is layer i's.
static size_t role_index(facet_role role, uint32_t layer)
{
    const size_t row = role < FACET_ROLE_ATTN_NORM ? 0 : (size_t)layer + 1;
    return row * FACET_ROLE_COUNT + role;
}

static void tensor_add(memory_model *t, facet_role role, uint32_t layer, uint32_t rows,
                       uint32_t cols, facet_random *random)
{
    facet_tensor *tensor = &t->tensors[t->model.n_tensors++];
    const size_t n = (size_t)rows * cols;
    float *data = malloc(n * sizeof *data);
    const bool vector = rows == 1;
    const double mean = vector && t->model.hp.norm_offset == 0 ? 1 : 0;
    const double spread = vector ? 0.2 : 1 / sqrt((double)cols);
    for (size_t i = 0; data && i < n; i++)
        data[i] = (float)(mean + spread * facet_random_normal(random));
    *tensor = (facet_tensor){.name = "tensor",
                             .dtype = FACET_DTYPE_F32,
                             .n_dims = vector ? 1 : 2,
                             .dims = {cols, rows, 1, 1},
                             .data = data,
                             .bytes = n * sizeof *data};
    t->roles[role_index(role, layer)] = tensor;
}

static void layer_add(memory_model *t, facet_memory_kind kind, uint32_t layer, facet_random *random)
{
    const facet_hparams *hp = &t->model.hp;
    const uint32_t d = hp->d_model, q = hp->n_heads * hp->head_dim,
                   kv = hp->n_kv_heads * hp->head_dim;
    tensor_add(t, FACET_ROLE_ATTN_NORM, layer, 1, d, random);
    tensor_add(t, FACET_ROLE_FFN_NORM, layer, 1, d, random);
    tensor_add(t, FACET_ROLE_Q, layer, q, d, random);
    tensor_add(t, FACET_ROLE_K, layer, kv, d, random);
    tensor_add(t, FACET_ROLE_V, layer, kv, d, random);
    tensor_add(t, FACET_ROLE_O, layer, d, q, random);
    tensor_add(t, FACET_ROLE_GATE, layer, hp->d_ff, d, random);
    tensor_add(t, FACET_ROLE_UP, layer, hp->d_ff, d, random);
    tensor_add(t, FACET_ROLE_DOWN, layer, d, hp->d_ff, random);
    if (kind == FACET_MEMORY_QWEN2) {
        tensor_add(t, FACET_ROLE_Q_BIAS, layer, 1, q, random);
        tensor_add(t, FACET_ROLE_K_BIAS, layer, 1, kv, random);
        tensor_add(t, FACET_ROLE_V_BIAS, layer, 1, kv, random);
        tensor_add(t, FACET_ROLE_O_BIAS, layer, 1, d, random);
    }
    if (kind == FACET_MEMORY_QWEN3 || kind == FACET_MEMORY_GEMMA) {
        tensor_add(t, FACET_ROLE_Q_NORM, layer, 1, hp->head_dim, random);
        tensor_add(t, FACET_ROLE_K_NORM, layer, 1, hp->head_dim, random);
    }
    if (kind == FACET_MEMORY_GEMMA) {
        tensor_add(t, FACET_ROLE_ATTN_POST, layer, 1, d, random);
        tensor_add(t, FACET_ROLE_FFN_POST, layer, 1, d, random);
    }
}

facet_model *facet_memory_model_new(facet_memory_kind kind, uint64_t seed)
{
    static const char *const names[] = {"llama", "qwen2", "qwen3", "gemma3"};
    memory_model *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    facet_random random = facet_random_seed(seed);
    facet_hparams *hp = &t->model.hp;
    *hp = shape;
    if (kind == FACET_MEMORY_LLAMA) hp->rotary = FACET_ROTARY_NORMAL;
    if (kind == FACET_MEMORY_GEMMA) {
        hp->act = FACET_GATE_GELU_TANH;
        hp->norm_offset = 1;
        hp->embed_scale = sqrtf((float)hp->d_model);
        hp->window = 7;
        hp->window_period = 2;
        hp->rope_base = 1000000;
        hp->rope_scale = 2;
    }
    t->model.path = "memory";
    t->model.format = "gguf";
    t->model.arch = names[kind];
    t->model.name = "";
    t->model.tensors = t->tensors;
    t->model.roles = t->roles;
    t->model.tied = kind == FACET_MEMORY_GEMMA;
    t->model.tensor_norms_are_f32 = true;
    for (uint32_t layer = 0; layer < hp->n_layers; layer++)
        layer_add(t, kind, layer, &random);
    tensor_add(t, FACET_ROLE_TOKEN_EMBD, 0, hp->n_vocab, hp->d_model, &random);
    tensor_add(t, FACET_ROLE_OUT_NORM, 0, 1, hp->d_model, &random);
    if (!t->model.tied) tensor_add(t, FACET_ROLE_HEAD, 0, hp->n_vocab, hp->d_model, &random);
    if (t->model.tied) t->roles[FACET_ROLE_HEAD] = t->roles[FACET_ROLE_TOKEN_EMBD];
    return &t->model;
}

float *facet_memory_model_data(facet_model *model, facet_role role, uint32_t layer)
{
    union {
        const void *in;
        float *out;
    } data = {.in = model->roles[role_index(role, layer)]->data};
    return data.out;
}

void facet_memory_model_free(facet_model *model)
{
    if (!model) return;
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        union {
            const void *in;
            void *out;
        } data = {.in = model->tensors[i].data};
        free(data.out);
    }
    free((memory_model *)model);
}
