// SPDX-License-Identifier: Apache-2.0
// A model from a directory: config.json and the tensors of one safetensors file or of the shards
// that an index names. The index decides which files are opened, so its names must be plain.
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/model_parts.h"
#include "model/safetensors.h"
#include "model/tensors.h"

enum { CONFIG_MAX = 16 << 20, INDEX_MAX = 64 << 20, SHARDS_MAX = 1024, PATH_MAX_BYTES = 4096 };

static const char index_name[] = "model.safetensors.index.json";
static const char suffix[] = ".safetensors";

// The files to read, in order of their names.
typedef struct shard_list {
    const char **names;
    uint32_t n;
} shard_list;

static bool has_suffix(const char *name)
{
    const size_t bytes = strlen(name), end = sizeof suffix - 1;
    return bytes > end && strcmp(name + bytes - end, suffix) == 0;
}

// A file of this directory and nothing else: no path, no hidden name, nothing unprintable.
static bool shard_ok(const char *name)
{
    if (!has_suffix(name) || name[0] == '.' || strlen(name) > 255) return false;
    for (const char *c = name; *c; c++) {
        if (*c == '/' || *c == '\\' || (uint8_t)*c < 32 || *c == 127) return false;
    }
    return true;
}

static int string_order(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static facet_status bad_index(const facet_model *model, const char *why, facet_err *err)
{
    return facet_fail_at(err, FACET_BAD_FILE, model->path, -1, "%s/%s: %s; fetch the model again",
                         model->path, index_name, why);
}

static facet_status list_index(facet_model *model, const cJSON *map, shard_list *shards,
                               facet_err *err)
{
    const cJSON *item;
    const size_t n = (size_t)cJSON_GetArraySize(map);
    shards->names = facet_arena_new(&model->source->arena, n, sizeof *shards->names);
    if (!shards->names) return facet_fail_memory(err, n * sizeof *shards->names);
    uint32_t count = 0;
    cJSON_ArrayForEach(item, map)
    {
        if (!cJSON_IsString(item) || !shard_ok(item->valuestring))
            return bad_index(model, "names a shard that is not a plain *.safetensors file name",
                             err);
        shards->names[count++] = item->valuestring;
    }
    qsort(shards->names, count, sizeof *shards->names, string_order);
    for (uint32_t i = 0; i < count; i++) {
        if (i && strcmp(shards->names[i], shards->names[shards->n - 1]) == 0) continue;
        shards->names[shards->n++] = shards->names[i];
    }
    if (shards->n == 0) return bad_index(model, "names no shard", err);
    return shards->n <= SHARDS_MAX ? FACET_OK : bad_index(model, "names too many shards", err);
}

typedef struct lone_file {
    facet_model *model;
    const char *name;
    uint32_t n;
} lone_file;

static facet_status note_file(void *ctx, const char *name, facet_err *err)
{
    lone_file *lone = ctx;
    if (!shard_ok(name)) return FACET_OK;
    lone->n++;
    if (lone->n > 1 && strcmp(name, "model.safetensors") != 0) return FACET_OK;
    lone->name = facet_model_keep(lone->model, name, strlen(name));
    return lone->name ? FACET_OK : facet_fail_memory(err, strlen(name) + 1);
}

// Without an index: model.safetensors, or the only file there is.
static facet_status list_directory(facet_model *model, shard_list *shards, facet_err *err)
{
    lone_file lone = {.model = model};
    FACET_TRY(facet_dir_each(model->path, note_file, &lone, err));
    const bool usual = lone.name && strcmp(lone.name, "model.safetensors") == 0;
    if (lone.n == 0 || (lone.n > 1 && !usual)) {
        return facet_fail_at(err, FACET_NOT_FOUND, model->path, -1,
                             "%s: holds %u *.safetensors files and no %s; facet needs one file or "
                             "an index",
                             model->path, lone.n, index_name);
    }
    shards->names = facet_arena_new(&model->source->arena, 1, sizeof *shards->names);
    if (!shards->names) return facet_fail_memory(err, sizeof *shards->names);
    shards->names[0] = lone.name;
    shards->n = 1;
    return FACET_OK;
}

static bool float_type(facet_st_type type, facet_dtype *out)
{
    static const struct {
        facet_st_type from;
        facet_dtype to;
    } floats[] = {{FACET_ST_F32, FACET_DTYPE_F32},
                  {FACET_ST_F16, FACET_DTYPE_F16},
                  {FACET_ST_BF16, FACET_DTYPE_BF16}};
    for (size_t i = 0; i < FACET_COUNT_OF(floats); i++) {
        if (floats[i].from != type) continue;
        *out = floats[i].to;
        return true;
    }
    return false;
}

static facet_status convert(facet_model *model, const facet_st_tensor *from, const char *file,
                            facet_tensor *to, facet_err *err)
{
    if (!float_type(from->type, &to->dtype)) {
        return facet_fail_at(err, FACET_UNSUPPORTED, file, (int64_t)from->offset,
                             "%s: tensor %s has type %s; facet reads F32, F16 and BF16 from "
                             "safetensors models",
                             file, from->name, facet_st_type_name(from->type));
    }
    if (from->n_dims < 1 || from->n_dims > 4 || from->bytes == 0) {
        return facet_fail_at(err, FACET_BAD_TENSOR, file, (int64_t)from->offset,
                             "%s: tensor %s is empty or has %u dimensions; the file is damaged",
                             file, from->name, from->n_dims);
    }
    to->name = facet_model_keep(model, from->name, strlen(from->name));
    if (!to->name) return facet_fail_memory(err, strlen(from->name) + 1);
    to->n_dims = from->n_dims;
    for (uint32_t i = 0; i < 4; i++)
        to->dims[i] = i < from->n_dims ? from->dims[from->n_dims - 1 - i] : 1;
    to->data = from->data;
    to->bytes = from->bytes;
    to->file = file;
    to->offset = from->offset;
    return FACET_OK;
}

static facet_status append_tensors(facet_model *model, const facet_safetensors *st,
                                   const char *file, facet_err *err)
{
    uint32_t n;
    const facet_st_tensor *from = facet_safetensors_tensors(st, &n);
    const size_t total = (size_t)model->n_tensors + n;
    if (total > UINT32_MAX / 2) return bad_index(model, "has too many tensors", err);
    facet_tensor *all = facet_arena_new(&model->source->arena, total, sizeof *all);
    if (!all) return facet_fail_memory(err, total * sizeof *all);
    if (model->n_tensors) memcpy(all, model->tensors, model->n_tensors * sizeof *all);
    for (uint32_t i = 0; i < n; i++)
        FACET_TRY(convert(model, &from[i], file, &all[model->n_tensors + i], err));
    model->tensors = all;
    model->n_tensors = (uint32_t)total;
    return FACET_OK;
}

static facet_status open_shard(facet_model *model, const char *name, facet_err *err)
{
    struct facet_model_source *source = model->source;
    char path[PATH_MAX_BYTES];
    FACET_TRY(facet_path_join(path, sizeof path, model->path, name, err));
    const char *file = facet_arena_strdup(&source->arena, path);
    if (!file) return facet_fail_memory(err, strlen(path) + 1);
    facet_map *map = &source->maps[source->n_maps];
    FACET_TRY(facet_map_open(path, map, err));
    source->n_maps++;
    model->file_bytes += map->bytes;
    facet_safetensors *st;
    FACET_TRY(facet_safetensors_parse(map->data, map->bytes, file, model->alloc, &st, err));
    const facet_status status = append_tensors(model, st, file, err);
    facet_safetensors_free(st);
    return status;
}

// Index and shards must tell the same story.
static facet_status check_index(facet_model *model, const cJSON *map, facet_err *err)
{
    const cJSON *item;
    bool *seen = facet_arena_new(&model->source->arena, model->n_tensors, sizeof *seen);
    if (!seen) return facet_fail_memory(err, model->n_tensors);
    cJSON_ArrayForEach(item, map)
    {
        const facet_tensor *tensor =
            facet_tensors_find(model->tensors, model->n_tensors, item->string);
        if (!tensor || strcmp(facet_path_base(tensor->file), item->valuestring) != 0)
            return bad_index(model, "names a tensor that its shard does not hold", err);
        seen[tensor - model->tensors] = true;
    }
    for (uint32_t i = 0; i < model->n_tensors; i++) {
        if (!seen[i]) return bad_index(model, "lacks a tensor that a shard holds", err);
    }
    return FACET_OK;
}

static facet_status open_shards(facet_model *model, const cJSON *map, facet_err *err)
{
    struct facet_model_source *source = model->source;
    shard_list shards = {0};
    FACET_TRY(map ? list_index(model, map, &shards, err) : list_directory(model, &shards, err));
    source->maps = facet_arena_new(&source->arena, shards.n, sizeof *source->maps);
    if (!source->maps) return facet_fail_memory(err, shards.n * sizeof *source->maps);
    for (uint32_t i = 0; i < shards.n; i++)
        FACET_TRY(open_shard(model, shards.names[i], err));
    FACET_TRY(facet_tensors_check(model->tensors, model->n_tensors, model->alloc, err));
    return map ? check_index(model, map, err) : FACET_OK;
}

static facet_status open_tensors(facet_model *model, facet_err *err)
{
    char path[PATH_MAX_BYTES];
    cJSON *index = NULL;
    const cJSON *map = NULL;
    FACET_TRY(facet_path_join(path, sizeof path, model->path, index_name, err));
    if (facet_path_exists(path)) {
        FACET_TRY(facet_json_load(path, INDEX_MAX, &index, err));
        const facet_status status = facet_json_object(index, "weight_map", path, &map, err);
        if (status != FACET_OK) {
            cJSON_Delete(index);
            return status;
        }
    }
    const facet_status status = open_shards(model, map, err);
    cJSON_Delete(index);
    return status;
}

static facet_status read_name(facet_model *model, facet_err *err)
{
    const cJSON *item = facet_json_find(model->source->config, "_name_or_path");
    const char *name = facet_path_base(model->path);
    if (cJSON_IsString(item) && item->valuestring[0]) name = item->valuestring;
    model->name = facet_model_keep(model, name, strlen(name));
    return model->name ? FACET_OK : facet_fail_memory(err, strlen(name) + 1);
}

facet_status facet_model_open_dir(facet_model *model, facet_err *err)
{
    char path[PATH_MAX_BYTES];
    const char *model_type;
    const facet_arch *arch;
    bool tied;
    model->format = "safetensors";
    model->source->directory = model->path;
    FACET_TRY(facet_path_join(path, sizeof path, model->path, "config.json", err));
    FACET_TRY(facet_json_load(path, CONFIG_MAX, &model->source->config, err));
    FACET_TRY(facet_json_string(model->source->config, "model_type", path, &model_type, err));
    FACET_TRY(facet_arch_find_hf(model_type, path, &arch, err));
    model->arch = arch->name;
    FACET_TRY(read_name(model, err));
    FACET_TRY(facet_config_read(model, arch, &tied, err));
    FACET_TRY(open_tensors(model, err));
    FACET_TRY(facet_arch_bind(model, arch, true, tied, err));
    if (!tied && model->tied) {
        return facet_fail_at(err, FACET_BAD_TENSOR, model->path, -1,
                             "%s: tensor lm_head.weight is missing and tie_word_embeddings is not "
                             "set; fetch the model again",
                             model->path);
    }
    return FACET_OK;
}
