// SPDX-License-Identifier: Apache-2.0
// Architectures as a table of facts: a new one of this kind is a row here, not a branch elsewhere.
// Then what the facts must obey, and the binding of tensors to roles by name and shape.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/model_parts.h"
#include "model/tensors.h"

// What a role's tensor must measure, in terms of the hyper-parameters.
typedef enum size_of { NONE, D, F, Q_ROWS, KV_ROWS, HEAD, VOCAB, HALF_ROPE } size_of;

// Names and shapes that the architectures share. Rows NONE: a vector, kept as floats.
static const struct {
    const char *gguf, *hf;
    size_of cols, rows;
} roles[FACET_ROLE_COUNT] = {
    [FACET_ROLE_TOKEN_EMBD] = {"token_embd.weight", "model.embed_tokens.weight", D, VOCAB},
    [FACET_ROLE_OUT_NORM] = {"output_norm.weight", "model.norm.weight", D, NONE},
    [FACET_ROLE_HEAD] = {"output.weight", "lm_head.weight", D, VOCAB},
    [FACET_ROLE_ROPE_FREQS] = {"rope_freqs.weight", NULL, HALF_ROPE, NONE},
    [FACET_ROLE_ATTN_NORM] = {"blk.%u.attn_norm.weight", "model.layers.%u.input_layernorm.weight",
                              D, NONE},
    [FACET_ROLE_Q] = {"blk.%u.attn_q.weight", "model.layers.%u.self_attn.q_proj.weight", D, Q_ROWS},
    [FACET_ROLE_K] = {"blk.%u.attn_k.weight", "model.layers.%u.self_attn.k_proj.weight", D,
                      KV_ROWS},
    [FACET_ROLE_V] = {"blk.%u.attn_v.weight", "model.layers.%u.self_attn.v_proj.weight", D,
                      KV_ROWS},
    [FACET_ROLE_O] = {"blk.%u.attn_output.weight", "model.layers.%u.self_attn.o_proj.weight",
                      Q_ROWS, D},
    [FACET_ROLE_Q_BIAS] = {"blk.%u.attn_q.bias", "model.layers.%u.self_attn.q_proj.bias", Q_ROWS,
                           NONE},
    [FACET_ROLE_K_BIAS] = {"blk.%u.attn_k.bias", "model.layers.%u.self_attn.k_proj.bias", KV_ROWS,
                           NONE},
    [FACET_ROLE_V_BIAS] = {"blk.%u.attn_v.bias", "model.layers.%u.self_attn.v_proj.bias", KV_ROWS,
                           NONE},
    [FACET_ROLE_O_BIAS] = {"blk.%u.attn_output.bias", "model.layers.%u.self_attn.o_proj.bias", D,
                           NONE},
    [FACET_ROLE_Q_NORM] = {"blk.%u.attn_q_norm.weight", "model.layers.%u.self_attn.q_norm.weight",
                           HEAD, NONE},
    [FACET_ROLE_K_NORM] = {"blk.%u.attn_k_norm.weight", "model.layers.%u.self_attn.k_norm.weight",
                           HEAD, NONE},
    [FACET_ROLE_ATTN_POST] = {"blk.%u.post_attention_norm.weight", NULL, D, NONE},
    [FACET_ROLE_FFN_NORM] = {"blk.%u.ffn_norm.weight",
                             "model.layers.%u.post_attention_layernorm.weight", D, NONE},
    [FACET_ROLE_GATE] = {"blk.%u.ffn_gate.weight", "model.layers.%u.mlp.gate_proj.weight", D, F},
    [FACET_ROLE_UP] = {"blk.%u.ffn_up.weight", "model.layers.%u.mlp.up_proj.weight", D, F},
    [FACET_ROLE_DOWN] = {"blk.%u.ffn_down.weight", "model.layers.%u.mlp.down_proj.weight", F, D},
    [FACET_ROLE_FFN_POST] = {"blk.%u.post_ffw_norm.weight", NULL, D, NONE},
};

