// SPDX-License-Identifier: Apache-2.0
// The parts of our files: what is read is checked here, once, for mask sets and families.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "model/dtype.h"
#include "model/samples_parts.h"

enum { VOCAB_MAX = 1 << 24, LAYERS_MAX = 4096, FFN_MAX = 1 << 22, STRING_MAX = 255 };

facet_status facet_samples_bad(const samples_reader *reader, const char *format, ...)
{
    char why[256];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    return facet_fail_at(reader->err, FACET_BAD_FILE, reader->file, -1, "%s: %s", reader->file,
                         why);
}

facet_status facet_samples_bad_tensor(const samples_reader *reader, const facet_st_tensor *tensor,
                                      const char *why)
{
    return facet_fail_at(reader->err, FACET_BAD_TENSOR, reader->file, (int64_t)tensor->offset,
                         "%s: tensor %s %s; write the file again", reader->file, tensor->name, why);
}

// "arch:layers:d:f:vocab", each number plain digits.
static bool read_shape(samples_reader *reader, const char *shape)
{
    uint64_t numbers[4];
    char piece[24];
    const char *at = strchr(shape, ':');
    for (int i = 0; i < 4; i++) {
        if (!at) return false;
        const char *start = at + 1;
        at = strchr(start, ':');
        const size_t bytes = at ? (size_t)(at - start) : strlen(start);
        if (bytes >= sizeof piece || (i == 3 && at)) return false;
        memcpy(piece, start, bytes);
        piece[bytes] = '\0';
        if (!facet_parse_u64(piece, &numbers[i]) || numbers[i] == 0) return false;
    }
    if (numbers[0] > LAYERS_MAX || numbers[2] > FFN_MAX || numbers[3] > VOCAB_MAX) return false;
    reader->n_layers = (uint32_t)numbers[0];
    reader->d_ff = (uint32_t)numbers[2];
    reader->n_vocab = (uint32_t)numbers[3];
    return shape[0] != ':' && strlen(shape) < 120;
}

facet_status facet_samples_begin(samples_reader *reader, const uint8_t *data, size_t bytes,
                                 const char *kind)
{
    FACET_TRY(facet_safetensors_parse(data, bytes, reader->file, reader->alloc, &reader->st,
                                      reader->err));
    const char *found = facet_safetensors_meta(reader->st, "facet.kind");
    if (!found || strcmp(found, kind) != 0) {
        return facet_fail_at(reader->err, FACET_BAD_INPUT, reader->file, -1,
                             "%s: is not a file of kind '%s' (its metadata says facet.kind '%.40s')"
                             "; give a .%s file",
                             reader->file, kind, found ? found : "", kind);
    }
    const char *version = facet_safetensors_meta(reader->st, "facet.version");
    if (!version || strcmp(version, "1") != 0) {
        return facet_fail_at(reader->err, FACET_UNSUPPORTED, reader->file, -1,
                             "%s: has facet.version '%.20s'; this facet reads version 1",
                             reader->file, version ? version : "");
    }
    const char *shape = facet_safetensors_meta(reader->st, "facet.shape");
    if (!shape || !read_shape(reader, shape))
        return facet_samples_bad(reader, "metadata facet.shape is missing or not of the form "
                                         "arch:layers:d:f:vocab; write the file again");
    return FACET_OK;
}

facet_status facet_samples_number(const samples_reader *reader, const char *key, double min,
                                  double max, double *out)
{
    double value;
    const char *text = facet_safetensors_meta(reader->st, key);
    if (!text) return FACET_OK;
    if (!facet_parse_double(text, &value) || !(value >= min && value <= max))
        return facet_samples_bad(reader,
                                 "metadata %s is not a number from %g to %g; write the "
                                 "file again",
                                 key, min, max);
    *out = value;
    return FACET_OK;
}

facet_status facet_samples_facts(const samples_reader *reader, char **shape, char **model,
                                 double *keep)
{
    const char *fingerprint = facet_safetensors_meta(reader->st, "facet.model");
    if (!fingerprint) fingerprint = "";
    if (strlen(fingerprint) > 64)
        return facet_samples_bad(reader, "metadata facet.model is too long for a fingerprint; "
                                         "write the file again");
    FACET_TRY(facet_samples_number(reader, "facet.keep", 1e-6, 1, keep));
    *shape = facet_mem_strdup(reader->alloc, facet_safetensors_meta(reader->st, "facet.shape"));
    *model = facet_mem_strdup(reader->alloc, fingerprint);
    return *shape && *model ? FACET_OK : facet_fail_memory(reader->err, strlen(fingerprint) + 1);
}

