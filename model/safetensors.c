// SPDX-License-Identifier: Apache-2.0
#include "model/safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"

enum {
    HEADER_MAX = 100000000, // of the format
    NAME_MAX_BYTES = 255,
    ALIGN = 8, // of the data, so that floats of our own files can be read in place
};

static const struct {
    const char *name;
    uint32_t bytes;
} types[FACET_ST_TYPE_COUNT] = {
    [FACET_ST_F64] = {"F64", 8},         [FACET_ST_F32] = {"F32", 4},
    [FACET_ST_F16] = {"F16", 2},         [FACET_ST_BF16] = {"BF16", 2},
    [FACET_ST_I64] = {"I64", 8},         [FACET_ST_U64] = {"U64", 8},
    [FACET_ST_I32] = {"I32", 4},         [FACET_ST_U32] = {"U32", 4},
    [FACET_ST_I16] = {"I16", 2},         [FACET_ST_U16] = {"U16", 2},
    [FACET_ST_I8] = {"I8", 1},           [FACET_ST_U8] = {"U8", 1},
    [FACET_ST_BOOL] = {"BOOL", 1},       [FACET_ST_F8_E4M3] = {"F8_E4M3", 1},
    [FACET_ST_F8_E5M2] = {"F8_E5M2", 1},
};

struct facet_safetensors {
    const facet_alloc *alloc;
    facet_arena arena; // everything below
    const char *file;
    facet_st_tensor *tensors; // in name order
    uint32_t n_tensors;
    facet_st_meta *meta;
    uint32_t n_meta;
};

typedef struct parser {
    facet_safetensors *st;
    const uint8_t *data; // after the header
    size_t start, bytes; // where that is in the file, and how much
    facet_err *err;
} parser;

const char *facet_st_type_name(facet_st_type type)
{
    return types[type].name;
}

uint32_t facet_st_type_bytes(facet_st_type type)
{
    return types[type].bytes;
}

static facet_status bad_tensor(const parser *p, const char *name, const char *why)
{
    return facet_fail_at(p->err, FACET_BAD_TENSOR, p->st->file, (int64_t)p->start,
                         "%s: tensor %.100s %s; the file is damaged", p->st->file, name, why);
}

// A JSON number that is whole and exact.
static bool whole(const cJSON *item, uint64_t *out)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= 0x1p53) ||
        item->valuedouble != floor(item->valuedouble))
        return false;
    *out = (uint64_t)item->valuedouble;
    return true;
}

static bool name_ok(const char *name)
{
    size_t n = 0;
    for (; name[n]; n++) {
        if ((uint8_t)name[n] < 32 || name[n] == 127) return false;
    }
    return n > 0 && n <= NAME_MAX_BYTES;
}

static bool find_type(const char *name, facet_st_type *out)
{
    for (int i = 0; i < FACET_ST_TYPE_COUNT; i++) {
        if (strcmp(types[i].name, name) != 0) continue;
        *out = (facet_st_type)i;
        return true;
    }
    return false;
}

// The shape, and the bytes it means.
static bool read_shape(const cJSON *shape, facet_st_tensor *tensor, uint64_t *bytes)
{
    const cJSON *item;
    size_t total = types[tensor->type].bytes;
    if (!cJSON_IsArray(shape)) return false;
    cJSON_ArrayForEach(item, shape)
    {
        uint64_t dim;
        if (tensor->n_dims == FACET_ST_DIMS_MAX || !whole(item, &dim)) return false;
        if (!facet_mul_size(total, (size_t)dim, &total)) return false;
        tensor->dims[tensor->n_dims++] = dim;
    }
    *bytes = total;
    return true;
}

static facet_status read_tensor(const parser *p, const cJSON *item, facet_st_tensor *tensor)
{
    uint64_t begin, end, bytes;
    const cJSON *type = facet_json_find(item, "dtype");
    const cJSON *offsets = facet_json_find(item, "data_offsets");
    if (!name_ok(item->string)) return bad_tensor(p, "", "has an empty or unprintable name");
    tensor->name = facet_arena_strdup(&p->st->arena, item->string);
    if (!tensor->name) return facet_fail_memory(p->err, strlen(item->string) + 1);
    if (!cJSON_IsObject(item) || !cJSON_IsString(type) || !cJSON_IsArray(offsets))
        return bad_tensor(p, tensor->name, "lacks dtype, shape or data_offsets");
    if (!find_type(type->valuestring, &tensor->type))
        return bad_tensor(p, tensor->name, "has an unknown dtype");
    if (!read_shape(facet_json_find(item, "shape"), tensor, &bytes))
        return bad_tensor(p, tensor->name, "has an impossible shape");
    if (cJSON_GetArraySize(offsets) != 2 || !whole(offsets->child, &begin) ||
        !whole(offsets->child->next, &end) || begin > end)
        return bad_tensor(p, tensor->name, "has impossible data_offsets");
    if (end > p->bytes) return bad_tensor(p, tensor->name, "ends after the file");
    if (end - begin != bytes)
        return bad_tensor(p, tensor->name, "has other bytes than its shape needs");
    tensor->data = p->data + begin;
    tensor->bytes = bytes;
    tensor->offset = p->start + begin;
    return FACET_OK;
}

