// SPDX-License-Identifier: Apache-2.0
// GGUF: one pass over the header with a cursor that never leaves the bytes, then checks over all
// tensors together (order by name, duplicates, overlaps). Lookups are in gguf_find.c.
#include <stdlib.h>
#include <string.h>

#include "model/gguf_parts.h"

enum {
    MAX_NAME = 255,  // ggml's limit is 63; longer names are damage
    MAX_KEY = 65535, // of the format
    MIN_ENTRY = 13,  // bytes: key length, type, shortest value
    MIN_TENSOR = 33, // bytes: name of one byte, one dimension
    DEFAULT_ALIGN = 32,
    MAX_ALIGN = 1 << 20,
};

typedef struct cursor {
    const uint8_t *data;
    size_t bytes, at;
    const char *file;
    facet_err *err;
} cursor;

static facet_status truncated(const cursor *c, const char *what)
{
    return facet_fail_at(c->err, FACET_BAD_FILE, c->file, (int64_t)c->at,
                         "%s: ends inside %s at byte %zu of %zu; fetch the file again", c->file,
                         what, c->at, c->bytes);
}

static facet_status take(cursor *c, uint64_t bytes, const char *what, const uint8_t **out)
{
    if (bytes > c->bytes - c->at) return truncated(c, what);
    *out = c->data + c->at;
    c->at += (size_t)bytes;
    return FACET_OK;
}

static facet_status take_u32(cursor *c, const char *what, uint32_t *out)
{
    const uint8_t *p = NULL;
    FACET_TRY(take(c, 4, what, &p));
    *out = (uint32_t)facet_gguf_load(p, 4);
    return FACET_OK;
}

static facet_status take_u64(cursor *c, const char *what, uint64_t *out)
{
    const uint8_t *p = NULL;
    FACET_TRY(take(c, 8, what, &p));
    *out = facet_gguf_load(p, 8);
    return FACET_OK;
}

static facet_status take_span(cursor *c, const char *what, facet_span *out)
{
    uint64_t bytes;
    const uint8_t *p = NULL;
    FACET_TRY(take_u64(c, what, &bytes));
    FACET_TRY(take(c, bytes, what, &p));
    *out = (facet_span){(const char *)p, (size_t)bytes};
    return FACET_OK;
}

// A key or tensor name: not empty, not too long, no control bytes (it is printed in messages).
static facet_status take_name(cursor *c, const char *what, size_t max, facet_arena *arena,
                              const char **out)
{
    const size_t start = c->at;
    facet_span span;
    FACET_TRY(take_span(c, what, &span));
    bool clean = span.bytes > 0 && span.bytes <= max;
    for (size_t i = 0; clean && i < span.bytes; i++)
        clean = (uint8_t)span.data[i] >= 32 && span.data[i] != 127;
    if (!clean) {
        return facet_fail_at(c->err, FACET_BAD_FILE, c->file, (int64_t)start,
                             "%s: %s at byte %zu is empty, longer than %zu bytes or holds control "
                             "bytes; the file is damaged",
                             c->file, what, start, max);
    }
    char *name = facet_arena_new(arena, span.bytes + 1, 1);
    if (!name) return facet_fail_memory(c->err, span.bytes + 1);
    memcpy(name, span.data, span.bytes);
    *out = name;
    return FACET_OK;
}

static facet_status bad_type(const cursor *c, const char *key, uint32_t type, bool element)
{
    if (type == FACET_GGUF_ARRAY && element) {
        return facet_fail_at(c->err, FACET_UNSUPPORTED, c->file, (int64_t)c->at,
                             "%s: metadata %.80s is an array of arrays; facet reads flat arrays "
                             "only",
                             c->file, key);
    }
    return facet_fail_at(c->err, FACET_BAD_FILE, c->file, (int64_t)c->at,
                         "%s: metadata %.80s has the unknown type %u at byte %zu; the file is "
                         "damaged or newer than facet",
                         c->file, key, type, c->at);
}

