// SPDX-License-Identifier: Apache-2.0
// The manifest as data: the table of the model's fields, look-ups, and names.
#include "cache/manifest.h"

#include <string.h>

#include "cache/manifest_internal.h"

#define U32(name, min, max)                                                                        \
    {                                                                                              \
#name, FACET_FIELD_U32, offsetof(facet_manifest_model, name), min, max                     \
    }
#define U64(name)                                                                                  \
    {                                                                                              \
#name, FACET_FIELD_U64, offsetof(facet_manifest_model, name), 0, UINT64_C(1) << 53         \
    }
#define REAL(name)                                                                                 \
    {                                                                                              \
#name, FACET_FIELD_DOUBLE, offsetof(facet_manifest_model, name), 0, 0                      \
    }

// The bounds are far beyond any model and keep every product of two of them below 2^53.
const facet_model_field facet_model_fields[] = {
    U32(n_layers, 1, FACET_MAX_LAYERS),
    U32(d_model, 1, 1u << 20),
    U32(d_ff, 1, 1u << 22),
    U32(n_heads, 1, 1u << 12),
    U32(n_kv_heads, 1, 1u << 12),
    U32(head_dim, 1, 1u << 12),
    U32(n_vocab, 1, 1u << 24),
    U32(n_ctx, 1, 1u << 28),
    U32(rope_style, 0, 2),
    U32(rope_dims, 0, 1u << 12),
    U32(act, 0, 1),
    U32(window, 0, 1u << 28),
    U32(window_period, 0, 1u << 20),
    REAL(rms_eps),
    REAL(rope_base),
    REAL(rope_base_local),
    REAL(rope_scale),
    REAL(attn_scale),
    REAL(embed_scale),
    U64(n_parameters),
    U64(source_bytes),
    U64(token_bytes),
    U64(token_ffn_bytes),
};
const uint32_t facet_model_field_count = FACET_COUNT_OF(facet_model_fields);

void facet_manifest_fini(facet_manifest *manifest)
{
    if (manifest == NULL) return;
    facet_arena_fini(&manifest->arena);
    *manifest = (facet_manifest){0};
}

const facet_manifest_family *facet_manifest_find(const facet_manifest *manifest, const char *name)
{
    for (uint32_t i = 0; i < manifest->n_families; i++)
        if (strcmp(manifest->families[i].name, name) == 0) return &manifest->families[i];
    return NULL;
}

const facet_manifest_file *facet_manifest_find_file(const facet_manifest *manifest,
                                                    const char *name)
{
    for (uint32_t i = 0; i < manifest->n_files; i++)
        if (strcmp(manifest->files[i].name, name) == 0) return &manifest->files[i];
    return NULL;
}

const uint32_t *facet_manifest_runs(const facet_manifest_family *family, uint32_t layer)
{
    size_t first = 0;
    for (uint32_t l = 0; l < layer; l++)
        first += family->n_runs[l];
    return family->runs + 2 * first;
}

uint32_t facet_manifest_kept(const facet_manifest_family *family, uint32_t layer)
{
    const uint32_t *runs = facet_manifest_runs(family, layer);
    uint32_t kept = 0;
    for (uint32_t r = 0; r < family->n_runs[layer]; r++)
        kept += runs[2 * r + 1];
    return kept;
}

uint32_t facet_manifest_tiles(const facet_manifest_model *model)
{
    return (model->d_ff + FACET_MANIFEST_TILE - 1) / FACET_MANIFEST_TILE;
}

// Length of the UTF-8 sequence at s, 0 when it is none (overlong, surrogate, too large, cut off).
static size_t utf8_sequence(const unsigned char *s)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    if (n <= 1) return n;
    uint32_t code = s[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
        code = code << 6 | (s[i] & 0x3Fu);
    }
    bool surrogate = code >= 0xD800 && code < 0xE000;
    return code < least[n] || surrogate || code > 0x10FFFF ? 0 : n;
}

bool facet_manifest_text_ok(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t n; *s != 0; s += n) {
        n = utf8_sequence(s);
        if (n == 0 || *s < 0x20 || *s == 0x7F) return false;
    }
    return true;
}

static bool component_ok(const char *name, size_t length)
{
    return length > 0 && name[0] != '.' && memchr(name, '/', length) == NULL &&
           memchr(name, '\\', length) == NULL;
}

bool facet_manifest_name_ok(const char *name)
{
    size_t length = strlen(name);
    return length < sizeof((facet_manifest_family){0}.name) && component_ok(name, length) &&
           facet_manifest_text_ok(name);
}

bool facet_manifest_path_ok(const char *path)
{
    const char *slash = strchr(path, '/');
    if (!facet_manifest_text_ok(path)) return false;
    if (slash == NULL) return component_ok(path, strlen(path));
    return component_ok(path, (size_t)(slash - path)) && component_ok(slash + 1, strlen(slash + 1));
}
