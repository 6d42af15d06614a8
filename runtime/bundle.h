// SPDX-License-Identifier: Apache-2.0
// An open bundle, private to runtime/. In: the directory. Out: per family what a step reads
// (layers) and what runs it (a variant). Everything is built at open and read-only afterwards, so
// sessions of any threads share it without locks. The mappings own the weights; the bundle owns the
// rest.
#ifndef FACET_RUNTIME_BUNDLE_H
#define FACET_RUNTIME_BUNDLE_H

#include "base/file.h"
#include "cache/manifest.h"
#include "kernels/abi.h"
#include "model/tokenizer.h"

// The function table of one family: an artifact's, or the reference's.
typedef struct facet_variant {
    void *object;       // of dlopen, NULL for generic
    const char *target; // "generic" or the artifact's (a name of isa.c), borrowed from the manifest
    const facet_stage (*stages)[FACET_STAGE_COUNT]; // (n_layers)
    facet_stage head;
    facet_stage (*generic)[FACET_STAGE_COUNT]; // storage of `stages` when generic, else NULL
} facet_variant;

typedef struct facet_family {
    const facet_manifest_family *facts;
    facet_map map;       // its own file; empty for dense
    facet_layer *layers; // (n_layers)
    const float *out_norm;
    uint32_t *tiles; // all layers' lists, one after the other
    facet_variant variant;
} facet_family;

struct facet_bundle {
    facet_alloc alloc_store;
    const facet_alloc *alloc; // &alloc_store, or NULL for malloc
    facet_log log;            // write NULL: silent
    facet_mode mode;
    char *isa; // limit; NULL: none
    unsigned n_threads;
    bool warned; // about portable kernels, once
    char *path;
    facet_manifest manifest;
    facet_map weights;
    facet_tokenizer *tokenizer;
    facet_shape shape;
    facet_mat embed, head;
    const float *rope_factors; // (rope_dims / 2) or NULL
    uint32_t *perm;            // identity, for layers without a stored one; NULL when not needed
    facet_family *families;    // (manifest.n_families)
    uint32_t max_down_cols;    // largest down.n_cols of any family, rounded up to 32
};

// A line to the caller's log, if there is one.
void facet_bundle_log(const facet_bundle *bundle, facet_level level, const char *format, ...)
    FACET_PRINTF(3, 4);

// Families, tensors and shape of an opened manifest and its mappings (layers.c).
facet_status facet_bundle_layers(facet_bundle *bundle, facet_err *err);

// Chooses and loads the variant of every family as bundle->mode says (device_cpu.c). `close` is
// safe on a variant that is empty or half made.
facet_status facet_variant_open(facet_bundle *bundle, facet_family *family, facet_err *err);
void facet_variant_close(facet_bundle *bundle, facet_variant *variant);

static inline uint32_t facet_round32(uint32_t n)
{
    return (n + 31u) & ~31u;
}

#endif
