// SPDX-License-Identifier: Apache-2.0
// GGUF bytes for tests: little-endian pieces, and a one-layer llama model in which one thing can be
// made wrong.
#ifndef FACET_TESTS_GGUF_MAKER_H
#define FACET_TESTS_GGUF_MAKER_H

#include <string.h>

#include "base/text.h"
#include "model/gguf.h"

static inline void put_number(facet_text *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        const uint8_t byte = (uint8_t)(value >> (8 * i));
        facet_text_put(out, &byte, 1);
    }
}

static inline void put_u32(facet_text *out, uint32_t value)
{
    put_number(out, value, 4);
}

static inline void put_u64(facet_text *out, uint64_t value)
{
    put_number(out, value, 8);
}

static inline void put_str(facet_text *out, const char *s)
{
    put_u64(out, strlen(s));
    facet_text_puts(out, s);
}

static inline void put_head(facet_text *out, uint32_t version, uint64_t n_tensors,
                            uint64_t n_entries)
{
    facet_text_puts(out, "GGUF");
    put_u32(out, version);
    put_u64(out, n_tensors);
    put_u64(out, n_entries);
}

static inline void put_entry_u32(facet_text *out, const char *key, uint32_t value)
{
    put_str(out, key);
    put_u32(out, FACET_GGUF_U32);
    put_u32(out, value);
}

static inline void put_entry_str(facet_text *out, const char *key, const char *value)
{
    put_str(out, key);
    put_u32(out, FACET_GGUF_STRING);
    put_str(out, value);
}

static inline void put_entry_f32(facet_text *out, const char *key, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_str(out, key);
    put_u32(out, FACET_GGUF_F32);
    put_u32(out, bits);
}