static facet_status read_meta(const parser *p, const cJSON *object)
{
    facet_safetensors *st = p->st;
    const cJSON *item;
    const int n = cJSON_IsObject(object) ? cJSON_GetArraySize(object) : 0;
    st->meta = facet_arena_new(&st->arena, (size_t)n, sizeof *st->meta);
    if (!st->meta) return facet_fail_memory(p->err, (size_t)n * sizeof *st->meta);
    cJSON_ArrayForEach(item, object)
    {
        if (!cJSON_IsString(item)) {
            return facet_fail_at(p->err, FACET_BAD_FILE, st->file, 8,
                                 "%s: __metadata__ holds something else than strings; the file is "
                                 "damaged",
                                 st->file);
        }
        facet_st_meta *meta = &st->meta[st->n_meta++];
        meta->key = facet_arena_strdup(&st->arena, item->string);
        meta->value = facet_arena_strdup(&st->arena, item->valuestring);
        if (!meta->key || !meta->value) return facet_fail_memory(p->err, 0);
    }
    return FACET_OK;
}

static int name_order(const void *a, const void *b)
{
    const facet_st_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int place_order(const void *a, const void *b)
{
    const facet_st_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

// In order of place each tensor must start where the last one ended, and the last at the file's
// end.
static facet_status check_places(const parser *p)
{
    facet_st_tensor *tensors = p->st->tensors;
    const uint32_t n = p->st->n_tensors;
    uint64_t at = p->start;
    qsort(tensors, n, sizeof *tensors, place_order);
    for (uint32_t i = 0; i < n; i++) {
        if (tensors[i].offset != at)
            return bad_tensor(p, tensors[i].name, "overlaps another one or leaves a hole");
        at += tensors[i].bytes;
    }
    if (at != p->start + p->bytes) {
        return facet_fail_at(p->err, FACET_BAD_FILE, p->st->file, (int64_t)at,
                             "%s: holds %llu bytes that belong to no tensor; the file is damaged",
                             p->st->file, (unsigned long long)(p->start + p->bytes - at));
    }
    qsort(tensors, n, sizeof *tensors, name_order);
    for (uint32_t i = 1; i < n; i++) {
        if (strcmp(tensors[i - 1].name, tensors[i].name) == 0)
            return bad_tensor(p, tensors[i].name, "occurs twice");
    }
    return FACET_OK;
}

static facet_status read_header(const parser *p, const cJSON *header)
{
    facet_safetensors *st = p->st;
    const cJSON *item, *meta = NULL;
    if (!cJSON_IsObject(header)) {
        return facet_fail_at(p->err, FACET_BAD_FILE, st->file, 8,
                             "%s: its header is not a JSON object; give a safetensors file",
                             st->file);
    }
    const size_t n = (size_t)cJSON_GetArraySize(header);
    st->tensors = facet_arena_new(&st->arena, n, sizeof *st->tensors);
    if (!st->tensors) return facet_fail_memory(p->err, n * sizeof *st->tensors);
    cJSON_ArrayForEach(item, header)
    {
        if (!meta && strcmp(item->string, "__metadata__") == 0) {
            meta = item;
            FACET_TRY(read_meta(p, meta));
        } else {
            FACET_TRY(read_tensor(p, item, &st->tensors[st->n_tensors++]));
        }
    }
    return check_places(p);
}

static facet_status find_header(const uint8_t *data, size_t bytes, const char *file, size_t *header,
                                facet_err *err)
{
    uint64_t length = 0;
    for (size_t i = 0; i < 8 && bytes >= 8; i++)
        length |= (uint64_t)data[i] << (8 * i);
    if (bytes < 10 || length < 2 || length > HEADER_MAX || length > bytes - 8) {
        return facet_fail_at(err, FACET_BAD_FILE, file, 0,
                             "%s: is not a safetensors file or is truncated: its header would be "
                             "%llu bytes of %zu; fetch or make the file again",
                             file, (unsigned long long)length, bytes);
    }
    *header = (size_t)length;
    return FACET_OK;
}

facet_status facet_safetensors_parse(const uint8_t *data, size_t bytes, const char *file,
                                     const facet_alloc *alloc, facet_safetensors **out,
                                     facet_err *err)
{
    facet_status status;
    size_t header_bytes;
    cJSON *header = NULL;
    facet_safetensors *st = NULL;
    FACET_TRY(find_header(data, bytes, file, &header_bytes, err));
    FACET_TRY(facet_json_parse((const char *)data + 8, header_bytes, file, &header, err));
    st = facet_mem_new(alloc, 1, sizeof *st);
    if (!st) {
        status = facet_fail_memory(err, sizeof *st);
        goto done;
    }
    st->alloc = alloc;
    facet_arena_init(&st->arena, alloc);
    st->file = facet_arena_strdup(&st->arena, file);
    if (!st->file) {
        status = facet_fail_memory(err, strlen(file) + 1);
        goto done;
    }
    const size_t start = 8 + header_bytes;
    const parser p = {st, data + start, start, bytes - start, err};
    FACET_TRY_GOTO(read_header(&p, header), done);
    *out = st;
    st = NULL;
done:
    facet_safetensors_free(st);
    cJSON_Delete(header);
    return status;
}

void facet_safetensors_free(facet_safetensors *st)
{
    if (!st) return;
    facet_arena_fini(&st->arena);
    facet_mem_free(st->alloc, st);
}

const facet_st_tensor *facet_safetensors_tensors(const facet_safetensors *st, uint32_t *count)
{
    *count = st->n_tensors;
    return st->tensors;
}

const facet_st_tensor *facet_safetensors_find(const facet_safetensors *st, const char *name)
{
    const facet_st_tensor key = {.name = name};
    return st->n_tensors
               ? bsearch(&key, st->tensors, st->n_tensors, sizeof *st->tensors, name_order)
               : NULL;
}

const char *facet_safetensors_meta(const facet_safetensors *st, const char *key)
{
    for (uint32_t i = 0; i < st->n_meta; i++) {
        if (strcmp(st->meta[i].key, key) == 0) return st->meta[i].value;
    }
    return NULL;
}

// ---- writing ----------------------------------------------------------------------------------

static void put_string(facet_text *text, const char *s)
{
    facet_text_puts(text, "\"");
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') {
            facet_text_add(text, "\\%c", *s);
        } else if ((uint8_t)*s < 32) {
            facet_text_add(text, "\\u%04x", (unsigned)*s);
        } else {
            facet_text_put(text, s, 1);
        }
    }
    facet_text_puts(text, "\"");
}