static facet_status take_array(cursor *c, gguf_entry *entry)
{
    uint32_t type;
    facet_gguf_array *array = &entry->array;
    FACET_TRY(take_u32(c, "an array type", &type));
    if (type >= FACET_GGUF_TYPE_COUNT || type == FACET_GGUF_ARRAY)
        return bad_type(c, entry->key, type, true);
    array->type = (facet_gguf_type)type;
    FACET_TRY(take_u64(c, "an array length", &array->count));
    array->data = c->data + c->at;
    const size_t each = facet_gguf_type_bytes(array->type);
    const size_t least = type == FACET_GGUF_STRING ? 8 : each;
    if (array->count > (c->bytes - c->at) / least) {
        return facet_fail_at(c->err, FACET_BAD_FILE, c->file, (int64_t)c->at,
                             "%s: metadata %.80s claims %llu elements at byte %zu, more than the "
                             "file holds; fetch the file again",
                             c->file, entry->key, (unsigned long long)array->count, c->at);
    }
    if (type != FACET_GGUF_STRING) {
        c->at += (size_t)array->count * each;
        return FACET_OK;
    }
    for (uint64_t i = 0; i < array->count; i++) {
        facet_span span;
        FACET_TRY(take_span(c, "an array of strings", &span));
    }
    return FACET_OK;
}

static facet_status take_entry(cursor *c, facet_arena *arena, gguf_entry *entry)
{
    uint32_t type;
    FACET_TRY(take_name(c, "a metadata key", MAX_KEY, arena, &entry->key));
    FACET_TRY(take_u32(c, "a metadata type", &type));
    if (type >= FACET_GGUF_TYPE_COUNT) return bad_type(c, entry->key, type, false);
    entry->type = (facet_gguf_type)type;
    if (type == FACET_GGUF_ARRAY) return take_array(c, entry);
    if (type == FACET_GGUF_STRING) {
        facet_span span;
        FACET_TRY(take_span(c, "a metadata string", &span));
        entry->value = (const uint8_t *)span.data;
        entry->bytes = span.bytes;
        return FACET_OK;
    }
    return take(c, facet_gguf_type_bytes(entry->type), "a metadata value", &entry->value);
}

static facet_status refuse_type(const cursor *c, const char *name, uint32_t type)
{
    const char *known = facet_gguf_ggml_name(type);
    if (!known) {
        return facet_fail_at(c->err, FACET_BAD_TENSOR, c->file, (int64_t)c->at,
                             "%s: tensor %s has the unknown type %u; the file is damaged or newer "
                             "than facet",
                             c->file, name, type);
    }
    return facet_fail_at(c->err, FACET_UNSUPPORTED, c->file, (int64_t)c->at,
                         "%s: tensor %s has type %s, which facet does not read; requantise the "
                         "model to F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K or Q6_K",
                         c->file, name, known);
}

// Dimensions and type of one tensor, and with them its size; data and bounds follow later.
static facet_status take_tensor(cursor *c, facet_arena *arena, facet_tensor *tensor)
{
    uint32_t type;
    uint64_t n = 1;
    bool sane;
    FACET_TRY(take_name(c, "a tensor name", MAX_NAME, arena, &tensor->name));
    FACET_TRY(take_u32(c, "a tensor's dimensions", &tensor->n_dims));
    sane = tensor->n_dims >= 1 && tensor->n_dims <= 4;
    for (uint32_t i = 0; i < 4; i++) {
        tensor->dims[i] = 1;
        if (!sane || i >= tensor->n_dims) continue;
        FACET_TRY(take_u64(c, "a tensor's dimensions", &tensor->dims[i]));
        const uint64_t dim = tensor->dims[i];
        sane = dim > 0 && dim <= INT64_MAX / 8 / n; // so that bytes fit too
        if (sane) n *= dim;
    }
    if (!sane) {
        return facet_fail_at(c->err, FACET_BAD_TENSOR, c->file, (int64_t)c->at,
                             "%s: tensor %s has impossible dimensions; the file is damaged",
                             c->file, tensor->name);
    }
    FACET_TRY(take_u32(c, "a tensor's type", &type));
    if (!facet_gguf_dtype(type, &tensor->dtype)) return refuse_type(c, tensor->name, type);
    FACET_TRY(take_u64(c, "a tensor's offset", &tensor->offset));
    if (tensor->dims[0] % facet_dtype_block(tensor->dtype) != 0 ||
        !facet_dtype_size(tensor->dtype, n, &tensor->bytes)) {
        return facet_fail_at(c->err, FACET_BAD_TENSOR, c->file, (int64_t)c->at,
                             "%s: tensor %s has rows of %llu elements, not a multiple of %u as "
                             "%s needs; the file is damaged",
                             c->file, tensor->name, (unsigned long long)tensor->dims[0],
                             facet_dtype_block(tensor->dtype), facet_dtype_name(tensor->dtype));
    }
    return FACET_OK;
}

