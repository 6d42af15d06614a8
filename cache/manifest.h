// SPDX-License-Identifier: Apache-2.0
// manifest.json of a bundle: what is in it, as plain data. compiler/ fills and saves one, runtime/
// loads one. Loading checks every name (no slash, no "..", no NUL), number, range and cross
// reference, so that nobody checks them again; offsets are checked against the sizes of `files`.
// The JSON layout is in docs/FORMATS.md.
#ifndef FACET_CACHE_MANIFEST_H
#define FACET_CACHE_MANIFEST_H

#include "base/hash.h"
#include "base/json.h"
#include "base/memory.h"

#define FACET_BUNDLE_VERSION 1u
#define FACET_ENTRY_ALIGN    64u // offsets of entries that have bytes are multiples of it
#define FACET_MANIFEST_FILE  "manifest.json"
#define FACET_MANIFEST_MAX   (256u << 20) // bytes of text that facet_manifest_parse accepts

// Names of entries. Of weights.bin, once (layer = n_layers); HEAD is absent when the head is tied
// to the embedding. Matrices have (n_rows, stored columns), vectors n_rows 1 and n_cols their
// length.
#define FACET_ENTRY_TOKEN_EMBD   "token_embd"   // n_vocab x d_model
#define FACET_ENTRY_OUT_NORM     "out_norm"     // F32, d_model
#define FACET_ENTRY_HEAD         "head"         // n_vocab x d_model
#define FACET_ENTRY_ROPE_FACTORS "rope_factors" // F32, rope_dims / 2
// Of weights.bin, per layer.
#define FACET_ENTRY_ATTN_NORM "attn_norm"
#define FACET_ENTRY_Q         "q"
#define FACET_ENTRY_K         "k"
#define FACET_ENTRY_V         "v"
#define FACET_ENTRY_O         "o"
#define FACET_ENTRY_Q_BIAS    "q_bias"
#define FACET_ENTRY_K_BIAS    "k_bias"
#define FACET_ENTRY_V_BIAS    "v_bias"
#define FACET_ENTRY_O_BIAS    "o_bias"
#define FACET_ENTRY_Q_NORM    "q_norm"
#define FACET_ENTRY_K_NORM    "k_norm"
#define FACET_ENTRY_ATTN_POST "attn_post"
#define FACET_ENTRY_FFN_NORM  "ffn_norm"
#define FACET_ENTRY_FFN_POST  "ffn_post"
#define FACET_ENTRY_GATE      "gate"    // pack and sizes only: offset 0, bytes 0
#define FACET_ENTRY_UP        "up"      // likewise
#define FACET_ENTRY_GATE_UP   "gate_up" // pack TILES, n_rows d_ff, n_cols d_model: the data of both
#define FACET_ENTRY_DOWN      "down"    // dense's (source order); in a family's file: the family's
#define FACET_ENTRY_PERM      "perm"    // pack U32: channel of each layout position, or UINT32_MAX
// Of a family's file, per layer: FACET_ENTRY_DOWN (d_model x kept tiles * 32) and maybe
#define FACET_ENTRY_DOWN_BIAS "down_bias"
#define FACET_ENTRY_SCORES    "scores" // F32, d_ff, source order, length 1: what `auto` compares with
// and vectors in place of those of weights.bin, where it has them, under the same names
// (facet_manifest_own_vector): OUT_NORM, ATTN_NORM, FFN_NORM, ATTN_POST, FFN_POST, {Q,K,V}_BIAS.

#define FACET_PACK_NAME_TILES "TILES"
#define FACET_PACK_NAME_U32   "U32"

// A packed matrix or F32 vector in weights.bin or in a family's file.
typedef struct facet_entry {
    char name[48];           // "q", "attn_norm" ...: see FORMATS; the layer stands beside it
    uint32_t layer;          // n_layers for what is not a layer's
    char pack[8];            // "F32", "Q4_K" ...
    uint32_t n_rows, n_cols; // real rows, stored columns
    uint64_t offset, bytes;
} facet_entry;

