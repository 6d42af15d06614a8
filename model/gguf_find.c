// SPDX-License-Identifier: Apache-2.0
// Lookups in a parsed GGUF file, and the tables of its type numbers.
#include <stdlib.h>
#include <string.h>

#include "model/gguf_parts.h"

static const uint8_t type_bytes[FACET_GGUF_TYPE_COUNT] = {
    [FACET_GGUF_U8] = 1,  [FACET_GGUF_I8] = 1,  [FACET_GGUF_U16] = 2, [FACET_GGUF_I16] = 2,
    [FACET_GGUF_U32] = 4, [FACET_GGUF_I32] = 4, [FACET_GGUF_F32] = 4, [FACET_GGUF_BOOL] = 1,
    [FACET_GGUF_U64] = 8, [FACET_GGUF_I64] = 8, [FACET_GGUF_F64] = 8,
};

// ggml's numbers; those of removed types are named too, for the message.
static const struct {
    const char *name;
    int dtype; // facet_dtype, or -1
} ggml_types[] = {
    [0] = {"F32", FACET_DTYPE_F32},
    [1] = {"F16", FACET_DTYPE_F16},
    [2] = {"Q4_0", FACET_DTYPE_Q4_0},
    [3] = {"Q4_1", FACET_DTYPE_Q4_1},
    [4] = {"Q4_2", -1},
    [5] = {"Q4_3", -1},
    [6] = {"Q5_0", FACET_DTYPE_Q5_0},
    [7] = {"Q5_1", FACET_DTYPE_Q5_1},
    [8] = {"Q8_0", FACET_DTYPE_Q8_0},
    [9] = {"Q8_1", -1},
    [10] = {"Q2_K", -1},
    [11] = {"Q3_K", -1},
    [12] = {"Q4_K", FACET_DTYPE_Q4_K},
    [13] = {"Q5_K", FACET_DTYPE_Q5_K},
    [14] = {"Q6_K", FACET_DTYPE_Q6_K},
    [15] = {"Q8_K", -1},
    [16] = {"IQ2_XXS", -1},
    [17] = {"IQ2_XS", -1},
    [18] = {"IQ3_XXS", -1},
    [19] = {"IQ1_S", -1},
    [20] = {"IQ4_NL", -1},
    [21] = {"IQ3_S", -1},
    [22] = {"IQ2_S", -1},
    [23] = {"IQ4_XS", -1},
    [24] = {"I8", -1},
    [25] = {"I16", -1},
    [26] = {"I32", -1},
    [27] = {"I64", -1},
    [28] = {"F64", -1},
    [29] = {"IQ1_M", -1},
    [30] = {"BF16", FACET_DTYPE_BF16},
    [31] = {"Q4_0_4_4", -1},
    [32] = {"Q4_0_4_8", -1},
    [33] = {"Q4_0_8_8", -1},
    [34] = {"TQ1_0", -1},
    [35] = {"TQ2_0", -1},
    [36] = {"IQ4_NL_4_4", -1},
    [37] = {"IQ4_NL_4_8", -1},
    [38] = {"IQ4_NL_8_8", -1},
    [39] = {"MXFP4", -1},
};

size_t facet_gguf_type_bytes(facet_gguf_type type)
{
    return type_bytes[type];
}

const char *facet_gguf_ggml_name(uint32_t type)
{
    return type < FACET_COUNT_OF(ggml_types) ? ggml_types[type].name : NULL;
}

bool facet_gguf_dtype(uint32_t type, facet_dtype *out)
{
    if (type >= FACET_COUNT_OF(ggml_types) || ggml_types[type].dtype < 0) return false;
    *out = (facet_dtype)ggml_types[type].dtype;
    return true;
}

uint32_t facet_gguf_version(const facet_gguf *gguf)
{
    return gguf->version;
}

const facet_tensor *facet_gguf_tensors(const facet_gguf *gguf, uint32_t *count)
{
    *count = gguf->n_tensors;
    return gguf->tensors;
}

static int key_order(const void *key, const void *entry)
{
    const gguf_entry *e = entry;
    return strcmp(key, e->key);
}

static const gguf_entry *find(const facet_gguf *gguf, const char *key)
{
    return bsearch(key, gguf->entries, gguf->n_entries, sizeof *gguf->entries, key_order);
}

