// SPDX-License-Identifier: Apache-2.0
// safetensors and the directories around them. The first byte chooses what the rest is: a
// safetensors file, or one file of a directory whose others are sound: config.json, the index, or
// the weights.
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/safetensors.h"
#include "model/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { D = 16, F = 8, VOCAB = 4 };

static const char config[] =
    "{\"model_type\":\"llama\",\"hidden_size\":16,\"intermediate_size\":8,"
    "\"num_hidden_layers\":1,\"num_attention_heads\":1,\"max_position_embeddings\":64}";

static const struct {
    const char *name;
    uint64_t rows, cols;
} layout[] = {
    {"lm_head.weight", VOCAB, D},
    {"model.embed_tokens.weight", VOCAB, D},
    {"model.layers.0.input_layernorm.weight", 0, D},
    {"model.layers.0.mlp.down_proj.weight", D, F},
    {"model.layers.0.mlp.gate_proj.weight", F, D},
    {"model.layers.0.mlp.up_proj.weight", F, D},
    {"model.layers.0.post_attention_layernorm.weight", 0, D},
    {"model.layers.0.self_attn.k_proj.weight", D, D},
    {"model.layers.0.self_attn.o_proj.weight", D, D},
    {"model.layers.0.self_attn.q_proj.weight", D, D},
    {"model.layers.0.self_attn.v_proj.weight", D, D},
    {"model.norm.weight", 0, D},
};

static void put_weights(const char *path)
{
    static const uint8_t zeros[4 * D * D];
    facet_st_tensor tensors[FACET_COUNT_OF(layout)] = {0};
    for (size_t i = 0; i < FACET_COUNT_OF(layout); i++) {
        facet_st_tensor *t = &tensors[i];
        t->name = layout[i].name;
        t->type = FACET_ST_BF16;
        if (layout[i].rows) t->dims[t->n_dims++] = layout[i].rows;
        t->dims[t->n_dims++] = layout[i].cols;
        t->data = zeros;
        t->bytes = (layout[i].rows ? layout[i].rows : 1) * layout[i].cols * 2;
    }
    const facet_st_file content = {NULL, 0, tensors, FACET_COUNT_OF(layout), NULL};
    facet_safetensors_save(&content, path, true, NULL);
}

static const char *const names[] = {"config.json", "model.safetensors.index.json",
                                    "model.safetensors"};

// One folder for each choice, made once with its sound files: making them for every input would
// leave most of the time to fsync.
static char folders[FACET_COUNT_OF(names)][64];

static void remove_folders(void)
{
    for (size_t i = 0; i < FACET_COUNT_OF(names); i++)
        if (folders[i][0]) facet_dir_remove(folders[i], NULL);
}

static bool make_folders(void)
{
    const char *parent = facet_path_is_dir("/dev/shm") ? "/dev/shm" : "/tmp";
    if (folders[0][0]) return true;
    atexit(remove_folders);
    for (size_t i = 0; i < FACET_COUNT_OF(names); i++) {
        char path[4200];
        if (facet_dir_temp(parent, "facet-fuzz", folders[i], sizeof folders[i], NULL)) return false;
        snprintf(path, sizeof path, "%s/model.safetensors", folders[i]);
        if (i != 2) put_weights(path);
        snprintf(path, sizeof path, "%s/config.json", folders[i]);
        if (i != 0) facet_file_write(path, config, sizeof config - 1, true, NULL);
    }
    return true;
}

static void open_directory(uint8_t choice, const uint8_t *data, size_t bytes)
{
    char path[4200];
    facet_model *model = NULL;
    if (!make_folders()) return;
    snprintf(path, sizeof path, "%s/%s", folders[choice], names[choice]);
    FILE *file = fopen(path, "wb");
    if (!file) return;
    fwrite(data, 1, bytes, file);
    fclose(file);
    if (facet_model_open(folders[choice], NULL, &model, NULL) == FACET_OK) {
        char hex[33];
        facet_model_fingerprint(model, NULL, hex, NULL);
    }
    facet_model_close(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0) return 0;
    const uint8_t choice = data[0] % 4;
    data++;
    bytes--;
    if (choice < 3) {
        open_directory(choice, data, bytes);
        return 0;
    }
    facet_safetensors *st;
    uint32_t n;
    uint64_t sum = 0;
    if (facet_safetensors_parse(data, bytes, "fuzz", NULL, &st, NULL) != FACET_OK) return 0;
    const facet_st_tensor *tensors = facet_safetensors_tensors(st, &n);
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *values = tensors[i].data;
        if (tensors[i].bytes) sum += values[0] + values[tensors[i].bytes - 1];
    }
    facet_safetensors_meta(st, "facet.kind");
    facet_safetensors_free(st);
    return sum == UINT64_MAX; // never: keeps the reads
}
