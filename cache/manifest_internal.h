// SPDX-License-Identifier: Apache-2.0
// Shared by manifest*.c only: the table of the model's fields, the table of entries, and the limits
// beyond which a number in a manifest is taken for damage.
#ifndef FACET_CACHE_MANIFEST_INTERNAL_H
#define FACET_CACHE_MANIFEST_INTERNAL_H

#include "base/text.h"
#include "cache/manifest.h"

#define FACET_MANIFEST_TILE    32u // FACET_TILE of kernels/abi.h, which this room does not see
#define FACET_MANIFEST_GROUP   16u
#define FACET_MANIFEST_KIND    "bundle"
#define FACET_MANIFEST_WEIGHTS "weights.bin"

#define FACET_MAX_LAYERS   1024u
#define FACET_MAX_FAMILIES 4096u
#define FACET_MAX_KERNELS  4096u
#define FACET_MAX_FILES    16384u

// Fields of facet_manifest_model, in the order of the text.
typedef enum facet_field_kind {
    FACET_FIELD_U32,
    FACET_FIELD_U64,
    FACET_FIELD_DOUBLE
} facet_field_kind;
typedef struct facet_model_field {
    const char *name;
    facet_field_kind kind;
    size_t at;         // offset in facet_manifest_model
    uint64_t min, max; // of whole numbers; doubles are checked in manifest_check.c
} facet_model_field;
extern const facet_model_field facet_model_fields[];
extern const uint32_t facet_model_field_count;

// What an entry of a given name must look like.
typedef enum facet_entry_form {
    FACET_FORM_MATRIX, // packed rows
    FACET_FORM_VECTOR, // F32
    FACET_FORM_INDEX,  // U32
    FACET_FORM_SIZES,  // a matrix whose data lies elsewhere
    FACET_FORM_TILES,  // gate and up by tiles
} facet_entry_form;
typedef enum facet_entry_dim {
    FACET_DIM_ONE,
    FACET_DIM_VOCAB,
    FACET_DIM_MODEL,
    FACET_DIM_Q,
    FACET_DIM_KV,
    FACET_DIM_HEAD,
    FACET_DIM_FF,
    FACET_DIM_ROPE_HALF,
    FACET_DIM_LAYOUT, // d_ff rounded up to whole tiles
    FACET_DIM_KEPT,   // kept tiles * 32 of the family and layer
    FACET_DIM_COUNT
} facet_entry_dim;
typedef struct facet_entry_spec {
    const char *name;
    facet_entry_form form;
    bool per_layer, required;
    facet_entry_dim rows, cols;
} facet_entry_spec;
extern const facet_entry_spec facet_weight_specs[];
extern const uint32_t facet_weight_spec_count;
extern const facet_entry_spec facet_family_specs[];
extern const uint32_t facet_family_spec_count;

// Columns of a unit and bytes of 16 rows of a unit of a packing; false for an unknown name. The
// same numbers as in kernels/abi.h; tests/cache/test_manifest.c compares the two tables.
bool facet_manifest_pack(const char *name, uint32_t *cols, uint32_t *bytes);
uint32_t facet_manifest_tiles(const facet_manifest_model *model);
// Kept tiles of a layer.
uint32_t facet_manifest_kept(const facet_manifest_family *family, uint32_t layer);
// Valid UTF-8 without control characters, not empty?
bool facet_manifest_text_ok(const char *text);
// "NAME" or "DIR/NAME", both as facet_manifest_name_ok but for the length.
bool facet_manifest_path_ok(const char *path);

// One list of entries of `file_bytes` bytes: every entry as its spec says, none twice, none
// missing. `family` NULL: those of weights.bin.
facet_status facet_manifest_check_entries(const facet_manifest *manifest,
                                          const facet_manifest_family *family, uint64_t file_bytes,
                                          const char *file, facet_err *err);

#endif