enum {
    COMMON_ROLES = FACET_ROLE_BIT(FACET_ROLE_TOKEN_EMBD) | FACET_ROLE_BIT(FACET_ROLE_OUT_NORM) |
                   FACET_ROLE_BIT(FACET_ROLE_ATTN_NORM) | FACET_ROLE_BIT(FACET_ROLE_Q) |
                   FACET_ROLE_BIT(FACET_ROLE_K) | FACET_ROLE_BIT(FACET_ROLE_V) |
                   FACET_ROLE_BIT(FACET_ROLE_O) | FACET_ROLE_BIT(FACET_ROLE_FFN_NORM) |
                   FACET_ROLE_BIT(FACET_ROLE_GATE) | FACET_ROLE_BIT(FACET_ROLE_UP) |
                   FACET_ROLE_BIT(FACET_ROLE_DOWN),
    QKV_BIASES = FACET_ROLE_BIT(FACET_ROLE_Q_BIAS) | FACET_ROLE_BIT(FACET_ROLE_K_BIAS) |
                 FACET_ROLE_BIT(FACET_ROLE_V_BIAS),
    QK_NORMS = FACET_ROLE_BIT(FACET_ROLE_Q_NORM) | FACET_ROLE_BIT(FACET_ROLE_K_NORM),
    POST_NORMS = FACET_ROLE_BIT(FACET_ROLE_ATTN_POST) | FACET_ROLE_BIT(FACET_ROLE_FFN_POST),
};

static const facet_arch archs[] = {
    {
        .name = "llama",
        .hf_types = {"llama", "mistral"},
        .optional =
            QKV_BIASES | FACET_ROLE_BIT(FACET_ROLE_O_BIAS) | FACET_ROLE_BIT(FACET_ROLE_ROPE_FREQS),
        .rotary_gguf = FACET_ROTARY_NORMAL,
        .rotary_hf = FACET_ROTARY_NEOX,
        .act = FACET_GATE_SILU,
        .rms_eps = 1e-6f,
        .rope_base = 10000,
        .window_hf = "mistral",
    },
    {
        .name = "qwen2",
        .hf_types = {"qwen2"},
        .required = QKV_BIASES,
        .rotary_gguf = FACET_ROTARY_NEOX,
        .rotary_hf = FACET_ROTARY_NEOX,
        .act = FACET_GATE_SILU,
        .rms_eps = 1e-6f,
        .rope_base = 10000,
    },
    {
        .name = "qwen3",
        .hf_types = {"qwen3"},
        .required = QK_NORMS,
        .optional = QKV_BIASES | FACET_ROLE_BIT(FACET_ROLE_O_BIAS),
        .rotary_gguf = FACET_ROTARY_NEOX,
        .rotary_hf = FACET_ROTARY_NEOX,
        .act = FACET_GATE_SILU,
        .rms_eps = 1e-6f,
        .rope_base = 10000,
        .head_dim = 128,
    },
    {
        .name = "gemma3",
        .hf_types = {"gemma3_text"},
        .required = QK_NORMS | POST_NORMS,
        .rotary_gguf = FACET_ROTARY_NEOX,
        .rotary_hf = FACET_ROTARY_NEOX,
        .act = FACET_GATE_GELU_TANH,
        .embed_scaled = true,
        .norm_offset_hf = 1,
        .rms_eps = 1e-6f,
        .rope_base = 1000000,
        .rope_base_local = 10000,
        .head_dim = 256,
        .window_period = 6,
        .tied_hf = true,
        .layers_scaled_by_width = 62,
        .hf_names = {{FACET_ROLE_ATTN_POST, "model.layers.%u.post_attention_layernorm.weight"},
                     {FACET_ROLE_FFN_NORM, "model.layers.%u.pre_feedforward_layernorm.weight"},
                     {FACET_ROLE_FFN_POST, "model.layers.%u.post_feedforward_layernorm.weight"}},
    },
};

// ---- finding a row ----------------------------------------------------------------------------

static facet_status unknown(const char *name, size_t bytes, const char *file, facet_err *err)
{
    char known[128] = "";
    size_t at = 0;
    for (size_t i = 0; i < FACET_COUNT_OF(archs); i++)
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", archs[i].name);
    char shown[48];
    const size_t n = bytes < sizeof shown - 1 ? bytes : sizeof shown - 1;
    for (size_t i = 0; i < n; i++)
        shown[i] = name[i] > 32 && name[i] < 127 ? name[i] : '?';
    shown[n] = 0;
    return facet_fail_at(err, FACET_UNSUPPORTED, file, -1,
                         "%s: its architecture is '%s', which facet does not know; it knows %s",
                         file, shown, known);
}