static bool string_ok(const cJSON *item)
{
    if (!cJSON_IsString(item)) return false;
    const char *s = item->valuestring;
    size_t n = 0;
    for (; s[n]; n++) {
        if ((uint8_t)s[n] < 32 || s[n] == 127) return false;
    }
    return n > 0 && n <= STRING_MAX;
}

static facet_status copy_strings(const samples_reader *reader, const char *key, const cJSON *array,
                                 uint32_t n, char **strings)
{
    const cJSON *item;
    uint32_t i = 0;
    if (!cJSON_IsArray(array) || (uint32_t)cJSON_GetArraySize(array) != n)
        return facet_samples_bad(reader,
                                 "metadata %s is not a JSON array of %u names; write the "
                                 "file again",
                                 key, n);
    cJSON_ArrayForEach(item, array)
    {
        if (!string_ok(item))
            return facet_samples_bad(reader,
                                     "metadata %s: name %u is empty, too long or not "
                                     "printable; write the file again",
                                     key, i);
        strings[i] = facet_mem_strdup(reader->alloc, item->valuestring);
        if (!strings[i++]) return facet_fail_memory(reader->err, strlen(item->valuestring) + 1);
    }
    return FACET_OK;
}

facet_status facet_samples_strings(const samples_reader *reader, const char *key, uint32_t n,
                                   char ***out)
{
    cJSON *array = NULL;
    const char *text = facet_safetensors_meta(reader->st, key);
    if (!text) return FACET_OK;
    FACET_TRY(facet_json_parse(text, strlen(text), reader->file, &array, reader->err));
    char **strings = facet_mem_new(reader->alloc, n, sizeof *strings);
    facet_status status = strings ? copy_strings(reader, key, array, n, strings)
                                  : facet_fail_memory(reader->err, n * sizeof *strings);
    cJSON_Delete(array);
    if (status == FACET_OK) {
        *out = strings;
    } else {
        facet_strings_free(strings, n, reader->alloc);
    }
    return status;
}

facet_status facet_samples_tensor(const samples_reader *reader, samples_shape *shape,
                                  const facet_st_tensor **out)
{
    const facet_st_tensor *tensor = facet_safetensors_find(reader->st, shape->name);
    *out = tensor;
    if (!tensor) {
        if (!shape->required) return FACET_OK;
        return facet_samples_bad(reader, "tensor %s is missing; write the file again", shape->name);
    }
    if (tensor->type != shape->type || tensor->n_dims != shape->n_dims) {
        char why[80];
        snprintf(why, sizeof why, "is not %s with %u dimensions", facet_st_type_name(shape->type),
                 shape->n_dims);
        return facet_samples_bad_tensor(reader, tensor, why);
    }
    for (uint32_t i = 0; i < shape->n_dims; i++) {
        if (shape->dims[i] == 0) shape->dims[i] = tensor->dims[i];
        if (tensor->dims[i] == shape->dims[i] && tensor->dims[i] > 0) continue;
        char why[120];
        snprintf(why, sizeof why, "has size %llu in dimension %u where the rest says %llu",
                 (unsigned long long)tensor->dims[i], i, (unsigned long long)shape->dims[i]);
        return facet_samples_bad_tensor(reader, tensor, why);
    }
    if (tensor->dims[0] > UINT32_MAX / 2)
        return facet_samples_bad_tensor(reader, tensor, "is too large");
    return FACET_OK;
}

// Copies to floats and refuses what would poison a ranking, naming the place.
static facet_status copy_scores(const samples_reader *reader, const facet_st_tensor *tensor,
                                size_t n, float *out)
{
    facet_dequantize(tensor->type == FACET_ST_F16 ? FACET_DTYPE_F16 : FACET_DTYPE_F32, tensor->data,
                     n, out);
    for (size_t i = 0; i < n; i++) {
        if (out[i] >= 0 && out[i] <= 3.4e38f) continue; // false for a NaN
        char why[160];
        const size_t row = i / reader->d_ff;
        snprintf(why, sizeof why,
                 "holds %g for sample %zu, layer %zu, channel %zu where a score is finite and 0 or "
                 "more",
                 (double)out[i], row / reader->n_layers, row % reader->n_layers, i % reader->d_ff);
        return facet_samples_bad_tensor(reader, tensor, why);
    }
    return FACET_OK;
}

