// SPDX-License-Identifier: Apache-2.0
// Opening models: a sound one, forty that are wrong in one way, memory that runs out, and the facts
// of the real models in FACET_MODELS.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/source.h"
#include "tests/model/gguf_maker.h"
#include "tests/support/failing.h"

static char folder[4096], path[4200];

static int make_folder(void **state)
{
    (void)state;
    const char *temp = getenv("TMPDIR");
    facet_err err;
    if (facet_dir_temp(temp ? temp : "/tmp", "facet-model", folder, sizeof folder, &err)) return 1;
    snprintf(path, sizeof path, "%s/x.gguf", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return facet_dir_remove(folder, NULL) != FACET_OK;
}

static void write_model(const maker_change *change)
{
    facet_text text;
    facet_text_init(&text, NULL);
    put_model(&text, change);
    assert_int_equal(facet_file_write(path, text.data, text.length, true, NULL), FACET_OK);
    facet_text_fini(&text);
}

static void test_sound(void **state)
{
    (void)state;
    facet_model *model;
    facet_err err = {0};
    char hex[33], again[33];
    write_model(&(maker_change){0});
    if (facet_model_open(path, NULL, &model, &err)) fail_msg("%s", err.message);
    assert_string_equal(facet_model_shape(model), "llama:1:16:8:4");
    assert_string_equal(model->format, "gguf");
    assert_int_equal(model->hp.rotary, FACET_ROTARY_NORMAL);
    assert_int_equal(model->n_parameters, 2 * 16 * 4 + 3 * 16 + 4 * 16 * 16 + 3 * 16 * 8);
    assert_false(model->tied);
    assert_true(model->tensor_norms_are_f32);
    assert_null(model->rope_factors);
    assert_non_null(facet_model_gguf(model));
    assert_null(facet_model_directory(model));
    assert_null(facet_model_config(model));
    assert_null(facet_model_tensor(model, FACET_ROLE_Q_BIAS, 0));
    assert_null(facet_model_tensor(model, FACET_ROLE_Q, 1));
    assert_string_equal(facet_model_tensor(model, FACET_ROLE_DOWN, 0)->name,
                        "blk.0.ffn_down.weight");
    assert_int_equal(facet_model_fingerprint(model, NULL, hex, &err), FACET_OK);
    facet_model_close(model);
    write_model(&(maker_change){.extra_key = "general.name", .extra_string = "tiny\nname"});
    assert_int_equal(facet_model_open(path, NULL, &model, &err), FACET_OK);
    assert_string_equal(model->name, "tiny?name");
    assert_int_equal(facet_model_fingerprint(model, NULL, again, &err), FACET_OK);
    assert_string_equal(hex, again); // of the weights alone
    facet_model_close(model);
    write_model(&(maker_change){.tensor = "output.weight"});
    assert_int_equal(facet_model_open(path, NULL, &model, &err), FACET_OK);
    assert_true(model->tied);
    assert_ptr_equal(facet_model_tensor(model, FACET_ROLE_HEAD, 0),
                     facet_model_tensor(model, FACET_ROLE_TOKEN_EMBD, 0));
    facet_model_close(model);
}

#define NUMBER(name, value)                                                                        \
    {                                                                                              \
        .key = name, .key_u32 = value, .key_is_u32 = true                                          \
    }
#define REAL(name, value)                                                                          \
    {                                                                                              \
        .key = name, .key_f32 = value, .key_is_f32 = true                                          \
    }

static const struct {
    maker_change change;
    facet_status status;
    const char *words;
} wrong_cases[] = {
    {{.key = "general.architecture"}, FACET_BAD_FILE, "general.architecture is missing"},
    {{.key = "general.architecture", .key_string = "mamba\x1b[2J"},
     FACET_UNSUPPORTED,
     "'mamba?[2J', which facet does not know; it knows llama, qwen2, qwen3, gemma3"},
    {{.key = "llama.block_count"}, FACET_BAD_FILE, "llama.block_count is missing"},
    {{.key = "llama.block_count", .key_string = "1"}, FACET_BAD_FILE, "not a whole number"},
    {REAL("llama.block_count", 1.0f), FACET_BAD_FILE, "not a whole number"},
    {NUMBER("llama.block_count", 0), FACET_BAD_FILE, "number of layers is 0"},
    {NUMBER("llama.block_count", 2), FACET_BAD_TENSOR, "blk.1.attn_norm.weight is missing"},
    {NUMBER("llama.block_count", 4000000000), FACET_BAD_FILE, "out of range"},
    {NUMBER("llama.context_length", 0), FACET_BAD_FILE, "context length is 0"},
    {{.key = "llama.context_length"}, FACET_BAD_FILE, "is missing"},
    {NUMBER("llama.embedding_length", 0), FACET_BAD_FILE, "model width is 0"},
    {NUMBER("llama.embedding_length", 32), FACET_BAD_TENSOR, "token_embd.weight has shape"},
    {NUMBER("llama.feed_forward_length", 0), FACET_BAD_FILE, "FFN width is 0"},
    {NUMBER("llama.feed_forward_length", 9), FACET_BAD_TENSOR, "ffn_gate.weight has shape"},
    {NUMBER("llama.attention.head_count", 0), FACET_BAD_FILE, "is zero"},
    {NUMBER("llama.attention.head_count", 3), FACET_BAD_TENSOR, "attn_q.weight has shape"},
    {NUMBER("llama.attention.head_count_kv", 0), FACET_BAD_FILE, "key-value heads is 0"},
    {NUMBER("llama.attention.head_count_kv", 2), FACET_BAD_FILE, "not a divisor"},
    {NUMBER("llama.attention.key_length", 0), FACET_BAD_FILE, "is zero"},
    {NUMBER("llama.attention.key_length", 24), FACET_UNSUPPORTED, "multiple of 16"},
    {NUMBER("llama.attention.value_length", 32), FACET_UNSUPPORTED, "unequal width"},
    {NUMBER("llama.rope.dimension_count", 0), FACET_BAD_FILE, "rotated dimensions is 0"},
    {NUMBER("llama.rope.dimension_count", 7), FACET_BAD_FILE, "odd"},
    {NUMBER("llama.rope.dimension_count", 32), FACET_BAD_FILE, "rotated dimensions is 32"},
    {REAL("llama.rope.freq_base", -1.0f), FACET_BAD_FILE, "rotary base is -1"},
    {REAL("llama.rope.freq_base", 1e35f), FACET_BAD_FILE, "finite number"},
    {NUMBER("llama.expert_count", 8), FACET_UNSUPPORTED, "mixture of experts"},
    {{.extra_key = "llama.rope.scaling.type", .extra_string = "yarn"},
     FACET_UNSUPPORTED,
     "rope scaling other than"},
    {{.extra_key = "llama.rope.scaling.factor", .extra_string = "2"}, FACET_OK, ""},
    {{.tensor = "token_embd.weight"}, FACET_BAD_TENSOR, "token_embd.weight is missing"},
    {{.tensor = "output_norm.weight"}, FACET_BAD_TENSOR, "output_norm.weight is missing"},
    {{.tensor = "blk.0.ffn_up.weight"}, FACET_BAD_TENSOR, "blk.0.ffn_up.weight is missing"},
    {{.tensor = "blk.0.ffn_up.weight", .tensor_name = "blk.1.ffn_up.weight"},
     FACET_BAD_TENSOR,
     "blk.0.ffn_up.weight is missing"},
    {{.tensor = "blk.0.attn_k.weight", .tensor_dims = {16, 32}},
     FACET_BAD_TENSOR,
     "attn_k.weight has shape 16 x 32"},
    {{.tensor = "blk.0.ffn_down.weight", .tensor_dims = {16, 8}},
     FACET_BAD_TENSOR,
     "ffn_down.weight has shape 16 x 8"},
    {{.tensor = "output.weight", .tensor_dims = {16, 5}}, FACET_BAD_TENSOR, "16 x 4"},
    {{.tensor = "output_norm.weight", .tensor_dims = {16, 1}}, FACET_BAD_TENSOR, "dimensions"},
    {{.tensor = "blk.0.ffn_norm.weight", .tensor_dims = {32}}, FACET_BAD_TENSOR, "32 x 1"},
    {{.tensor = "blk.0.ffn_norm.weight", .tensor_type = 18, .tensor_has_type = true},
     FACET_UNSUPPORTED,
     "IQ3_XXS"},
    {{.tensor = "blk.0.ffn_norm.weight", .tensor_type = 1, .tensor_has_type = true}, FACET_OK, ""},
    {{.extra_tensor = "blk.0.ffn_gate_inp.weight"}, FACET_UNSUPPORTED, "none that facet knows"},
    {{.extra_tensor = "blk.0.attn_q_norm.weight"}, FACET_UNSUPPORTED, "none that facet knows"},
    {{.extra_tensor = "blk.0.attn_q.bias"}, FACET_OK, ""},
    {{.extra_tensor = "rope_freqs.weight"}, FACET_BAD_TENSOR, "needs 8 x 1"},
};

static void test_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < FACET_COUNT_OF(wrong_cases); i++) {
        facet_model *model = NULL;
        facet_err err = {0};
        write_model(&wrong_cases[i].change);
        const facet_status status = facet_model_open(path, NULL, &model, &err);
        if (status != wrong_cases[i].status ||
            (status && !strstr(err.message, wrong_cases[i].words))) {
            print_error("case %zu: wanted %s with '%s', got %s: %s\n", i,
                        facet_status_slug(wrong_cases[i].status), wrong_cases[i].words,
                        facet_status_slug(status), err.message);
            fail();
        }
        assert_true(status == FACET_OK || !model);
        facet_model_close(model);
    }
}