facet_status facet_arch_find_gguf(facet_span name, const char *file, const facet_arch **out,
                                  facet_err *err)
{
    for (size_t i = 0; i < FACET_COUNT_OF(archs); i++) {
        const size_t bytes = strlen(archs[i].name);
        if (bytes == name.bytes && memcmp(archs[i].name, name.data, bytes) == 0) {
            *out = &archs[i];
            return FACET_OK;
        }
    }
    return unknown(name.data, name.bytes, file, err);
}

facet_status facet_arch_find_hf(const char *model_type, const char *file, const facet_arch **out,
                                facet_err *err)
{
    for (size_t i = 0; i < FACET_COUNT_OF(archs); i++) {
        for (size_t j = 0; j < FACET_COUNT_OF(archs[i].hf_types); j++) {
            if (archs[i].hf_types[j] && strcmp(archs[i].hf_types[j], model_type) == 0) {
                *out = &archs[i];
                return FACET_OK;
            }
        }
    }
    return unknown(model_type, strlen(model_type), file, err);
}

facet_hparams facet_arch_defaults(const facet_arch *arch, bool hf)
{
    return (facet_hparams){
        .head_dim = arch->head_dim,
        .rotary = hf ? arch->rotary_hf : arch->rotary_gguf,
        .act = arch->act,
        .rms_eps = arch->rms_eps,
        .rope_base = arch->rope_base,
        .rope_base_local = arch->rope_base_local,
        .rope_scale = 1,
        .embed_scale = 1,
        .norm_offset = hf ? arch->norm_offset_hf : 0,
        .window_period = arch->window_period,
    };
}

// ---- sanity of the numbers --------------------------------------------------------------------

static facet_status bad_number(const facet_model *model, const char *what, double value,
                               const char *why, facet_err *err)
{
    return facet_fail_at(err, FACET_BAD_FILE, model->path, -1,
                         "%s: %s is %.9g, %s; the file is damaged", model->path, what, value, why);
}

facet_status facet_arch_check(const facet_model *model, facet_err *err)
{
    const facet_hparams *hp = &model->hp;
    const struct {
        const char *what;
        double value, min, max;
    } ranges[] = {
        {"the number of layers", hp->n_layers, 1, FACET_LAYERS_MAX},
        {"the model width", hp->d_model, 1, 1 << 20},
        {"the FFN width", hp->d_ff, 1, 1 << 22},
        {"the number of heads", hp->n_heads, 1, 4096},
        {"the number of key-value heads", hp->n_kv_heads, 1, 4096},
        {"the head width", hp->head_dim, 1, 4096},
        {"the context length", hp->n_ctx, 1, 1 << 30},
        {"the number of rotated dimensions", hp->rope_dims, 2, hp->head_dim},
        {"the sliding window", hp->window, 0, 1 << 30},
        {"the norm epsilon", hp->rms_eps, 0, 0.1},
        {"the rotary base", hp->rope_base, 1, 1e12},
        {"the local rotary base", hp->rope_base_local, 1, 1e12},
        {"the rotary scale", hp->rope_scale, 1e-3, 1e6},
        {"the attention scale", hp->attn_scale, 1e-6, 1e3},
    };
    for (size_t i = 0; i < FACET_COUNT_OF(ranges); i++) {
        // Written so that a NaN fails.
        if (!(ranges[i].value >= ranges[i].min && ranges[i].value <= ranges[i].max))
            return bad_number(model, ranges[i].what, ranges[i].value, "out of range", err);
    }
    if (hp->n_heads % hp->n_kv_heads != 0)
        return bad_number(model, "the number of key-value heads", hp->n_kv_heads,
                          "not a divisor of the number of heads", err);
    if (hp->rope_dims % 2 != 0)
        return bad_number(model, "the number of rotated dimensions", hp->rope_dims, "odd", err);
    if (hp->head_dim % 16 != 0) {
        return facet_fail_at(err, FACET_UNSUPPORTED, model->path, -1,
                             "%s: the head width is %u; facet needs a multiple of 16", model->path,
                             hp->head_dim);
    }
    return FACET_OK;
}