facet_status facet_samples_scores(const samples_reader *reader, bool required, uint64_t *n,
                                  float **out)
{
    const facet_st_tensor *tensor = facet_safetensors_find(reader->st, "scores");
    const facet_st_type type = tensor && tensor->type == FACET_ST_F16 ? FACET_ST_F16 : FACET_ST_F32;
    samples_shape shape = {"scores", type, 3, {*n, reader->n_layers, reader->d_ff}, required};
    FACET_TRY(facet_samples_tensor(reader, &shape, &tensor));
    if (!tensor) return FACET_OK;
    const size_t count = (size_t)(tensor->bytes / facet_st_type_bytes(type));
    float *scores = facet_mem_new(reader->alloc, count, sizeof *scores);
    if (!scores) return facet_fail_memory(reader->err, count * sizeof *scores);
    const facet_status status = copy_scores(reader, tensor, count, scores);
    if (status != FACET_OK) {
        facet_mem_free(reader->alloc, scores);
        return status;
    }
    *n = shape.dims[0];
    *out = scores;
    return FACET_OK;
}

facet_status facet_samples_mask(const samples_reader *reader, bool required, uint64_t *n,
                                uint8_t **out)
{
    const facet_st_tensor *tensor;
    const uint64_t row = (reader->d_ff + 7) / 8;
    samples_shape shape = {"mask", FACET_ST_U8, 3, {*n, reader->n_layers, row}, required};
    FACET_TRY(facet_samples_tensor(reader, &shape, &tensor));
    if (!tensor) return FACET_OK;
    uint8_t *mask = facet_mem_new(reader->alloc, (size_t)tensor->bytes, 1);
    if (!mask) return facet_fail_memory(reader->err, (size_t)tensor->bytes);
    memcpy(mask, tensor->data, (size_t)tensor->bytes);
    // Bits past the last channel mean nothing; cleared, equal masks compare equal.
    const uint8_t last = (uint8_t)(reader->d_ff % 8 ? (1u << reader->d_ff % 8) - 1 : 255);
    for (size_t i = row - 1; i < tensor->bytes; i += row)
        mask[i] &= last;
    *n = shape.dims[0];
    *out = mask;
    return FACET_OK;
}

static uint32_t load_u32(const void *data, size_t i)
{
    uint32_t value;
    memcpy(&value, (const uint8_t *)data + i * sizeof value, sizeof value);
    return value;
}

static facet_status check_tokens(const samples_reader *reader, const facet_st_tensor *tokens,
                                 const facet_st_tensor *lengths, uint32_t n)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t length = load_u32(lengths->data, i);
        if (length == 0 || length > INT32_MAX)
            return facet_samples_bad_tensor(reader, lengths, "holds a length below 1");
        total += length;
    }
    if (total != tokens->dims[0])
        return facet_samples_bad_tensor(reader, lengths, "does not sum to the number of tokens");
    for (size_t i = 0; i < total; i++) {
        const uint32_t id = load_u32(tokens->data, i);
        if (id < reader->n_vocab) continue;
        char why[96];
        snprintf(why, sizeof why, "holds id %d at %zu, outside the vocabulary of %u", (int)id, i,
                 reader->n_vocab);
        return facet_samples_bad_tensor(reader, tokens, why);
    }
    return FACET_OK;
}

// An optional tensor of a number for each of n samples.
static facet_status read_numbers(const samples_reader *reader, const char *name, uint32_t n,
                                 const facet_st_tensor **tensor, uint32_t **out)
{
    samples_shape shape = {name, FACET_ST_I32, 1, {n}, false};
    FACET_TRY(facet_samples_tensor(reader, &shape, tensor));
    if (!*tensor) return FACET_OK;
    *out = facet_mem_new(reader->alloc, n, sizeof **out);
    if (!*out) return facet_fail_memory(reader->err, n * sizeof **out);
    memcpy(*out, (*tensor)->data, n * sizeof **out);
    return FACET_OK;
}

static facet_status read_documents(const samples_reader *reader, facet_samples *out)
{
    const facet_st_tensor *tensor;
    FACET_TRY(read_numbers(reader, "documents", out->n, &tensor, &out->documents));
    for (uint32_t i = 0; out->documents && i < out->n; i++) {
        if (out->documents[i] > INT32_MAX)
            return facet_samples_bad_tensor(reader, tensor, "holds a number below 0");
    }
    return FACET_OK;
}