static facet_status place_tensor(const facet_gguf *gguf, const cursor *c, size_t start,
                                 facet_tensor *tensor)
{
    const uint64_t room = c->bytes > start ? c->bytes - start : 0;
    if (tensor->offset % gguf->alignment != 0) {
        return facet_fail_at(c->err, FACET_BAD_TENSOR, c->file, (int64_t)start,
                             "%s: tensor %s starts at offset %llu, not a multiple of %llu; the "
                             "file is damaged",
                             c->file, tensor->name, (unsigned long long)tensor->offset,
                             (unsigned long long)gguf->alignment);
    }
    if (tensor->offset > room || tensor->bytes > room - tensor->offset) {
        return facet_fail_at(c->err, FACET_BAD_TENSOR, c->file, (int64_t)start,
                             "%s: tensor %s needs %llu bytes at offset %llu of %llu bytes of "
                             "data; the file is truncated, fetch it again",
                             c->file, tensor->name, (unsigned long long)tensor->bytes,
                             (unsigned long long)tensor->offset, (unsigned long long)room);
    }
    tensor->offset += start;
    tensor->data = c->data + tensor->offset;
    tensor->file = gguf->file;
    return FACET_OK;
}

static int entry_order(const void *a, const void *b)
{
    const gguf_entry *x = a, *y = b;
    return strcmp(x->key, y->key);
}

static facet_status take_header(cursor *c, facet_gguf *gguf, uint64_t *n_tensors)
{
    const uint8_t *magic = NULL;
    uint64_t n_entries;
    if (c->bytes < 4 || memcmp(c->data, "GGUF", 4) != 0) {
        return facet_fail_at(c->err, FACET_BAD_FILE, c->file, 0,
                             "%s: is not a GGUF file; give a .gguf model", c->file);
    }
    FACET_TRY(take(c, 4, "the header", &magic));
    FACET_TRY(take_u32(c, "the header", &gguf->version));
    if (gguf->version != 0 && (gguf->version & 0xffffu) == 0) {
        return facet_fail_at(c->err, FACET_UNSUPPORTED, c->file, 4,
                             "%s: is a big-endian GGUF file; facet reads little-endian ones only",
                             c->file);
    }
    if (gguf->version != 2 && gguf->version != 3) {
        return facet_fail_at(c->err, FACET_UNSUPPORTED, c->file, 4,
                             "%s: is GGUF version %u; facet reads versions 2 and 3", c->file,
                             gguf->version);
    }
    FACET_TRY(take_u64(c, "the header", n_tensors));
    FACET_TRY(take_u64(c, "the header", &n_entries));
    const uint64_t left = c->bytes - c->at;
    if (n_entries > left / MIN_ENTRY || *n_tensors > left / MIN_TENSOR || *n_tensors > UINT32_MAX) {
        return facet_fail_at(c->err, FACET_BAD_FILE, c->file, 8,
                             "%s: claims %llu tensors and %llu metadata entries, more than the "
                             "file holds; fetch the file again",
                             c->file, (unsigned long long)*n_tensors,
                             (unsigned long long)n_entries);
    }
    gguf->n_entries = (size_t)n_entries;
    return FACET_OK;
}