// ---- Llama 3's rotary frequencies -------------------------------------------------------------

facet_status facet_arch_llama3(facet_model *model, const facet_rope_llama3 *scaling, facet_err *err)
{
    const facet_hparams *hp = &model->hp;
    const uint32_t n = hp->rope_dims / 2;
    if (!(scaling->factor >= 1 && scaling->factor <= 1e4 && scaling->low > 0 &&
          scaling->high > scaling->low && scaling->high <= 1e6 && scaling->original_ctx >= 1 &&
          scaling->original_ctx <= 1e9)) {
        return facet_fail_at(err, FACET_BAD_FILE, model->path, -1,
                             "%s: its Llama 3 rope scaling has impossible numbers; the file is "
                             "damaged",
                             model->path);
    }
    float *factors = facet_arena_new(&model->source->arena, n, sizeof *factors);
    if (!factors) return facet_fail_memory(err, n * sizeof *factors);
    for (uint32_t i = 0; i < n; i++) {
        const double freq = pow(hp->rope_base, -2.0 * i / hp->rope_dims);
        const double turns = scaling->original_ctx * freq / (2 * 3.14159265358979323846);
        // Between the two thresholds the frequency moves smoothly from divided to unchanged.
        const double mix = (turns - scaling->low) / (scaling->high - scaling->low);
        const double smooth = mix < 0 ? 0 : mix > 1 ? 1 : mix;
        factors[i] = (float)(1 / ((1 - smooth) / scaling->factor + smooth));
    }
    model->rope_factors = factors;
    return FACET_OK;
}

// ---- tensors by role --------------------------------------------------------------------------

static uint64_t measure(const facet_hparams *hp, size_of size)
{
    switch (size) {
    case D:
        return hp->d_model;
    case F:
        return hp->d_ff;
    case Q_ROWS:
        return (uint64_t)hp->n_heads * hp->head_dim;
    case KV_ROWS:
        return (uint64_t)hp->n_kv_heads * hp->head_dim;
    case HEAD:
        return hp->head_dim;
    case VOCAB:
        return hp->n_vocab;
    case HALF_ROPE:
        return hp->rope_dims / 2;
    case NONE:
        break;
    }
    return 1;
}

static const char *pattern_of(const facet_arch *arch, facet_role role, bool hf)
{
    if (!hf) return roles[role].gguf;
    for (size_t i = 0; i < FACET_COUNT_OF(arch->hf_names); i++) {
        if (arch->hf_names[i].pattern && arch->hf_names[i].role == role)
            return arch->hf_names[i].pattern;
    }
    return roles[role].hf;
}

// Writes the name of a role's tensor: the one "%u" of a pattern becomes the layer.
static void role_name(const char *pattern, uint32_t layer, char *out, size_t capacity)
{
    const char *hole = strstr(pattern, "%u");
    if (hole) {
        snprintf(out, capacity, "%.*s%u%s", (int)(hole - pattern), pattern, layer, hole + 2);
    } else {
        snprintf(out, capacity, "%s", pattern);
    }
}

static facet_status check_shape(facet_model *model, facet_role role, const facet_tensor *tensor,
                                facet_err *err)
{
    facet_hparams *hp = &model->hp;
    const bool vector = roles[role].rows == NONE;
    if (role == FACET_ROLE_TOKEN_EMBD && tensor->dims[1] <= 1 << 24)
        hp->n_vocab = (uint32_t)tensor->dims[1];
    const uint64_t cols = measure(hp, roles[role].cols);
    const uint64_t rows = measure(hp, roles[role].rows);
    if (tensor->n_dims != (vector ? 1u : 2u) || tensor->dims[0] != cols ||
        tensor->dims[1] != rows) {
        return facet_fail_at(err, FACET_BAD_TENSOR, tensor->file, (int64_t)tensor->offset,
                             "%s: tensor %s has shape %llu x %llu (%u dimensions) where the "
                             "model needs %llu x %llu; the file is damaged",
                             tensor->file, tensor->name, (unsigned long long)tensor->dims[0],
                             (unsigned long long)tensor->dims[1], tensor->n_dims,
                             (unsigned long long)cols, (unsigned long long)rows);
    }
    if (!vector) return FACET_OK;
    if (tensor->dtype > FACET_DTYPE_BF16) {
        return facet_fail_at(err, FACET_UNSUPPORTED, tensor->file, (int64_t)tensor->offset,
                             "%s: tensor %s has type %s; facet reads norms and biases as F32, F16 "
                             "or BF16",
                             tensor->file, tensor->name, facet_dtype_name(tensor->dtype));
    }
    if (tensor->dtype != FACET_DTYPE_F32) model->tensor_norms_are_f32 = false;
    return FACET_OK;
}

