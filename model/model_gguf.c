// SPDX-License-Identifier: Apache-2.0
// A model from one GGUF file: hyper-parameters from its metadata, whose keys start with the name of
// the architecture.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/gguf.h"
#include "model/model_parts.h"
#include "model/tensors.h"

typedef struct reader {
    facet_model *model;
    const facet_gguf *gguf;
    const char *arch;
    facet_err *err;
} reader;

enum { KEY_MAX = 96 };

static void key_of(const reader *r, const char *name, char key[KEY_MAX])
{
    snprintf(key, KEY_MAX, "%s.%s", r->arch, name);
}

static facet_status bad_key(const reader *r, const char *key, const char *why)
{
    return facet_fail_at(r->err, FACET_BAD_FILE, r->model->path, -1,
                         "%s: metadata %s %s; the file is damaged or made by another converter",
                         r->model->path, key, why);
}

// An array with one number a layer is read as that number when all are equal.
static bool find_uniform(const facet_gguf *gguf, const char *key, int64_t *out)
{
    facet_gguf_array array;
    if (!facet_gguf_find_array(gguf, key, &array) || array.count == 0) return false;
    *out = facet_gguf_array_i64(&array, 0);
    for (uint64_t i = 1; i < array.count; i++) {
        if (facet_gguf_array_i64(&array, i) != *out) return false;
    }
    return true;
}

// Leaves *out alone when the key is missing and not required.
static facet_status get_u32(const reader *r, const char *name, bool required, uint32_t *out)
{
    char key[KEY_MAX];
    int64_t value;
    key_of(r, name, key);
    if (!facet_gguf_has(r->gguf, key)) return required ? bad_key(r, key, "is missing") : FACET_OK;
    if (facet_gguf_find_array(r->gguf, key, &(facet_gguf_array){0})) {
        if (!find_uniform(r->gguf, key, &value)) {
            return facet_fail_at(r->err, FACET_UNSUPPORTED, r->model->path, -1,
                                 "%s: metadata %s differs from layer to layer; facet needs equal "
                                 "layers",
                                 r->model->path, key);
        }
    } else if (!facet_gguf_find_i64(r->gguf, key, &value)) {
        return bad_key(r, key, "is not a whole number");
    }
    if (value < 0 || value > UINT32_MAX) return bad_key(r, key, "is out of range");
    *out = (uint32_t)value;
    return FACET_OK;
}

static facet_status get_float(const reader *r, const char *name, float *out)
{
    char key[KEY_MAX];
    double value;
    key_of(r, name, key);
    if (!facet_gguf_has(r->gguf, key)) return FACET_OK;
    if (!facet_gguf_find_f64(r->gguf, key, &value) || !isfinite(value) || fabs(value) > 1e30)
        return bad_key(r, key, "is not a finite number");
    *out = (float)value;
    return FACET_OK;
}

static facet_status unsupported(const reader *r, const char *what)
{
    return facet_fail_at(r->err, FACET_UNSUPPORTED, r->model->path, -1,
                         "%s: has %s, which facet does not compute; use another model",
                         r->model->path, what);
}

// Facts that change what a layer computes and that no row of the table has.
static facet_status refuse_extras(const reader *r)
{
    uint32_t experts = 0;
    float cap = 0, final_cap = 0;
    FACET_TRY(get_u32(r, "expert_count", false, &experts));
    FACET_TRY(get_float(r, "attn_logit_softcapping", &cap));
    FACET_TRY(get_float(r, "final_logit_softcapping", &final_cap));
    if (experts > 0) return unsupported(r, "a mixture of experts");
    if (cap > 0 || final_cap > 0) return unsupported(r, "soft-capped logits");
    return FACET_OK;
}

static facet_status read_rope(const reader *r, const facet_arch *arch)
{
    facet_hparams *hp = &r->model->hp;
    facet_span type = {"none", 4};
    char key[KEY_MAX];
    hp->rope_dims = hp->head_dim;
    FACET_TRY(get_u32(r, "rope.dimension_count", false, &hp->rope_dims));
    FACET_TRY(get_float(r, "rope.freq_base", &hp->rope_base));
    FACET_TRY(get_float(r, "rope.freq_base_swa", &hp->rope_base_local));
    if (!arch->window_period) hp->rope_base_local = hp->rope_base;
    // The old key has no type beside it: it is linear.
    FACET_TRY(get_float(r, "rope.scale_linear", &hp->rope_scale));
    key_of(r, "rope.scaling.type", key);
    facet_gguf_find_string(r->gguf, key, &type);
    if (type.bytes == 6 && memcmp(type.data, "linear", 6) == 0)
        return get_float(r, "rope.scaling.factor", &hp->rope_scale);
    if (type.bytes == 4 && memcmp(type.data, "none", 4) == 0) return FACET_OK;
    return unsupported(r, "a rope scaling other than linear or Llama 3's");
}