static facet_status take_entries(cursor *c, facet_gguf *gguf)
{
    gguf->entries = facet_arena_new(&gguf->arena, gguf->n_entries, sizeof *gguf->entries);
    if (!gguf->entries) return facet_fail_memory(c->err, gguf->n_entries * sizeof *gguf->entries);
    for (size_t i = 0; i < gguf->n_entries; i++)
        FACET_TRY(take_entry(c, &gguf->arena, &gguf->entries[i]));
    qsort(gguf->entries, gguf->n_entries, sizeof *gguf->entries, entry_order);
    for (size_t i = 1; i < gguf->n_entries; i++) {
        if (strcmp(gguf->entries[i - 1].key, gguf->entries[i].key) == 0) {
            return facet_fail_at(c->err, FACET_BAD_FILE, c->file, -1,
                                 "%s: metadata %.80s occurs twice; the file is damaged", c->file,
                                 gguf->entries[i].key);
        }
    }
    gguf->alignment = DEFAULT_ALIGN;
    if (!facet_gguf_has(gguf, "general.alignment")) return FACET_OK;
    const bool found = facet_gguf_find_u64(gguf, "general.alignment", &gguf->alignment);
    const uint64_t align = gguf->alignment;
    // Below 8 bytes the tensors could not be read in place.
    if (!found || align < 8 || align > MAX_ALIGN || (align & (align - 1)) != 0) {
        return facet_fail_at(c->err, FACET_BAD_FILE, c->file, -1,
                             "%s: general.alignment is not a power of two from 8 to %d; the file "
                             "is damaged",
                             c->file, MAX_ALIGN);
    }
    return FACET_OK;
}

static facet_status take_tensors(cursor *c, facet_gguf *gguf, uint64_t n_tensors)
{
    gguf->n_tensors = (uint32_t)n_tensors;
    gguf->tensors = facet_arena_new(&gguf->arena, gguf->n_tensors, sizeof *gguf->tensors);
    if (!gguf->tensors) return facet_fail_memory(c->err, gguf->n_tensors * sizeof *gguf->tensors);
    for (uint32_t i = 0; i < gguf->n_tensors; i++)
        FACET_TRY(take_tensor(c, &gguf->arena, &gguf->tensors[i]));
    const size_t over = c->at % (size_t)gguf->alignment;
    const size_t start = c->at + (over ? (size_t)gguf->alignment - over : 0);
    for (uint32_t i = 0; i < gguf->n_tensors; i++)
        FACET_TRY(place_tensor(gguf, c, start, &gguf->tensors[i]));
    return facet_tensors_check(gguf->tensors, gguf->n_tensors, gguf->alloc, c->err);
}

facet_status facet_gguf_parse(const uint8_t *data, size_t bytes, const char *file,
                              const facet_alloc *alloc, facet_gguf **out, facet_err *err)
{
    facet_status status = FACET_OK;
    uint64_t n_tensors;
    facet_gguf *gguf = facet_mem_new(alloc, 1, sizeof *gguf);
    if (!gguf) return facet_fail_memory(err, sizeof *gguf);
    gguf->alloc = alloc;
    facet_arena_init(&gguf->arena, alloc);
    gguf->file = facet_arena_strdup(&gguf->arena, file);
    if (!gguf->file) {
        status = facet_fail_memory(err, strlen(file) + 1);
        goto done;
    }
    cursor c = {data, bytes, 0, gguf->file, err};
    FACET_TRY_GOTO(take_header(&c, gguf, &n_tensors), done);
    FACET_TRY_GOTO(take_entries(&c, gguf), done);
    FACET_TRY_GOTO(take_tensors(&c, gguf, n_tensors), done);
    *out = gguf;
    gguf = NULL;
done:
    facet_gguf_free(gguf);
    return status;
}

void facet_gguf_free(facet_gguf *gguf)
{
    if (!gguf) return;
    facet_arena_fini(&gguf->arena);
    facet_mem_free(gguf->alloc, gguf);
}