static facet_status bind_role(facet_model *model, const facet_arch *arch, bool hf, facet_role role,
                              uint32_t layer, facet_err *err)
{
    const uint32_t required = COMMON_ROLES | arch->required;
    const uint32_t allowed = required | arch->optional | FACET_ROLE_BIT(FACET_ROLE_HEAD);
    const uint32_t bit = UINT32_C(1) << role;
    const char *pattern = pattern_of(arch, role, hf);
    if (!(allowed & bit) || !pattern) return FACET_OK;
    char name[96];
    role_name(pattern, layer, name, sizeof name);
    const facet_tensor *tensor = facet_tensors_find(model->tensors, model->n_tensors, name);
    if (!tensor) {
        if (!(required & bit)) return FACET_OK;
        return facet_fail_at(err, FACET_BAD_TENSOR, model->path, -1,
                             "%s: tensor %s is missing, which a %s model needs; the file is "
                             "incomplete",
                             model->path, name, arch->name);
    }
    FACET_TRY(check_shape(model, role, tensor, err));
    const uint32_t row = role < FACET_ROLE_ATTN_NORM ? 0 : layer + 1;
    model->roles[(size_t)row * FACET_ROLE_COUNT + role] = tensor;
    return FACET_OK;
}

// A tensor that no role reads would silently change what the model computes (experts, adapters,
// attention sinks), so it is refused. Buffers that some exporters add can be computed and are not.
static facet_status check_unused(facet_model *model, bool hf, facet_err *err)
{
    const size_t n_roles = ((size_t)model->hp.n_layers + 1) * FACET_ROLE_COUNT;
    bool *used = facet_arena_new(&model->source->arena, model->n_tensors, sizeof *used);
    if (!used) return facet_fail_memory(err, model->n_tensors);
    for (size_t i = 0; i < n_roles; i++) {
        if (model->roles[i]) used[model->roles[i] - model->tensors] = true;
    }
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        const facet_tensor *tensor = &model->tensors[i];
        if (used[i] || (hf && strstr(tensor->name, "rotary_emb.inv_freq"))) continue;
        return facet_fail_at(err, FACET_UNSUPPORTED, tensor->file, (int64_t)tensor->offset,
                             "%s: tensor %s is none that facet knows in a %s model, so the model "
                             "computes something facet does not; use another model",
                             tensor->file, tensor->name, model->arch);
    }
    return FACET_OK;
}

facet_status facet_arch_bind(facet_model *model, const facet_arch *arch, bool hf, bool tied,
                             facet_err *err)
{
    const size_t n_rows = (size_t)model->hp.n_layers + 1;
    model->roles = facet_arena_new(&model->source->arena, n_rows * FACET_ROLE_COUNT,
                                   sizeof(const facet_tensor *));
    if (!model->roles) return facet_fail_memory(err, n_rows * FACET_ROLE_COUNT * sizeof(void *));
    model->tensor_norms_are_f32 = true;
    for (int role = 0; role < FACET_ROLE_ATTN_NORM; role++)
        FACET_TRY(bind_role(model, arch, hf, (facet_role)role, 0, err));
    for (uint32_t layer = 0; layer < model->hp.n_layers; layer++) {
        for (int role = FACET_ROLE_ATTN_NORM; role < FACET_ROLE_COUNT; role++)
            FACET_TRY(bind_role(model, arch, hf, (facet_role)role, layer, err));
    }
    FACET_TRY(check_unused(model, hf, err));
    model->tied = tied || !model->roles[FACET_ROLE_HEAD];
    if (model->tied) model->roles[FACET_ROLE_HEAD] = model->roles[FACET_ROLE_TOKEN_EMBD];
    return FACET_OK;
}
