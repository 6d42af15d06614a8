// SPDX-License-Identifier: Apache-2.0
// Hyper-parameters from a Hugging Face config.json. Fields that would change what the model
// computes in a way facet does not know are refused, fields that say the default are not.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "model/model_parts.h"

typedef struct reader {
    facet_model *model;
    const facet_arch *arch;
    const cJSON *config;
    facet_err *err;
} reader;

static facet_status bad_field(const reader *r, const char *name, const char *why)
{
    return facet_fail_at(r->err, FACET_BAD_FILE, r->model->path, -1,
                         "%s/config.json: field %s %s; fetch the file again", r->model->path, name,
                         why);
}

static facet_status unsupported(const reader *r, const char *what)
{
    return facet_fail_at(r->err, FACET_UNSUPPORTED, r->model->path, -1,
                         "%s/config.json: asks for %s, which facet does not compute; use another "
                         "model",
                         r->model->path, what);
}

// The field, or NULL when it is missing or null.
static const cJSON *field(const cJSON *object, const char *name)
{
    const cJSON *item = facet_json_find(object, name);
    return item && !cJSON_IsNull(item) ? item : NULL;
}

// These leave *out alone when the field is missing.
static facet_status get_number(const reader *r, const cJSON *object, const char *name, double *out)
{
    const cJSON *item = field(object, name);
    if (!item) return FACET_OK;
    if (!cJSON_IsNumber(item) || !(fabs(item->valuedouble) <= 1e30))
        return bad_field(r, name, "is not a finite number");
    *out = item->valuedouble;
    return FACET_OK;
}

static facet_status get_u32(const reader *r, const char *name, bool required, uint32_t *out)
{
    double value = -1;
    FACET_TRY(get_number(r, r->config, name, &value));
    if (!field(r->config, name)) return required ? bad_field(r, name, "is missing") : FACET_OK;
    if (!(value >= 0 && value <= UINT32_MAX) || value != floor(value))
        return bad_field(r, name, "is not a whole number in range");
    *out = (uint32_t)value;
    return FACET_OK;
}

static facet_status get_float(const reader *r, const cJSON *object, const char *name, float *out)
{
    double value = *out;
    FACET_TRY(get_number(r, object, name, &value));
    *out = (float)value;
    return FACET_OK;
}

static bool is_true(const reader *r, const char *name)
{
    return cJSON_IsTrue(facet_json_find(r->config, name));
}

static facet_status check_act(const reader *r)
{
    static const char *const names[][2] = {
        [FACET_GATE_SILU] = {"silu", "swish"},
        [FACET_GATE_GELU_TANH] = {"gelu_pytorch_tanh", "gelu_tanh"},
    };
    const cJSON *act = field(r->config, "hidden_activation");
    if (!act) act = field(r->config, "hidden_act");
    if (!act) return FACET_OK;
    if (!cJSON_IsString(act)) return bad_field(r, "hidden_act", "is not a string");
    const char *const *known = names[r->model->hp.act];
    if (strcmp(act->valuestring, known[0]) == 0 || strcmp(act->valuestring, known[1]) == 0)
        return FACET_OK;
    return unsupported(r, "another activation than its architecture has");
}

static facet_status refuse_extras(const reader *r)
{
    double partial = 1;
    if (field(r->config, "quantization_config")) return unsupported(r, "quantised weights");
    if (field(r->config, "final_logit_softcapping") || field(r->config, "attn_logit_softcapping"))
        return unsupported(r, "soft-capped logits");
    if (is_true(r, "use_bidirectional_attention")) return unsupported(r, "two-way attention");
    FACET_TRY(get_number(r, r->config, "partial_rotary_factor", &partial));
    if (partial != 1) return unsupported(r, "partly rotated heads");
    return check_act(r);
}

// ---- windows ----------------------------------------------------------------------------------

// config.json may list each layer's kind; it must be the pattern that the numbers describe.
static facet_status check_layer_types(const reader *r)
{
    const facet_hparams *hp = &r->model->hp;
    const cJSON *item, *list = field(r->config, "layer_types");
    uint32_t layer = 0;
    if (!list) return FACET_OK;
    cJSON_ArrayForEach(item, list)
    {
        const bool windowed = facet_model_windowed(hp, layer++);
        const char *kind = windowed ? "sliding_attention" : "full_attention";
        if (!cJSON_IsString(item) || strcmp(item->valuestring, kind) != 0)
            return unsupported(r, "another pattern of attention windows");
    }
    return layer == hp->n_layers ? FACET_OK
                                 : bad_field(r, "layer_types", "has not one kind for each layer");
}

static facet_status read_window(const reader *r, const char *model_type)
{
    facet_hparams *hp = &r->model->hp;
    uint32_t full_layers = 0;
    if (hp->window_period) {
        hp->window = 4096; // the default of the original
        FACET_TRY(get_u32(r, "sliding_window", false, &hp->window));
        FACET_TRY(get_u32(r, "sliding_window_pattern", false, &hp->window_period));
        FACET_TRY(get_u32(r, "_sliding_window_pattern", false, &hp->window_period));
        if (hp->window_period == 0) return bad_field(r, "sliding_window_pattern", "is zero");
    } else if (r->arch->window_hf && strcmp(r->arch->window_hf, model_type) == 0) {
        FACET_TRY(get_u32(r, "sliding_window", false, &hp->window));
    } else if (is_true(r, "use_sliding_window")) {
        FACET_TRY(get_u32(r, "max_window_layers", false, &full_layers));
        if (full_layers < hp->n_layers) return unsupported(r, "attention windows");
    }
    return check_layer_types(r);
}