static void test_not_there(void **state)
{
    (void)state;
    facet_model *model = NULL;
    facet_err err = {0};
    char other[4300];
    snprintf(other, sizeof other, "%s.none", path);
    assert_int_equal(facet_model_open(other, NULL, &model, &err), FACET_NOT_FOUND);
    assert_int_equal(facet_file_write(path, "", 0, true, NULL), FACET_OK);
    assert_int_equal(facet_model_open(path, NULL, &model, &err), FACET_BAD_FILE);
    assert_null(model);
}

static bool stop(void *ctx)
{
    (void)ctx;
    return true;
}

static void test_interrupted(void **state)
{
    (void)state;
    facet_model *model;
    char hex[33] = "as before";
    const facet_report report = {.cancelled = stop};
    write_model(&(maker_change){0});
    assert_int_equal(facet_model_open(path, NULL, &model, NULL), FACET_OK);
    assert_int_equal(facet_model_fingerprint(model, &report, hex, NULL), FACET_INTERRUPTED);
    assert_string_equal(hex, "as before");
    facet_model_close(model);
}

static void test_memory(void **state)
{
    (void)state;
    facet_status status = FACET_NO_MEMORY;
    write_model(&(maker_change){0});
    for (long n = 1; status != FACET_OK; n++) {
        facet_failing failing;
        facet_model *model = NULL;
        char hex[33];
        facet_failing_init(&failing, n);
        status = facet_model_open(path, &failing.alloc, &model, NULL);
        if (status == FACET_OK) status = facet_model_fingerprint(model, NULL, hex, NULL);
        assert_true(status == FACET_OK || status == FACET_NO_MEMORY);
        facet_model_close(model);
        assert_int_equal(atomic_load(&failing.alive), 0);
    }
}