// Behind tokens and lengths, which say where a sample ends.
static facet_status read_answers(const samples_reader *reader, facet_samples *out)
{
    const facet_st_tensor *tensor;
    FACET_TRY(read_numbers(reader, "answers", out->n, &tensor, &out->answers));
    if (out->answers && !out->lengths)
        return facet_samples_bad_tensor(reader, tensor, "needs tokens and lengths beside it");
    for (uint32_t i = 0; out->answers && i < out->n; i++) {
        if (out->answers[i] <= out->lengths[i]) continue;
        char why[96];
        snprintf(why, sizeof why, "says %d for sample %u, which has %u tokens",
                 (int)out->answers[i], i, out->lengths[i]);
        return facet_samples_bad_tensor(reader, tensor, why);
    }
    return FACET_OK;
}

static facet_status read_tokens(const samples_reader *reader, facet_samples *out)
{
    const uint32_t n = out->n;
    const facet_st_tensor *tokens, *lengths;
    samples_shape shape = {"tokens", FACET_ST_I32, 1, {0}, false};
    samples_shape sizes = {"lengths", FACET_ST_I32, 1, {n}, false};
    FACET_TRY(facet_samples_tensor(reader, &shape, &tokens));
    FACET_TRY(facet_samples_tensor(reader, &sizes, &lengths));
    if (!tokens && !lengths) return FACET_OK;
    if (!tokens || !lengths)
        return facet_samples_bad(reader, "has one of the tensors tokens and lengths without the "
                                         "other; write the file again");
    FACET_TRY(check_tokens(reader, tokens, lengths, n));
    const size_t n_tokens = (size_t)tokens->dims[0];
    out->tokens = facet_mem_new(reader->alloc, n_tokens, sizeof *out->tokens);
    out->lengths = facet_mem_new(reader->alloc, n, sizeof *out->lengths);
    if (!out->tokens || !out->lengths)
        return facet_fail_memory(reader->err, (n_tokens + n) * sizeof *out->tokens);
    memcpy(out->tokens, tokens->data, n_tokens * sizeof *out->tokens);
    memcpy(out->lengths, lengths->data, n * sizeof *out->lengths);
    out->n_tokens = n_tokens;
    return FACET_OK;
}

facet_status facet_samples_read(const samples_reader *reader, uint32_t n, facet_samples *out)
{
    out->n = n;
    FACET_TRY(read_documents(reader, out));
    FACET_TRY(read_tokens(reader, out));
    return read_answers(reader, out);
}

void facet_samples_fini(facet_samples *samples, const facet_alloc *alloc)
{
    facet_mem_free(alloc, samples->tokens);
    facet_mem_free(alloc, samples->lengths);
    facet_mem_free(alloc, samples->documents);
    facet_mem_free(alloc, samples->answers);
    *samples = (facet_samples){0};
}

void facet_strings_free(char **strings, uint32_t n, const facet_alloc *alloc)
{
    for (uint32_t i = 0; strings && i < n; i++)
        facet_mem_free(alloc, strings[i]);
    facet_mem_free(alloc, strings);
}

facet_status facet_samples_kind_parse(const uint8_t *data, size_t bytes, const char *file,
                                      char kind[16], facet_err *err)
{
    facet_safetensors *st;
    char found[16] = "";
    // A damaged file of ours must say so, anything else is just another file.
    if (bytes >= 9 && data[8] == '{' && memcmp(data, "GGUF", 4) != 0) {
        FACET_TRY(facet_safetensors_parse(data, bytes, file, NULL, &st, err));
        const char *name = facet_safetensors_meta(st, "facet.kind");
        if (name && (strcmp(name, "masks") == 0 || strcmp(name, "families") == 0))
            snprintf(found, sizeof found, "%s", name);
        facet_safetensors_free(st);
    }
    memcpy(kind, found, sizeof found);
    return FACET_OK;
}

facet_status facet_samples_kind(const char *path, char kind[16], facet_err *err)
{
    facet_map map;
    FACET_TRY(facet_map_open(path, &map, err));
    const facet_status status = facet_samples_kind_parse(map.data, map.bytes, path, kind, err);
    facet_map_close(&map);
    return status;
}