// ---- rotary embedding -------------------------------------------------------------------------

// What a rope scaling says, kept until the sizes that it needs are known to be sane.
typedef struct rope_scaling {
    bool llama3;
    facet_rope_llama3 values;
} rope_scaling;

static facet_status read_scaling(const reader *r, const cJSON *scaling, rope_scaling *out)
{
    const cJSON *type = field(scaling, "rope_type");
    if (!type) type = field(scaling, "type");
    if (!type) return FACET_OK;
    if (!cJSON_IsString(type)) return bad_field(r, "rope_scaling", "has no type");
    if (strcmp(type->valuestring, "default") == 0) return FACET_OK;
    if (strcmp(type->valuestring, "linear") == 0)
        return get_float(r, scaling, "factor", &r->model->hp.rope_scale);
    if (strcmp(type->valuestring, "llama3") != 0)
        return unsupported(r, "a rope scaling other than linear or Llama 3's");
    out->llama3 = true;
    FACET_TRY(get_number(r, scaling, "factor", &out->values.factor));
    FACET_TRY(get_number(r, scaling, "low_freq_factor", &out->values.low));
    FACET_TRY(get_number(r, scaling, "high_freq_factor", &out->values.high));
    return get_number(r, scaling, "original_max_position_embeddings", &out->values.original_ctx);
}

// Older files have rope_theta and rope_scaling; newer ones have rope_parameters, for some models
// one for each kind of attention.
static facet_status read_rope(const reader *r, rope_scaling *out)
{
    facet_hparams *hp = &r->model->hp;
    const cJSON *scaling = field(r->config, "rope_parameters");
    const cJSON *local = field(scaling, "sliding_attention");
    if (field(scaling, "full_attention")) scaling = field(scaling, "full_attention");
    if (!scaling) scaling = field(r->config, "rope_scaling");
    hp->rope_dims = hp->head_dim;
    FACET_TRY(get_float(r, r->config, "rope_theta", &hp->rope_base));
    FACET_TRY(get_float(r, scaling, "rope_theta", &hp->rope_base));
    FACET_TRY(get_float(r, r->config, "rope_local_base_freq", &hp->rope_base_local));
    FACET_TRY(get_float(r, local, "rope_theta", &hp->rope_base_local));
    if (!r->arch->window_period) hp->rope_base_local = hp->rope_base;
    return read_scaling(r, scaling, out);
}

static facet_status read_sizes(const reader *r)
{
    facet_hparams *hp = &r->model->hp;
    FACET_TRY(get_u32(r, "num_hidden_layers", true, &hp->n_layers));
    FACET_TRY(get_u32(r, "hidden_size", true, &hp->d_model));
    FACET_TRY(get_u32(r, "intermediate_size", true, &hp->d_ff));
    FACET_TRY(get_u32(r, "num_attention_heads", true, &hp->n_heads));
    FACET_TRY(get_u32(r, "max_position_embeddings", true, &hp->n_ctx));
    hp->n_kv_heads = hp->n_heads;
    FACET_TRY(get_u32(r, "num_key_value_heads", false, &hp->n_kv_heads));
    if (hp->n_heads == 0) return bad_field(r, "num_attention_heads", "is zero");
    if (hp->head_dim == 0) hp->head_dim = hp->d_model / hp->n_heads;
    FACET_TRY(get_u32(r, "head_dim", false, &hp->head_dim));
    if (hp->head_dim == 0) return bad_field(r, "head_dim", "is zero");
    return get_float(r, r->config, "rms_norm_eps", &hp->rms_eps);
}

facet_status facet_config_read(facet_model *model, const facet_arch *arch, bool *tied,
                               facet_err *err)
{
    const reader r = {model, arch, model->source->config, err};
    facet_hparams *hp = &model->hp;
    const char *model_type;
    FACET_TRY(facet_json_string(r.config, "model_type", model->path, &model_type, err));
    *hp = facet_arch_defaults(arch, true);
    FACET_TRY(read_sizes(&r));
    // Only the architecture with scaled embeddings has a scale of attention of its own.
    double scaled_width = hp->head_dim;
    if (arch->embed_scaled) {
        hp->embed_scale = sqrtf((float)hp->d_model);
        FACET_TRY(get_number(&r, r.config, "query_pre_attn_scalar", &scaled_width));
    }
    hp->attn_scale = 1.0f / sqrtf((float)scaled_width);
    FACET_TRY(read_window(&r, model_type));
    rope_scaling scaling = {0};
    FACET_TRY(read_rope(&r, &scaling));
    FACET_TRY(refuse_extras(&r));
    const cJSON *tie = field(r.config, "tie_word_embeddings");
    *tied = tie ? cJSON_IsTrue(tie) : arch->tied_hf;
    FACET_TRY(facet_arch_check(model, err));
    return scaling.llama3 ? facet_arch_llama3(model, &scaling.values, err) : FACET_OK;
}
