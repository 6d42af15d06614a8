// SPDX-License-Identifier: Apache-2.0
// Opening and closing models, and what other rooms ask of an open one.
#include "model/model.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "model/model_parts.h"
#include "model/vectors.h"

const char *facet_model_keep(facet_model *model, const char *text, size_t bytes)
{
    char *copy = facet_arena_new(&model->source->arena, bytes + 1, 1);
    for (size_t i = 0; copy && i < bytes; i++)
        copy[i] = (uint8_t)text[i] < 32 || text[i] == 127 ? '?' : text[i];
    return copy;
}

static facet_status model_new(const char *path, const facet_alloc *alloc, facet_model **out,
                              facet_err *err)
{
    facet_model *model = facet_mem_new(alloc, 1, sizeof *model);
    if (!model) return facet_fail_memory(err, sizeof *model);
    model->alloc = alloc;
    model->source = facet_mem_new(alloc, 1, sizeof *model->source);
    if (!model->source) {
        facet_mem_free(alloc, model);
        return facet_fail_memory(err, sizeof *model->source);
    }
    facet_arena_init(&model->source->arena, alloc);
    model->path = facet_arena_strdup(&model->source->arena, path);
    *out = model;
    return model->path ? FACET_OK : facet_fail_memory(err, strlen(path) + 1);
}

facet_status facet_model_open(const char *path, const facet_alloc *alloc, facet_model **out,
                              facet_err *err)
{
    facet_status status;
    facet_model *model = NULL;
    FACET_TRY_GOTO(model_new(path, alloc, &model, err), done);
    FACET_TRY_GOTO(facet_path_is_dir(path) ? facet_model_open_dir(model, err)
                                           : facet_model_open_gguf(model, err),
                   done);
    FACET_TRY_GOTO(facet_vectors_check(model, alloc, err), done);
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        const uint64_t *dims = model->tensors[i].dims;
        model->n_parameters += dims[0] * dims[1] * dims[2] * dims[3];
    }
    const facet_hparams *hp = &model->hp;
    snprintf(model->source->shape, sizeof model->source->shape, "%s:%u:%u:%u:%u", model->arch,
             hp->n_layers, hp->d_model, hp->d_ff, hp->n_vocab);
    *out = model;
    model = NULL;
done:
    facet_model_close(model);
    return status;
}

void facet_model_close(facet_model *model)
{
    if (!model) return;
    struct facet_model_source *source = model->source;
    facet_gguf_free(source->gguf);
    cJSON_Delete(source->config);
    for (uint32_t i = 0; i < source->n_maps; i++)
        facet_map_close(&source->maps[i]);
    facet_arena_fini(&source->arena);
    facet_mem_free(model->alloc, source);
    facet_mem_free(model->alloc, model);
}

const facet_gguf *facet_model_gguf(const facet_model *model)
{
    return model->source->gguf;
}

const char *facet_model_directory(const facet_model *model)
{
    return model->source->directory;
}

const cJSON *facet_model_config(const facet_model *model)
{
    return model->source->config;
}

const facet_tensor *facet_model_tensor(const facet_model *model, facet_role role, uint32_t layer)
{
    const size_t row = role < FACET_ROLE_ATTN_NORM ? 0 : (size_t)layer + 1;
    if (row > model->hp.n_layers) return NULL;
    return model->roles[row * FACET_ROLE_COUNT + role];
}

bool facet_model_windowed(const facet_hparams *hp, uint32_t layer)
{
    if (hp->window == 0) return false;
    return hp->window_period == 0 || layer % hp->window_period != hp->window_period - 1;
}

const char *facet_model_shape(const facet_model *model)
{
    return model->source->shape;
}

facet_status facet_model_fingerprint(const facet_model *model, const facet_report *report,
                                     char hex[33], facet_err *err)
{
    const uint64_t piece = 16u << 20; // small enough to be interrupted at once
    uint64_t total = 0, done = 0;
    facet_status status = FACET_OK;
    facet_hasher *hasher = facet_hasher_new(model->alloc);
    if (!hasher) return facet_fail_memory(err, 0);
    for (uint32_t i = 0; i < model->n_tensors; i++)
        total += model->tensors[i].bytes;
    for (uint32_t i = 0; i < model->n_tensors && status == FACET_OK; i++) {
        const facet_tensor *tensor = &model->tensors[i];
        for (uint64_t at = 0; at < tensor->bytes && status == FACET_OK;) {
            const uint64_t left = tensor->bytes - at;
            const uint64_t bytes = left < piece ? left : piece;
            facet_hasher_add(hasher, (const uint8_t *)tensor->data + at, (size_t)bytes);
            at += bytes;
            done += bytes;
            status = facet_report_progress(report, "fingerprint", done, total, err);
        }
    }
    const facet_digest digest = facet_hasher_end(hasher);
    if (status == FACET_OK) memcpy(hex, digest.hex, FACET_DIGEST_HEX);
    return status;
}

void facet_tensor_row(const facet_tensor *tensor, uint64_t row, float *dst)
{
    const uint64_t cols = tensor->dims[0];
    const uint64_t bytes =
        cols / facet_dtype_block(tensor->dtype) * facet_dtype_bytes(tensor->dtype);
    facet_dequantize(tensor->dtype, (const uint8_t *)tensor->data + row * bytes, cols, dst);
}
