// SPDX-License-Identifier: Apache-2.0
// Token samples with scores or masks: what a mask-set file (*.masks) and a family file (*.families)
// hold. Both are safetensors files, so that any framework can write one; docs/FORMATS.md has the
// layout. Every value read is checked: shapes, lengths, finite scores, token ids below the
// vocabulary.
#ifndef FACET_MODEL_SAMPLES_H
#define FACET_MODEL_SAMPLES_H

#include "base/memory.h"

typedef struct facet_samples {
    uint32_t *tokens;  // (sum of lengths), sample after sample; NULL: none
    uint32_t *lengths; // (n)
    uint32_t n;
    uint64_t n_tokens;
    uint32_t *documents; // (n) samples of equal number are cut from one text; NULL: each its own
    // (n) where a sample's answer begins, which ends with the sample; its length: it has none.
    // NULL: no sample has one. Needs lengths.
    uint32_t *answers;
} facet_samples;

// Tokens of sample i's prompt; 0 without an answer behind it.
static inline uint32_t facet_samples_prompt(const facet_samples *samples, uint32_t i)
{
    const uint32_t answer = samples->answers ? samples->answers[i] : 0;
    return answer < samples->lengths[i] ? answer : 0;
}

// The first of sample i's tokens whose prediction tells what a task is worth: its answer's first,
// since what a prompt says is given; without a prompt the second, since the first follows nothing.
static inline uint32_t facet_samples_scored(const facet_samples *samples, uint32_t i)
{
    const uint32_t prompt = facet_samples_prompt(samples, i);
    return prompt > 0 ? prompt : 1;
}

typedef struct facet_mask_set {
    const facet_alloc *alloc;
    uint32_t n, n_layers, d_ff;
    float *scores; // (n, n_layers, d_ff) >= 0 and finite; NULL when the file has masks only
    uint8_t *mask; // (n, n_layers, (d_ff + 7) / 8); NULL when it has scores only
    facet_samples samples;
    char **labels; // (n) task names; NULL: none
    char *shape;   // "arch:layers:d:f:vocab"
    char *model;   // fingerprint, "" when not given
    double keep;   // 0 when not given
} facet_mask_set;

facet_status facet_mask_set_load(const char *path, const facet_alloc *alloc, facet_mask_set *set,
                                 facet_err *err);
facet_status facet_mask_set_save(const facet_mask_set *set, const char *path, bool force,
                                 facet_err *err);
void facet_mask_set_fini(facet_mask_set *set);

typedef struct facet_family_set {
    const facet_alloc *alloc;
    uint32_t n_families, n_layers, d_ff;
    char **names;     // (n_families)
    float *scores;    // (n_families, n_layers, d_ff)
    uint8_t *mask;    // (n_families, n_layers, (d_ff + 7) / 8) floor(keep * d_ff) channels a layer
    uint32_t *assign; // (samples.n) family of each sample
    uint8_t *held;    // (samples.n) 1: held out, never calibrates
    facet_samples samples;
    char *shape, *model;
    double keep;
    double silhouette;
} facet_family_set;

facet_status facet_family_set_load(const char *path, const facet_alloc *alloc,
                                   facet_family_set *set, facet_err *err);
facet_status facet_family_set_save(const facet_family_set *set, const char *path, bool force,
                                   facet_err *err);
void facet_family_set_fini(facet_family_set *set);

// What facet_kind a safetensors file of ours is: "masks", "families", or "" for another file.
facet_status facet_samples_kind(const char *path, char kind[16], facet_err *err);

#endif
