// SPDX-License-Identifier: Apache-2.0
// Models made by generated.py (folder in FACET_GENERATED, set by generated.sh): facts and values.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/source.h"

static char *read_text(const char *path)
{
    char *text;
    size_t bytes;
    facet_err err;
    if (facet_file_read(path, 1 << 22, NULL, &text, &bytes, &err)) fail_msg("%s", err.message);
    return text;
}

static uint64_t sum_bits(const facet_tensor *tensor)
{
    uint64_t sum = 0;
    float *row = calloc(tensor->dims[0], sizeof *row);
    for (uint64_t r = 0; r < tensor->dims[1]; r++) {
        facet_tensor_row(tensor, r, row);
        for (uint64_t i = 0; i < tensor->dims[0]; i++) {
            uint32_t bits;
            memcpy(&bits, &row[i], sizeof bits);
            sum += bits;
        }
    }
    free(row);
    return sum;
}

static void check_values(const facet_model *model)
{
    char path[4096], name[256], type[16];
    unsigned long long sum;
    snprintf(path, sizeof path, "%s.sums", model->path);
    char *text = read_text(path), *at = text;
    uint32_t i = 0;
    for (char *line = strtok_r(text, "\n", &at); line; line = strtok_r(NULL, "\n", &at)) {
        assert_int_equal(sscanf(line, "%255s %15s %llu", name, type, &sum), 3);
        assert_true(i < model->n_tensors);
        const facet_tensor *tensor = &model->tensors[i++];
        assert_string_equal(tensor->name, name);
        assert_string_equal(facet_dtype_name(tensor->dtype), type);
        if (sum_bits(tensor) != sum) fail_msg("%s: %s has other values", model->path, name);
    }
    assert_int_equal(i, model->n_tensors);
    facet_mem_free(NULL, text);
}

static facet_model *open_model(const char *path)
{
    facet_model *model;
    facet_err err;
    if (facet_model_open(path, NULL, &model, &err)) fail_msg("%s", err.message);
    return model;
}

static void check_model(const char *path, const char *shape, const char *rotary, int tied)
{
    facet_model *model = open_model(path);
    const bool hf = strcmp(model->format, "safetensors") == 0;
    assert_string_equal(facet_model_shape(model), shape);
    const facet_rotary want =
        strcmp(rotary, "normal") == 0 ? FACET_ROTARY_NORMAL : FACET_ROTARY_NEOX;
    assert_int_equal(model->hp.rotary, want);
    assert_int_equal(model->tied, tied);
    assert_true((facet_model_gguf(model) == NULL) == hf);
    assert_true((facet_model_directory(model) != NULL) == hf);
    assert_true((facet_model_config(model) != NULL) == hf);
    assert_true(fabsf(model->hp.attn_scale - 0.25f) < 1e-7f); // heads of 16
    const bool gemma = strcmp(model->arch, "gemma3") == 0;
    assert_true(model->hp.norm_offset == (gemma && hf ? 1.0f : 0.0f));
    assert_true(model->hp.embed_scale == (gemma ? sqrtf((float)model->hp.d_model) : 1.0f));
    assert_int_equal(model->hp.window, gemma ? 16 : 0);
    assert_true(model->hp.rope_base_local == 10000.0f);
    check_values(model);
    facet_model_close(model);
}

static const char *generated(void)
{
    const char *folder = getenv("FACET_GENERATED");
    if (!folder) print_message("FACET_GENERATED is not set: generated.sh runs this\n");
    return folder;
}

static void test_all(void **state)
{
    (void)state;
    char path[4096], shape[128], rotary[16];
    int tied, n_seen = 0;
    const char *folder = generated();
    if (!folder) {
        skip();
        return;
    }
    snprintf(path, sizeof path, "%s/list", folder);
    char *text = read_text(path), *at = text;
    for (char *line = strtok_r(text, "\n", &at); line; line = strtok_r(NULL, "\n", &at)) {
        assert_int_equal(sscanf(line, "%4095s %127s %15s %d", path, shape, rotary, &tied), 4);
        check_model(path, shape, rotary, tied);
        n_seen++;
    }
    print_message("%d models\n", n_seen);
    assert_true(n_seen > 40);
    facet_mem_free(NULL, text);
}

// The factors computed from config.json are those that the generator put into the GGUF file.
static void test_scaling(void **state)
{
    (void)state;
    char path[4096];
    const char *folder = generated();
    if (!folder) {
        skip();
        return;
    }
    snprintf(path, sizeof path, "%s/llama3.gguf", folder);
    facet_model *gguf = open_model(path);
    snprintf(path, sizeof path, "%s/llama3-hf", folder);
    facet_model *hf = open_model(path);
    assert_non_null(gguf->rope_factors);
    assert_non_null(hf->rope_factors);
    for (uint32_t i = 0; i < hf->hp.rope_dims / 2; i++) {
        const float factor = hf->rope_factors[i];
        assert_true(fabsf(factor - gguf->rope_factors[i]) <= 1e-6f * factor);
        assert_true(factor >= 1 && factor <= 8);
    }
    assert_true(hf->rope_factors[0] == 1 && hf->rope_factors[hf->hp.rope_dims / 2 - 1] == 8);
    facet_model_close(gguf);
    facet_model_close(hf);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/linear%s", folder, i ? "-hf" : ".gguf");
        facet_model *linear = open_model(path);
        assert_true(linear->hp.rope_scale == 4);
        facet_model_close(linear);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_scaling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