typedef struct facet_manifest_model {
    char arch[24], name[96], fingerprint[FACET_DIGEST_HEX], chat[16];
    uint32_t n_layers, d_model, d_ff, n_heads, n_kv_heads, head_dim, n_vocab, n_ctx;
    uint32_t rope_style, rope_dims,
        act; // values of facet_rope_style and facet_act in kernels/abi.h
    uint32_t window, window_period;
    double rms_eps, rope_base, rope_base_local, rope_scale, attn_scale, embed_scale;
    uint64_t n_parameters, source_bytes;
    uint64_t token_bytes, token_ffn_bytes; // source bytes a dense decode step needs; FFN part of it
} facet_manifest_model;

typedef struct facet_manifest_family {
    char name[64];
    double keep, recall;
    uint64_t samples, extra_bytes;            // extra: size of its own file
    uint64_t token_bytes, packed_token_bytes; // a decode step: source types / really read
    char file[96];                            // "families/NAME.bin"; "" for dense
    uint32_t *n_channels;                     // (n_layers) kept channels
    uint32_t *n_runs;                         // (n_layers) runs of tiles
    uint32_t *runs;       // all layers: pairs (first tile, tiles), ascending, disjoint
    facet_entry *entries; // "down", maybe "down_bias", vectors, "scores"; layer-major
    uint32_t n_entries;
} facet_manifest_family;

typedef struct facet_manifest_kernel {
    char key[FACET_DIGEST_HEX], target[24], family[64], file[96];
    uint64_t bytes;
} facet_manifest_kernel;

typedef struct facet_manifest_file {
    char name[96]; // relative, at most one directory deep
    uint64_t bytes;
    char xxh3[FACET_DIGEST_HEX];
} facet_manifest_file;

typedef struct facet_manifest {
    facet_arena arena; // owns every pointer below
    uint32_t version;
    facet_manifest_model model;
    char compensate[16], layout[16], quant[8];
    facet_entry *entries; // weights.bin
    uint32_t n_entries;
    facet_manifest_family *families; // families[0] is "dense"
    uint32_t n_families;
    facet_manifest_kernel *kernels;
    uint32_t n_kernels;
    facet_manifest_file *files;
    uint32_t n_files;
} facet_manifest;

// Parses and checks manifest.json text. On failure *manifest is empty.
facet_status facet_manifest_parse(const char *text, size_t bytes, const char *file,
                                  const facet_alloc *alloc, facet_manifest *manifest,
                                  facet_err *err);
// Canonical text: same manifest, same bytes. Caller frees with facet_mem_free.
facet_status facet_manifest_print(const facet_manifest *manifest, const facet_alloc *alloc,
                                  char **text, facet_err *err);
void facet_manifest_fini(facet_manifest *manifest);
// The family, the entry (of `entries`) or the file of that name, or NULL; borrowed.
const facet_manifest_family *facet_manifest_find(const facet_manifest *manifest, const char *name);
const facet_entry *facet_manifest_entry(const facet_entry *entries, uint32_t n_entries,
                                        uint32_t layer, const char *name);
const facet_manifest_file *facet_manifest_find_file(const facet_manifest *manifest,
                                                    const char *name);
// Is an entry of that name in a family's file a vector in place of a shared one?
bool facet_manifest_own_vector(const char *name);
// First run of layer `layer` in family->runs: pairs (first tile, tiles), n_runs[layer] of them.
const uint32_t *facet_manifest_runs(const facet_manifest_family *family, uint32_t layer);
// May this be a family's or a file's name (1 to 63 bytes of UTF-8, no slash, no control characters,
// no leading dot)? tools/ and compiler/ ask before they make one.
bool facet_manifest_name_ok(const char *name);
// The checks of facet_manifest_parse on a filled manifest: names, ranges, cross references. `file`
// is only named in errors. facet_manifest_print does not check.
facet_status facet_manifest_check(const facet_manifest *manifest, const char *file, facet_err *err);

#endif
