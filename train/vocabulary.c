// SPDX-License-Identifier: Apache-2.0
#include "train/vocabulary.h"

#include "base/memory.h"
#include "base/random.h"

// place: 0 for tokens of the samples. *n: how many there are.
static facet_status mark_text(const facet_samples *samples, uint32_t n_vocab, uint32_t *place,
                              uint32_t *n, facet_err *err)
{
    *n = 0;
    for (uint64_t t = 0; t < samples->n_tokens; t++) {
        const uint32_t token = samples->tokens[t];
        if (token >= n_vocab)
            return facet_fail(err, FACET_MISMATCH,
                              "training: a token is not in the vocabulary of %u; use the model "
                              "that the samples were made with",
                              (unsigned)n_vocab);
        *n += place[token] == FACET_NO_PLACE;
        place[token] = 0;
    }
    return FACET_OK;
}

// Gives rows, in the order of tokens, to those of the text and to `wanted` of the `rest` (Knuth's
// selection sampling). Returns how many there are.
static uint32_t number(uint32_t n_vocab, uint32_t rest, uint32_t wanted, uint64_t seed,
                       facet_vocabulary *v)
{
    facet_random random = facet_random_seed(seed);
    const facet_real stands = wanted > 0 ? (facet_real)log((double)rest / wanted) : 0;
    uint32_t n = 0;
    for (uint32_t token = 0; token < n_vocab; token++) {
        const bool text = v->place[token] == 0;
        if (!text && facet_random_below(&random, rest--) >= wanted) continue;
        wanted -= !text;
        v->stands[n] = text ? 0 : stands;
        v->place[token] = n++;
    }
    return n;
}

static facet_status rows_copy(const facet_param *head, facet_vocabulary *v, facet_err *err)
{
    const size_t size = head->rounded ? sizeof *head->rounded : sizeof *head->value;
    const size_t row = head->cols * size;
    char *to = facet_mem_new_aligned(v->alloc, v->head.rows, row);
    const char *from = head->rounded ? (const char *)head->rounded : (const char *)head->value;
    if (!to) return facet_fail_memory(err, v->head.rows * row);
    if (head->rounded)
        v->head.rounded = (uint16_t *)(void *)to;
    else
        v->head.value = (facet_real *)(void *)to;
    for (uint32_t token = 0; token < head->rows; token++)
        if (v->place[token] != FACET_NO_PLACE)
            memcpy(to + v->place[token] * row, from + token * row, row);
    return FACET_OK;
}

static facet_status build(const facet_net *net, const facet_samples *samples, uint32_t one_in,
                          uint64_t seed, facet_vocabulary *v, facet_err *err)
{
    const facet_param *head = facet_net_param(net, FACET_ROLE_HEAD, 0);
    const uint32_t n_vocab = head->rows;
    uint32_t n_text;
    v->place = facet_mem_new(v->alloc, n_vocab, sizeof *v->place);
    v->stands = facet_mem_new(v->alloc, n_vocab, sizeof *v->stands);
    if (!v->place || !v->stands) return facet_fail_memory(err, n_vocab * sizeof *v->place);
    memset(v->place, 0xff, n_vocab * sizeof *v->place);
    FACET_TRY(mark_text(samples, n_vocab, v->place, &n_text, err));
    const uint32_t rest = n_vocab - n_text;
    const uint32_t wanted = rest / one_in > 0 || rest == 0 ? rest / one_in : 1;
    v->head = (facet_param){.role = FACET_ROLE_HEAD, .cols = head->cols};
    v->head.rows = number(n_vocab, rest, wanted, seed, v);
    return rows_copy(head, v, err);
}

facet_status facet_vocabulary_new(const facet_net *net, const facet_samples *samples,
                                  uint32_t one_in, uint64_t seed, const facet_alloc *alloc,
                                  facet_vocabulary **out, facet_err *err)
{
    facet_vocabulary *v = facet_mem_new(alloc, 1, sizeof *v);
    if (!v) return facet_fail_memory(err, sizeof *v);
    v->alloc = alloc;
    const facet_status status = build(net, samples, one_in, seed, v, err);
    if (status != FACET_OK) {
        facet_vocabulary_free(v);
        return status;
    }
    *out = v;
    return FACET_OK;
}

void facet_vocabulary_free(facet_vocabulary *v)
{
    if (!v) return;
    facet_mem_free_aligned(v->alloc, v->head.value);
    facet_mem_free_aligned(v->alloc, v->head.rounded);
    facet_mem_free(v->alloc, v->place);
    facet_mem_free(v->alloc, v->stands);
    facet_mem_free(v->alloc, v);
}
