// SPDX-License-Identifier: Apache-2.0
// A part of the vocabulary that stands for all of it in a step's loss: the tokens of the text, one
// by one, and some of the others, drawn, each for as many as were not. Their logits get the
// logarithm of that number, so that sums over the part estimate sums over all (sampled softmax,
// Jean et al. 2015), the same for teacher and student: where these agree, the loss is 0 and so is
// its gradient. In: a net, samples, a seed. Out: rows of the net's head. It owns those.
#ifndef FACET_TRAIN_VOCABULARY_H
#define FACET_TRAIN_VOCABULARY_H

#include "model/samples.h"
#include "train/net.h"

#define FACET_NO_PLACE UINT32_MAX

typedef struct facet_vocabulary {
    const facet_alloc *alloc;
    facet_param head;   // (n, d_model) frozen
    uint32_t *place;    // (n_vocab) a token's row, or FACET_NO_PLACE
    facet_real *stands; // (n) logarithm of how many tokens a row stands for
} facet_vocabulary;

// Of the tokens that the samples lack, one in `one_in` (1 or more) is drawn, and one at least. The
// net's head must be frozen. FACET_MISMATCH: a token that is not in its vocabulary.
facet_status facet_vocabulary_new(const facet_net *net, const facet_samples *samples,
                                  uint32_t one_in, uint64_t seed, const facet_alloc *alloc,
                                  facet_vocabulary **vocabulary, facet_err *err);
void facet_vocabulary_free(facet_vocabulary *vocabulary);

#endif