// A number of any integer type, sign extended; false for other types and for a U64 above INT64_MAX.
static bool load_i64(facet_gguf_type type, const uint8_t *p, int64_t *out)
{
    const uint64_t bits = type_bytes[type] ? facet_gguf_load(p, type_bytes[type]) : 0;
    switch (type) {
    case FACET_GGUF_U8:
    case FACET_GGUF_U16:
    case FACET_GGUF_U32:
    case FACET_GGUF_BOOL:
        *out = (int64_t)bits;
        return true;
    case FACET_GGUF_U64:
        if (bits > INT64_MAX) return false;
        *out = (int64_t)bits;
        return true;
    case FACET_GGUF_I8:
        *out = (int8_t)bits;
        return true;
    case FACET_GGUF_I16:
        *out = (int16_t)bits;
        return true;
    case FACET_GGUF_I32:
        *out = (int32_t)bits;
        return true;
    case FACET_GGUF_I64:
        *out = (int64_t)bits;
        return true;
    default:
        return false;
    }
}

static bool load_f64(facet_gguf_type type, const uint8_t *p, double *out)
{
    int64_t whole;
    if (type == FACET_GGUF_F32) {
        float value;
        memcpy(&value, p, sizeof value);
        *out = value;
        return true;
    }
    if (type == FACET_GGUF_F64) {
        memcpy(out, p, sizeof *out);
        return true;
    }
    if (!load_i64(type, p, &whole)) return false;
    *out = (double)whole;
    return true;
}

bool facet_gguf_has(const facet_gguf *gguf, const char *key)
{
    return find(gguf, key) != NULL;
}

bool facet_gguf_find_string(const facet_gguf *gguf, const char *key, facet_span *out)
{
    const gguf_entry *entry = find(gguf, key);
    if (!entry || entry->type != FACET_GGUF_STRING) return false;
    *out = (facet_span){(const char *)entry->value, entry->bytes};
    return true;
}

bool facet_gguf_find_i64(const facet_gguf *gguf, const char *key, int64_t *out)
{
    const gguf_entry *entry = find(gguf, key);
    return entry && entry->type != FACET_GGUF_BOOL && load_i64(entry->type, entry->value, out);
}

bool facet_gguf_find_u64(const facet_gguf *gguf, const char *key, uint64_t *out)
{
    int64_t value;
    if (!facet_gguf_find_i64(gguf, key, &value) || value < 0) return false;
    *out = (uint64_t)value;
    return true;
}

bool facet_gguf_find_f64(const facet_gguf *gguf, const char *key, double *out)
{
    const gguf_entry *entry = find(gguf, key);
    return entry && entry->type != FACET_GGUF_BOOL && load_f64(entry->type, entry->value, out);
}

bool facet_gguf_find_bool(const facet_gguf *gguf, const char *key, bool *out)
{
    const gguf_entry *entry = find(gguf, key);
    if (!entry || entry->type != FACET_GGUF_BOOL) return false;
    *out = *entry->value != 0;
    return true;
}

bool facet_gguf_find_array(const facet_gguf *gguf, const char *key, facet_gguf_array *out)
{
    const gguf_entry *entry = find(gguf, key);
    if (!entry || entry->type != FACET_GGUF_ARRAY) return false;
    *out = entry->array;
    return true;
}

bool facet_gguf_find_array_of(const facet_gguf *gguf, const char *key, facet_gguf_type type,
                              facet_gguf_array *out)
{
    facet_gguf_array array;
    if (!facet_gguf_find_array(gguf, key, &array) || array.type != type) return false;
    *out = array;
    return true;
}

bool facet_gguf_next_string(facet_gguf_array *array, facet_span *out)
{
    if (array->type != FACET_GGUF_STRING || array->next >= array->count) return false;
    const size_t bytes = (size_t)facet_gguf_load(array->data, 8);
    *out = (facet_span){(const char *)array->data + 8, bytes};
    array->data += 8 + bytes;
    array->next++;
    return true;
}

int64_t facet_gguf_array_i64(const facet_gguf_array *array, uint64_t i)
{
    int64_t value = 0;
    if (i < array->count) load_i64(array->type, array->data + i * type_bytes[array->type], &value);
    return value;
}

double facet_gguf_array_f64(const facet_gguf_array *array, uint64_t i)
{
    double value = 0;
    if (i < array->count) load_f64(array->type, array->data + i * type_bytes[array->type], &value);
    return value;
}
