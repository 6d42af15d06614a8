// SPDX-License-Identifier: Apache-2.0
// The insides of an open model and the steps of opening one, shared by the files of model/:
//
//     model.c  -> model_gguf.c or model_dir.c   tensors, architecture, hyper-parameters
//              -> arch.c                        sanity of the numbers, tensors by role and shape
#ifndef FACET_MODEL_PARTS_H
#define FACET_MODEL_PARTS_H

#include "base/file.h"
#include "base/memory.h"
#include "model/source.h"

struct facet_model_source {
    facet_arena arena;
    facet_map *maps; // (n_maps) in the arena
    uint32_t n_maps;
    facet_gguf *gguf;      // NULL for a directory
    const char *directory; // NULL for a GGUF file
    cJSON *config;         // NULL for a GGUF file
    char shape[128];
};

enum { FACET_LAYERS_MAX = 4096 };

// ---- the table of architectures (arch.c) ------------------------------------------------------

typedef struct facet_arch_name {
    facet_role role;
    const char *pattern; // "%u" stands for the layer
} facet_arch_name;

typedef struct facet_arch {
    const char *name;            // in GGUF, and in what we print
    const char *hf_types[4];     // model_type in config.json
    uint32_t required, optional; // roles beside those every architecture has, FACET_ROLE_BIT
    facet_rotary rotary_gguf, rotary_hf; // converters to GGUF permute llama's q and k
    facet_gate_act act;
    bool embed_scaled;    // embeddings are multiplied by sqrt(d_model)
    float norm_offset_hf; // norm gains of the original files are (gain - this)
    float rms_eps;        // defaults where the source says nothing
    float rope_base, rope_base_local;
    uint32_t head_dim;      // 0: d_model / heads
    uint32_t window_period; // 0: no layer has a window by itself
    const char *window_hf;  // model_type whose sliding_window holds for every layer, or NULL
    bool tied_hf;           // default of tie_word_embeddings
    uint32_t layers_scaled_by_width; // attn_scale is 1/sqrt(d/heads) at this many layers, 0: never
    facet_arch_name hf_names[3];     // where the names differ from the common ones
} facet_arch;

// The architecture of a name, else FACET_UNSUPPORTED with the list of known ones.
facet_status facet_arch_find_gguf(facet_span name, const char *file, const facet_arch **out,
                                  facet_err *err);
facet_status facet_arch_find_hf(const char *model_type, const char *file, const facet_arch **out,
                                facet_err *err);
// What holds for every source of an architecture.
facet_hparams facet_arch_defaults(const facet_arch *arch, bool hf);
// Ranges and divisibility of the numbers read (n_vocab is not known yet).
facet_status facet_arch_check(const facet_model *model, facet_err *err);
// Finds each role's tensor by its name, checks its shape and type, sets n_vocab, tied and roles.
// tied: the head is the embedding even if the source has a head of its own.
facet_status facet_arch_bind(facet_model *model, const facet_arch *arch, bool hf, bool tied,
                             facet_err *err);
// Divisors of the rotary frequencies as Llama 3 defines them.
typedef struct facet_rope_llama3 {
    double factor, low, high, original_ctx;
} facet_rope_llama3;
facet_status facet_arch_llama3(facet_model *model, const facet_rope_llama3 *scaling,
                               facet_err *err);

// ---- the two kinds of source ------------------------------------------------------------------

// Each fills tensors, arch, name, format, hyper-parameters and calls the checks above.
facet_status facet_model_open_gguf(facet_model *model, facet_err *err);
facet_status facet_model_open_dir(facet_model *model, facet_err *err);

// Hyper-parameters from model->source->config (model_config.c). The rotary dimensions, the window
// and the scales included; *tied is what it says about the head.
facet_status facet_config_read(facet_model *model, const facet_arch *arch, bool *tied,
                               facet_err *err);
// A string that lives as long as the model; bytes that cannot be printed become '?'.
const char *facet_model_keep(facet_model *model, const char *text, size_t bytes);

#endif
