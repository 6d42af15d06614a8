// SPDX-License-Identifier: Apache-2.0
// Models in directories: one file, shards, and what a damaged or hostile directory gets.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/safetensors.h"
#include "model/source.h"
#include "tests/support/failing.h"

enum { D = 16, F = 8, VOCAB = 4, N_TENSORS = 12 };

static char folder[4096];
static const uint8_t zeros[4 * D * D];

static const struct {
    const char *name;
    uint64_t rows, cols; // rows 0: a vector
} layout[N_TENSORS] = {
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

static const char fields[] =
    "\"hidden_size\":16,\"intermediate_size\":8,"
    "\"num_hidden_layers\":1,\"num_attention_heads\":1,\"num_key_value_heads\":1,"
    "\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,\"head_dim\":null,"
    "\"rope_theta\":10000.0,\"hidden_act\":\"silu\",\"tie_word_embeddings\":false%s}";

static int setup(void **state)
{
    (void)state;
    const char *temp = getenv("TMPDIR");
    return facet_dir_temp(temp ? temp : "/tmp", "facet-dir", folder, sizeof folder, NULL) !=
           FACET_OK;
}

static int teardown(void **state)
{
    (void)state;
    return facet_dir_remove(folder, NULL) != FACET_OK;
}

static void put_file(const char *name, const char *text)
{
    char path[4400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(facet_file_write(path, text, strlen(text), true, NULL), FACET_OK);
}

static void put_config_of(const char *model_type, const char *more)
{
    char text[2048], rest[1024];
    snprintf(rest, sizeof rest, fields, more);
    snprintf(text, sizeof text, "{\"model_type\":\"%s\",%s", model_type, rest);
    put_file("config.json", text);
}

// config.json with further fields, each starting with a comma.
static void put_config(const char *more)
{
    put_config_of("llama", more);
}

// Tensors first..last - 1 of the layout; `type` of the first of them.
static void put_shard(const char *name, int first, int last, facet_st_type type)
{
    char path[4400];
    facet_st_tensor tensors[N_TENSORS] = {0};
    for (int i = first; i < last; i++) {
        facet_st_tensor *t = &tensors[i];
        t->name = layout[i].name;
        t->type = i == first ? type : FACET_ST_BF16;
        if (layout[i].rows) t->dims[t->n_dims++] = layout[i].rows;
        t->dims[t->n_dims++] = layout[i].cols;
        t->data = zeros;
        t->bytes =
            (layout[i].rows ? layout[i].rows : 1) * layout[i].cols * facet_st_type_bytes(t->type);
    }
    const facet_st_file content = {NULL, 0, tensors + first, (uint32_t)(last - first), NULL};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(facet_safetensors_save(&content, path, true, NULL), FACET_OK);
}

// An index with tensors 0..5 in shard a and 6..11 in shard b; tensor `odd` is in shard `file`.
static void put_index(const char *a, const char *b, int odd, const char *file)
{
    char text[4096];
    size_t at = (size_t)snprintf(text, sizeof text, "{\"weight_map\":{");
    for (int i = 0; i < N_TENSORS; i++) {
        const char *shard = i == odd ? file : i < 6 ? a : b;
        if (!shard) continue;
        at += (size_t)snprintf(text + at, sizeof text - at, "%s\"%s\":\"%s\"",
                               text[at - 1] == '{' ? "" : ",", layout[i].name, shard);
    }
    snprintf(text + at, sizeof text - at, "}}");
    put_file("model.safetensors.index.json", text);
}

static void clear(void)
{
    static const char *const names[] = {"config.json",       "model.safetensors.index.json",
                                        "model.safetensors", "a.safetensors",
                                        "b.safetensors",     "other.safetensors"};
    for (size_t i = 0; i < FACET_COUNT_OF(names); i++) {
        char path[4400];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
    }
}

static void expect(facet_status status, const char *words)
{
    facet_model *model = NULL;
    facet_err err = {0};
    const facet_status got = facet_model_open(folder, NULL, &model, &err);
    if (got != status || (status && !strstr(err.message, words))) {
        print_error("wanted %s with '%s', got %s: %s\n", facet_status_slug(status), words,
                    facet_status_slug(got), err.message);
        fail();
    }
    facet_model_close(model);
}

static void put_sound(void)
{
    clear();
    put_config("");
    put_shard("model.safetensors", 0, N_TENSORS, FACET_ST_F32);
}

static void test_sound(void **state)
{
    (void)state;
    facet_model *model;
    facet_err err;
    put_sound();
    if (facet_model_open(folder, NULL, &model, &err)) fail_msg("%s", err.message);
    assert_string_equal(facet_model_shape(model), "llama:1:16:8:4");
    assert_int_equal(model->hp.rotary, FACET_ROTARY_NEOX);
    assert_int_equal(facet_model_tensor(model, FACET_ROLE_HEAD, 0)->dtype, FACET_DTYPE_F32);
    assert_int_equal(facet_model_tensor(model, FACET_ROLE_DOWN, 0)->dims[0], F);
    facet_model_close(model);
    // The only file may have any name; model.safetensors wins over others.
    clear();
    put_config("");
    put_shard("other.safetensors", 0, N_TENSORS, FACET_ST_F16);
    expect(FACET_OK, "");
    put_shard("model.safetensors", 0, N_TENSORS, FACET_ST_F16);
    expect(FACET_OK, "");
}

static void test_config(void **state)
{
    (void)state;
    static const struct {
        const char *fields;
        facet_status status;
        const char *words;
    } cases[] = {
        {",\"sliding_window\":5", FACET_OK, ""},
        {",\"quantization_config\":{}", FACET_UNSUPPORTED, "quantised weights"},
        {",\"partial_rotary_factor\":0.5", FACET_UNSUPPORTED, "partly rotated"},
        {",\"final_logit_softcapping\":30.0", FACET_UNSUPPORTED, "soft-capped"},
        {",\"hidden_activation\":\"gelu\"", FACET_UNSUPPORTED, "another activation"},
        {",\"rope_scaling\":{\"rope_type\":\"yarn\"}", FACET_UNSUPPORTED, "rope scaling"},
        {",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.0}", FACET_OK, ""},
        {",\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}", FACET_BAD_FILE, "rotary scale"},
        {",\"rope_scaling\":{\"type\":\"linear\",\"factor\":\"2\"}", FACET_BAD_FILE, "factor"},
        {",\"rope_scaling\":{\"rope_type\":\"llama3\"}", FACET_BAD_FILE, "impossible numbers"},
        {",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":5e5}", FACET_OK, ""},
        {",\"use_sliding_window\":true,\"max_window_layers\":0", FACET_UNSUPPORTED, "windows"},
        {",\"layer_types\":[\"sliding_attention\"]", FACET_UNSUPPORTED, "pattern"},
        {",\"layer_types\":[]", FACET_BAD_FILE, "layer_types"},
        {",\"layer_types\":[\"full_attention\"]", FACET_OK, ""},
    };
    put_sound();
    for (size_t i = 0; i < FACET_COUNT_OF(cases); i++) {
        put_config(cases[i].fields);
        expect(cases[i].status, cases[i].words);
    }
    put_file("config.json", "{\"model_type\":\"phi3\"}");
    expect(FACET_UNSUPPORTED, "'phi3', which facet does not know");
    put_file("config.json", "{\"model_type\":\"llama\"}");
    expect(FACET_BAD_FILE, "num_hidden_layers is missing");
    put_file("config.json", "{\"model_type\":\"llama\",\"num_hidden_layers\":1.5}");
    expect(FACET_BAD_FILE, "not a whole number");
    put_file("config.json", "[]");
    expect(FACET_BAD_FILE, "model_type");
    put_file("config.json", "{");
    expect(FACET_BAD_FILE, "not a JSON document");
    clear();
    expect(FACET_NOT_FOUND, "config.json");
}

static void test_mistral(void **state)
{
    (void)state;
    facet_model *model;
    put_sound();
    put_config_of("mistral", ",\"sliding_window\":7");
    assert_int_equal(facet_model_open(folder, NULL, &model, NULL), FACET_OK);
    assert_string_equal(model->arch, "llama");
    assert_int_equal(model->hp.window, 7);
    assert_true(facet_model_windowed(&model->hp, 0));
    facet_model_close(model);
}

static void test_tensors(void **state)
{
    (void)state;
    put_sound();
    put_shard("model.safetensors", 1, N_TENSORS, FACET_ST_BF16);
    expect(FACET_BAD_TENSOR, "lm_head.weight is missing");
    put_shard("model.safetensors", 0, N_TENSORS - 1, FACET_ST_BF16);
    expect(FACET_BAD_TENSOR, "model.norm.weight is missing");
    put_shard("model.safetensors", 0, N_TENSORS, FACET_ST_I32);
    expect(FACET_UNSUPPORTED, "lm_head.weight has type I32");
    clear();
    put_config("");
    expect(FACET_NOT_FOUND, "holds 0 *.safetensors files");
    put_shard("a.safetensors", 0, 6, FACET_ST_F16);
    put_shard("b.safetensors", 6, N_TENSORS, FACET_ST_F16);
    expect(FACET_NOT_FOUND, "holds 2 *.safetensors files");
    put_file("a.safetensors", "short");
    remove("b.safetensors");
    put_index("a.safetensors", "b.safetensors", -1, NULL);
    expect(FACET_BAD_FILE, "a.safetensors");
}

static void test_index(void **state)
{
    (void)state;
    static const char *const hostile[] = {
        "../a.safetensors",
        "/etc/a.safetensors",
        "sub/a.safetensors",
        "..",
        ".a.safetensors",
        "a.bin",
        "",
        "a\\\\b.safetensors",
        "model.safetensors.index.json",
    };
    clear();
    put_config("");
    put_shard("a.safetensors", 0, 6, FACET_ST_F16);
    put_shard("b.safetensors", 6, N_TENSORS, FACET_ST_F16);
    put_index("a.safetensors", "b.safetensors", -1, NULL);
    expect(FACET_OK, "");
    for (size_t i = 0; i < FACET_COUNT_OF(hostile); i++) {
        put_index("a.safetensors", "b.safetensors", 3, hostile[i]);
        expect(FACET_BAD_FILE, "not a plain *.safetensors file name");
    }
    put_index("a.safetensors", "b.safetensors", 3, "b.safetensors");
    expect(FACET_BAD_FILE, "that its shard does not hold");
    put_index("a.safetensors", "b.safetensors", 3, NULL);
    expect(FACET_BAD_FILE, "lacks a tensor");
    put_index("a.safetensors", "c.safetensors", -1, NULL);
    expect(FACET_NOT_FOUND, "c.safetensors");
    put_file("model.safetensors.index.json", "{\"weight_map\":{}}");
    expect(FACET_BAD_FILE, "names no shard");
    put_file("model.safetensors.index.json", "{\"weight_map\":{\"x\":1}}");
    expect(FACET_BAD_FILE, "plain");
    put_file("model.safetensors.index.json", "{}");
    expect(FACET_BAD_FILE, "weight_map");
    put_index("a.safetensors", "b.safetensors", -1, NULL);
    put_shard("b.safetensors", 5, N_TENSORS, FACET_ST_F16);
    expect(FACET_BAD_TENSOR, "occurs twice");
}

static void test_memory(void **state)
{
    (void)state;
    facet_status status = FACET_NO_MEMORY;
    clear();
    put_config(",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,"
               "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":32}");
    put_shard("a.safetensors", 0, 6, FACET_ST_F16);
    put_shard("b.safetensors", 6, N_TENSORS, FACET_ST_F16);
    put_index("a.safetensors", "b.safetensors", -1, NULL);
    for (long n = 1; status != FACET_OK; n++) {
        facet_failing failing;
        facet_model *model = NULL;
        facet_failing_init(&failing, n);
        status = facet_model_open(folder, &failing.alloc, &model, NULL);
        assert_true(status == FACET_OK || status == FACET_NO_MEMORY);
        if (model) assert_non_null(model->rope_factors);
        facet_model_close(model);
        assert_int_equal(atomic_load(&failing.alive), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound),   cmocka_unit_test(test_config),
        cmocka_unit_test(test_mistral), cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_index),   cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
