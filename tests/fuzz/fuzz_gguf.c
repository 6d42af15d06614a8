// SPDX-License-Identifier: Apache-2.0
// GGUF: the parser and its lookups over any bytes; what parses is opened as a model too.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/memory.h"
#include "model/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

// Every value is touched, so that a wrong bound is a wrong read.
static uint64_t touch_arrays(const facet_gguf *gguf)
{
    static const char *const keys[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.merges",
                                       "tokenizer.ggml.scores", "tokenizer.ggml.token_type", "a"};
    uint64_t sum = 0;
    for (size_t i = 0; i < FACET_COUNT_OF(keys); i++) {
        facet_gguf_array array;
        facet_span span;
        if (!facet_gguf_find_array(gguf, keys[i], &array)) continue;
        for (uint64_t j = 0; j < array.count && array.type != FACET_GGUF_STRING; j++) {
            sum += (uint64_t)facet_gguf_array_i64(&array, j);
            sum += facet_gguf_array_f64(&array, j) > 0;
        }
        while (facet_gguf_next_string(&array, &span))
            sum += span.bytes ? (uint8_t)span.data[span.bytes - 1] : 0;
    }
    return sum;
}

static void touch_tensors(const facet_tensor *tensors, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const facet_tensor *tensor = &tensors[i];
        const uint64_t rows = tensor->dims[1] * tensor->dims[2] * tensor->dims[3];
        float *row = malloc((size_t)tensor->dims[0] * sizeof *row);
        if (!row) continue;
        facet_tensor_row(tensor, 0, row);
        facet_tensor_row(tensor, rows - 1, row);
        free(row);
    }
}

static void open_model(const uint8_t *data, size_t bytes)
{
    char path[] = "/tmp/facet-fuzz-XXXXXX";
    const int fd = mkstemp(path);
    if (fd < 0) return;
    facet_model *model = NULL;
    facet_err err;
    char hex[33];
    if (write(fd, data, bytes) == (ssize_t)bytes &&
        facet_model_open(path, NULL, &model, &err) == FACET_OK) {
        facet_model_fingerprint(model, NULL, hex, &err);
        touch_tensors(model->tensors, model->n_tensors);
    }
    facet_model_close(model);
    close(fd);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    facet_gguf *gguf;
    facet_err err;
    uint32_t n;
    if (facet_gguf_parse(data, bytes, "fuzz", NULL, &gguf, &err) != FACET_OK) return 0;
    const facet_tensor *tensors = facet_gguf_tensors(gguf, &n);
    touch_tensors(tensors, n);
    touch_arrays(gguf);
    facet_gguf_free(gguf);
    open_model(data, bytes);
    return 0;
}
