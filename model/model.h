// SPDX-License-Identifier: Apache-2.0
// A source model, opened read-only: a .gguf file or a directory with config.json, *.safetensors and
// tokenizer.json. In: the path. Out: facts (hyper-parameters) and tensors by role. Every count,
// length and offset of the outside bytes is checked here, so nobody checks them again.
// Which architecture has which tensors and which facts is a table (model/arch.c), not branches.
#ifndef FACET_MODEL_MODEL_H
#define FACET_MODEL_MODEL_H

#include "base/report.h"
#include "model/dtype.h"

typedef struct facet_tensor {
    const char *name; // as in the source
    facet_dtype dtype;
    uint32_t n_dims;
    uint64_t dims[4]; // dims[0] is contiguous: columns; dims[1]: rows; unused are 1
    const void *data; // borrowed from the mapping
    uint64_t bytes;
    const char *file; // which file holds it, and where
    uint64_t offset;
} facet_tensor;

typedef enum facet_role {
    FACET_ROLE_TOKEN_EMBD, // rows vocab, cols d_model
    FACET_ROLE_OUT_NORM,
    FACET_ROLE_HEAD,       // TOKEN_EMBD's tensor when tied
    FACET_ROLE_ROPE_FREQS, // Llama 3 factors (rope_dims / 2), rarely there
    FACET_ROLE_ATTN_NORM,  // the rest: one a layer
    FACET_ROLE_Q,
    FACET_ROLE_K,
    FACET_ROLE_V,
    FACET_ROLE_O,
    FACET_ROLE_Q_BIAS,
    FACET_ROLE_K_BIAS,
    FACET_ROLE_V_BIAS,
    FACET_ROLE_O_BIAS,
    FACET_ROLE_Q_NORM,
    FACET_ROLE_K_NORM,
    FACET_ROLE_ATTN_POST,
    FACET_ROLE_FFN_NORM,
    FACET_ROLE_GATE,
    FACET_ROLE_UP,
    FACET_ROLE_DOWN,
    FACET_ROLE_FFN_POST,
    FACET_ROLE_COUNT
} facet_role;

// Of sets of roles.
#define FACET_ROLE_BIT(role) (UINT32_C(1) << (role))

typedef enum facet_rotary {
    FACET_ROTARY_NONE,
    FACET_ROTARY_NORMAL,
    FACET_ROTARY_NEOX
} facet_rotary;
typedef enum facet_gate_act { FACET_GATE_SILU, FACET_GATE_GELU_TANH } facet_gate_act;

typedef struct facet_hparams {
    uint32_t n_layers, d_model, d_ff, n_heads, n_kv_heads, head_dim, n_vocab, n_ctx;
    facet_rotary rotary;
    facet_gate_act act;
    uint32_t rope_dims;
    float rms_eps;
    float rope_base, rope_base_local; // local: layers with a sliding window (else equal to base)
    float rope_scale;       // linear: positions of global layers are divided by it; 1: none
    float attn_scale;       // of q.k
    float embed_scale;      // sqrt(d_model) for gemma, else 1
    float norm_offset;      // 1 when the stored norm gains are (gain - 1), else 0
    uint32_t window;        // sliding window in tokens, 0: none
    uint32_t window_period; // every window_period-th layer is global (gemma3: 6)
} facet_hparams;

typedef struct facet_model {
    const facet_alloc *alloc;
    const char *path;
    const char *format; // "gguf" or "safetensors"
    const char *arch;   // "llama", "qwen2", "qwen3", "gemma3"
    const char *name;   // "" when the file has none
    facet_hparams hp;
    const float *rope_factors; // (rope_dims / 2) divisors of the rotary frequencies, or NULL
    facet_tensor *tensors;     // in name order
    uint32_t n_tensors;
    const facet_tensor **roles; // (n_layers + 1) x FACET_ROLE_COUNT; use facet_model_tensor
    uint64_t n_parameters;
    uint64_t file_bytes;
    bool tied; // the head is the embedding
    bool tensor_norms_are_f32;
    struct facet_model_source *source; // mappings and metadata, private to model/
} facet_model;

// Opens and checks a model. Close with facet_model_close.
facet_status facet_model_open(const char *path, const facet_alloc *alloc, facet_model **model,
                              facet_err *err);
void facet_model_close(facet_model *model); // NULL is fine
// The tensor of a role, or NULL. `layer` is ignored for roles that are not a layer's.
const facet_tensor *facet_model_tensor(const facet_model *model, facet_role role, uint32_t layer);
// Has this layer a sliding window?
bool facet_model_windowed(const facet_hparams *hp, uint32_t layer);
// "arch:layers:d:f:vocab", as in mask files. Borrowed.
const char *facet_model_shape(const facet_model *model);
// XXH3-128 over tensor data in name order; reads the whole file once.
facet_status facet_model_fingerprint(const facet_model *model, const facet_report *report,
                                     char hex[33], facet_err *err);
// Row `row` of a matrix as floats (dims[0] of them).
void facet_tensor_row(const facet_tensor *tensor, uint64_t row, float *dst);

#endif