static inline void put_info(facet_text *out, const char *name, const uint64_t dims[2],
                            uint32_t type, uint64_t offset)
{
    const uint32_t n_dims = dims[1] ? 2 : 1;
    put_str(out, name);
    put_u32(out, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        put_u64(out, dims[i]);
    put_u32(out, type);
    put_u64(out, offset);
}

static inline void put_zeros(facet_text *out, size_t n)
{
    while (n--)
        facet_text_put(out, "", 1);
}

static inline void put_pad(facet_text *out, size_t alignment)
{
    while (out->length % alignment)
        facet_text_put(out, "", 1);
}

// What is different from a sound model. Empty: nothing.
typedef struct maker_change {
    const char *key;        // metadata entry to change: left out, or
    const char *key_string; // with this string, or
    uint32_t key_u32;       // with this number, when key_is_u32, or
    float key_f32;          // with this one, when key_is_f32
    bool key_is_u32, key_is_f32;
    const char *tensor;      // tensor to change: left out, or
    const char *tensor_name; // with this name, or
    uint64_t tensor_dims[2]; // with these dimensions, or
    uint32_t tensor_type;    // with this type, when tensor_has_type
    bool tensor_has_type;
    const char *extra_key; // a further metadata entry, a string
    const char *extra_string;
    const char *extra_tensor; // a further F32 tensor of 16
} maker_change;

enum { MAKER_D = 16, MAKER_F = 8, MAKER_VOCAB = 4 };

typedef struct maker_tensor {
    const char *name;
    uint64_t dims[2]; // dims[1] 0: a vector
} maker_tensor;

static const maker_tensor maker_tensors[] = {
    {"token_embd.weight", {MAKER_D, MAKER_VOCAB}}, {"output_norm.weight", {MAKER_D, 0}},
    {"output.weight", {MAKER_D, MAKER_VOCAB}},     {"blk.0.attn_norm.weight", {MAKER_D, 0}},
    {"blk.0.attn_q.weight", {MAKER_D, MAKER_D}},   {"blk.0.attn_k.weight", {MAKER_D, MAKER_D}},
    {"blk.0.attn_v.weight", {MAKER_D, MAKER_D}},   {"blk.0.attn_output.weight", {MAKER_D, MAKER_D}},
    {"blk.0.ffn_norm.weight", {MAKER_D, 0}},       {"blk.0.ffn_gate.weight", {MAKER_D, MAKER_F}},
    {"blk.0.ffn_up.weight", {MAKER_D, MAKER_F}},   {"blk.0.ffn_down.weight", {MAKER_F, MAKER_D}},
};

static inline bool maker_is(const char *a, const char *b)
{
    return a && strcmp(a, b) == 0;
}

static inline uint32_t maker_entry(facet_text *out, const maker_change *change, const char *key,
                                   uint32_t value)
{
    if (!maker_is(change->key, key)) {
        put_entry_u32(out, key, value);
        return 1;
    }
    if (change->key_string) put_entry_str(out, key, change->key_string);
    if (change->key_is_u32) put_entry_u32(out, key, change->key_u32);
    if (change->key_is_f32) put_entry_f32(out, key, change->key_f32);
    return change->key_string || change->key_is_u32 || change->key_is_f32;
}

static inline uint32_t maker_entries(facet_text *out, const maker_change *change)
{
    uint32_t n = 0;
    if (maker_is(change->key, "general.architecture")) {
        if (change->key_string) {
            put_entry_str(out, "general.architecture", change->key_string);
            n++;
        }
    } else {
        put_entry_str(out, "general.architecture", "llama");
        n++;
    }
    n += maker_entry(out, change, "llama.block_count", 1);
    n += maker_entry(out, change, "llama.context_length", 64);
    n += maker_entry(out, change, "llama.embedding_length", MAKER_D);
    n += maker_entry(out, change, "llama.feed_forward_length", MAKER_F);
    n += maker_entry(out, change, "llama.attention.head_count", 1);
    n += maker_entry(out, change, "llama.attention.head_count_kv", 1);
    n += maker_entry(out, change, "llama.rope.dimension_count", MAKER_D);
    n += maker_entry(out, change, "llama.attention.key_length", MAKER_D);
    if (maker_is(change->key, "llama.rope.freq_base"))
        n += maker_entry(out, change, "llama.rope.freq_base", 0);
    if (maker_is(change->key, "llama.expert_count"))
        n += maker_entry(out, change, "llama.expert_count", 0);
    if (maker_is(change->key, "llama.attention.value_length"))
        n += maker_entry(out, change, "llama.attention.value_length", 0);
    if (change->extra_key) {
        put_entry_str(out, change->extra_key, change->extra_string);
        n++;
    }
    return n;
}

// One tensor's info; the room of its data is added to *at. F32 unless the type is changed.
static inline uint32_t maker_info(facet_text *out, const maker_change *change, const char *name,
                                  const uint64_t dims[2], uint64_t *at)
{
    uint32_t type = 0;
    if (maker_is(change->tensor, name)) {
        if (!change->tensor_name && !change->tensor_dims[0] && !change->tensor_has_type) return 0;
        if (change->tensor_name) name = change->tensor_name;
        if (change->tensor_dims[0]) dims = change->tensor_dims;
        if (change->tensor_has_type) type = change->tensor_type;
    }
    put_info(out, name, dims, type, *at);
    const uint64_t bytes = dims[0] * (dims[1] ? dims[1] : 1) * 4;
    *at += (bytes + 31) / 32 * 32;
    return 1;
}

// Appends the model to `out`, all weights zero.
static inline void put_model(facet_text *out, const maker_change *change)
{
    facet_text entries, infos;
    uint64_t at = 0;
    uint32_t n_infos = 0;
    facet_text_init(&entries, NULL);
    facet_text_init(&infos, NULL);
    const uint32_t n_entries = maker_entries(&entries, change);
    for (size_t i = 0; i < FACET_COUNT_OF(maker_tensors); i++)
        n_infos += maker_info(&infos, change, maker_tensors[i].name, maker_tensors[i].dims, &at);
    if (change->extra_tensor)
        n_infos += maker_info(&infos, change, change->extra_tensor, (const uint64_t[2]){16}, &at);
    put_head(out, 3, n_infos, n_entries);
    facet_text_put(out, entries.data, entries.length);
    facet_text_put(out, infos.data, infos.length);
    put_pad(out, 32);
    put_zeros(out, (size_t)at);
    facet_text_fini(&entries);
    facet_text_fini(&infos);
}

#endif