static void test_windows(void **state)
{
    (void)state;
    const facet_hparams none = {.window_period = 6};
    const facet_hparams gemma = {.window = 512, .window_period = 6};
    const facet_hparams all = {.window = 512};
    for (uint32_t layer = 0; layer < 18; layer++) {
        assert_false(facet_model_windowed(&none, layer));
        assert_true(facet_model_windowed(&all, layer));
        assert_int_equal(facet_model_windowed(&gemma, layer), layer % 6 != 5);
    }
}

// The facts of shared model files that other tests and the documents rely on.
static void test_real(void **state)
{
    (void)state;
    static const struct {
        const char *file, *shape;
        uint64_t n_parameters;
        uint32_t n_heads, n_kv_heads, head_dim;
        bool tied;
    } models[] = {
        {"smollm2-135m-instruct-q4_1.gguf", "llama:30:576:1536:49152", 134515008, 9, 3, 64, true},
        {"gemma3-270m-q4_k_m.gguf", "gemma3:18:640:2048:262144", 268098176, 4, 1, 256, true},
        {"qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "qwen2:24:896:4864:151936", 630167424, 14, 2,
         64, false},
        {"qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", "qwen2:28:1536:8960:151936", 1777088000, 12, 2,
         128, false},
    };
    const char *dir = getenv("FACET_MODELS");
    uint32_t n_seen = 0;
    for (size_t i = 0; dir && i < FACET_COUNT_OF(models); i++) {
        char real[4300];
        facet_model *model;
        facet_err err;
        snprintf(real, sizeof real, "%s/%s", dir, models[i].file);
        if (!facet_path_exists(real)) continue;
        if (facet_model_open(real, NULL, &model, &err)) fail_msg("%s", err.message);
        assert_string_equal(facet_model_shape(model), models[i].shape);
        assert_int_equal(model->n_parameters, models[i].n_parameters);
        assert_int_equal(model->hp.n_heads, models[i].n_heads);
        assert_int_equal(model->hp.n_kv_heads, models[i].n_kv_heads);
        assert_int_equal(model->hp.head_dim, models[i].head_dim);
        assert_int_equal(model->tied, models[i].tied);
        facet_model_close(model);
        n_seen++;
    }
    if (n_seen) return;
    print_message("FACET_MODELS names no folder with the real models\n");
    skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound),     cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_not_there), cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_memory),    cmocka_unit_test(test_windows),
        cmocka_unit_test(test_real),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