static void put_header(const facet_st_file *content, facet_text *text)
{
    uint64_t at = 0;
    facet_text_puts(text, "{\"__metadata__\":{");
    for (uint32_t i = 0; i < content->n_meta; i++) {
        if (i) facet_text_puts(text, ",");
        put_string(text, content->meta[i].key);
        facet_text_puts(text, ":");
        put_string(text, content->meta[i].value);
    }
    facet_text_puts(text, "}");
    for (uint32_t i = 0; i < content->n_tensors; i++) {
        const facet_st_tensor *tensor = &content->tensors[i];
        facet_text_puts(text, ",");
        put_string(text, tensor->name);
        facet_text_add(text, ":{\"dtype\":\"%s\",\"shape\":[", types[tensor->type].name);
        for (uint32_t d = 0; d < tensor->n_dims; d++)
            facet_text_add(text, "%s%llu", d ? "," : "", (unsigned long long)tensor->dims[d]);
        facet_text_add(text, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                       (unsigned long long)(at + tensor->bytes));
        at += tensor->bytes;
    }
    facet_text_puts(text, "}");
    while (text->length % ALIGN != 0 && text->status == FACET_OK)
        facet_text_puts(text, " ");
}

facet_status facet_safetensors_save(const facet_st_file *content, const char *path, bool force,
                                    facet_err *err)
{
    facet_status status;
    facet_out out = {.fd = -1};
    facet_text header;
    uint8_t length[8];
    facet_text_init(&header, content->alloc);
    put_header(content, &header);
    FACET_TRY_GOTO(facet_text_status(&header, err), done);
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)header.length >> (8 * i));
    FACET_TRY_GOTO(facet_out_open(&out, path, force, err), done);
    FACET_TRY_GOTO(facet_out_write(&out, length, sizeof length, err), done);
    FACET_TRY_GOTO(facet_out_write(&out, header.data, header.length, err), done);
    for (uint32_t i = 0; i < content->n_tensors; i++) {
        const facet_st_tensor *tensor = &content->tensors[i];
        FACET_TRY_GOTO(facet_out_write(&out, tensor->data, (size_t)tensor->bytes, err), done);
    }
    FACET_TRY_GOTO(facet_out_commit(&out, err), done);
done:
    facet_out_abort(&out);
    facet_text_fini(&header);
    return status;
}