static facet_status read_hparams(const reader *r, const facet_arch *arch)
{
    facet_hparams *hp = &r->model->hp;
    *hp = facet_arch_defaults(arch, false);
    FACET_TRY(get_u32(r, "block_count", true, &hp->n_layers));
    FACET_TRY(get_u32(r, "embedding_length", true, &hp->d_model));
    FACET_TRY(get_u32(r, "feed_forward_length", true, &hp->d_ff));
    FACET_TRY(get_u32(r, "attention.head_count", true, &hp->n_heads));
    FACET_TRY(get_u32(r, "context_length", true, &hp->n_ctx));
    hp->n_kv_heads = hp->n_heads;
    FACET_TRY(get_u32(r, "attention.head_count_kv", false, &hp->n_kv_heads));
    FACET_TRY(get_float(r, "attention.layer_norm_rms_epsilon", &hp->rms_eps));
    if (hp->n_heads == 0) return bad_key(r, "attention.head_count", "is zero");
    hp->head_dim = hp->d_model / hp->n_heads;
    FACET_TRY(get_u32(r, "attention.key_length", false, &hp->head_dim));
    uint32_t value_length = hp->head_dim;
    FACET_TRY(get_u32(r, "attention.value_length", false, &value_length));
    if (value_length != hp->head_dim) return unsupported(r, "keys and values of unequal width");
    if (arch->window_period) FACET_TRY(get_u32(r, "attention.sliding_window", false, &hp->window));
    if (hp->head_dim == 0) return bad_key(r, "attention.key_length", "is zero");
    hp->attn_scale = 1.0f / sqrtf((float)hp->head_dim);
    if (arch->layers_scaled_by_width && hp->n_layers == arch->layers_scaled_by_width)
        hp->attn_scale = 1.0f / sqrtf((float)(hp->d_model / hp->n_heads));
    if (arch->embed_scaled) hp->embed_scale = sqrtf((float)hp->d_model);
    FACET_TRY(read_rope(r, arch));
    return refuse_extras(r);
}

// The factors of a tensor replace those that a config would describe.
static facet_status read_factors(facet_model *model, facet_err *err)
{
    const facet_tensor *tensor = model->roles[FACET_ROLE_ROPE_FREQS];
    const uint32_t n = model->hp.rope_dims / 2;
    if (!tensor) return FACET_OK;
    float *factors = facet_arena_new(&model->source->arena, n, sizeof *factors);
    if (!factors) return facet_fail_memory(err, n * sizeof *factors);
    facet_dequantize(tensor->dtype, tensor->data, n, factors);
    for (uint32_t i = 0; i < n; i++) {
        if (!(factors[i] > 0 && factors[i] < 1e6f)) {
            return facet_fail_at(err, FACET_BAD_TENSOR, tensor->file, (int64_t)tensor->offset,
                                 "%s: tensor %s has a factor that is not positive and finite; the "
                                 "file is damaged",
                                 tensor->file, tensor->name);
        }
    }
    model->rope_factors = factors;
    return FACET_OK;
}

static facet_status map_file(facet_model *model, facet_err *err)
{
    struct facet_model_source *source = model->source;
    source->maps = facet_arena_new(&source->arena, 1, sizeof *source->maps);
    if (!source->maps) return facet_fail_memory(err, sizeof *source->maps);
    FACET_TRY(facet_map_open(model->path, &source->maps[0], err));
    source->n_maps = 1;
    model->file_bytes = source->maps[0].bytes;
    return facet_gguf_parse(source->maps[0].data, source->maps[0].bytes, model->path, model->alloc,
                            &source->gguf, err);
}

static facet_status keep_tensors(facet_model *model, facet_err *err)
{
    uint32_t n;
    const facet_tensor *tensors = facet_gguf_tensors(model->source->gguf, &n);
    model->tensors = facet_arena_new(&model->source->arena, n, sizeof *tensors);
    if (!model->tensors) return facet_fail_memory(err, n * sizeof *tensors);
    if (n) memcpy(model->tensors, tensors, n * sizeof *tensors);
    model->n_tensors = n;
    return FACET_OK;
}

facet_status facet_model_open_gguf(facet_model *model, facet_err *err)
{
    const facet_arch *arch;
    facet_span name = {"", 0};
    model->format = "gguf";
    FACET_TRY(map_file(model, err));
    FACET_TRY(keep_tensors(model, err));
    const facet_gguf *gguf = model->source->gguf;
    reader r = {model, gguf, "", err};
    if (!facet_gguf_find_string(gguf, "general.architecture", &name))
        return bad_key(&r, "general.architecture", "is missing");
    FACET_TRY(facet_arch_find_gguf(name, model->path, &arch, err));
    model->arch = r.arch = arch->name;
    name = (facet_span){"", 0};
    facet_gguf_find_string(gguf, "general.name", &name);
    model->name = facet_model_keep(model, name.data, name.bytes);
    if (!model->name) return facet_fail_memory(err, name.bytes);
    FACET_TRY(read_hparams(&r, arch));
    FACET_TRY(facet_arch_check(model, err));
    FACET_TRY(facet_arch_bind(model, arch, false, false, err));
    return read_factors(model, err);
}
