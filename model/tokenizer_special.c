// SPDX-License-Identifier: Apache-2.0
// Special tokens: which tokens are special by their name, and where they stand in a text.
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "model/tokenizer_parts.h"

// ---- names ------------------------------------------------------------------------------------

#define BAR "\xef\xbd\x9c" // U+FF5C, in DeepSeek's names
#define LOW "\xe2\x96\x81" // U+2581

// Many files mark such tokens wrongly or not at all, so llama.cpp goes by the text; ids that end a
// text must agree with it, and special tokens in text too.
static const char *const end_names[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<" BAR "end" LOW "of" LOW "sentence" BAR ">",
    "[e~[",
};

// Roles of which a model has one token: the one that its metadata names, else the first found here.
#define ROLE_NAMES 8
typedef struct role {
    bool ends;
    const char *names[ROLE_NAMES];
} role;

static const role roles[] = {
    {true, {"<|eom_id|>"}},
    {false,
     {"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<" BAR "fim" LOW "begin" BAR ">", "<PRE>",
      LOW "<PRE>", "<|code_prefix|>", "<|prefix|>"}},
    {false,
     {"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<" BAR "fim" LOW "hole" BAR ">", "<SUF>",
      LOW "<SUF>", "<|code_suffix|>", "<|suffix|>"}},
    {false,
     {"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<" BAR "fim" LOW "end" BAR ">", "<MID>",
      LOW "<MID>", "<|code_middle|>", "<|middle|>"}},
    {true, {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}},
    {true, {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}},
    {true, {"<|file_sep|>"}},
};

static void make_control(facet_tokenizer *t, uint32_t id)
{
    t->tokens[id].type = FACET_TOKEN_CONTROL;
}

static void set_end(facet_tokenizer *t, int64_t id)
{
    if (id >= 0 && id < (int64_t)t->n) facet_bits_set(t->ends, (size_t)id);
}

static void name_role(facet_tokenizer *t, const role *r, int64_t known)
{
    for (size_t i = 0; known < 0 && i < ROLE_NAMES && r->names[i]; i++) {
        const uint32_t id = facet_vocab_find(t, r->names[i], strlen(r->names[i]));
        if (id == FACET_NO_TOKEN) continue;
        make_control(t, id);
        known = id;
    }
    if (r->ends) set_end(t, known);
}

facet_status facet_vocab_name(facet_tokenizer *t, const facet_vocab_ids *ids, facet_err *err)
{
    t->ends = facet_mem_new(t->alloc, facet_bits_bytes(t->n), 1);
    if (!t->ends) return facet_fail_memory(err, facet_bits_bytes(t->n));
    const int64_t known[] = {ids->eom,     ids->fim_pre, ids->fim_suf, ids->fim_mid,
                             ids->fim_pad, ids->fim_rep, ids->fim_sep};
    for (size_t i = 0; i < FACET_COUNT_OF(roles); i++)
        name_role(t, &roles[i], known[i]);
    for (size_t i = 0; i < FACET_COUNT_OF(end_names); i++) {
        const uint32_t id = facet_vocab_find(t, end_names[i], strlen(end_names[i]));
        if (id == FACET_NO_TOKEN) continue;
        make_control(t, id);
        set_end(t, id);
    }
    set_end(t, t->eos);
    set_end(t, ids->eot);
    return FACET_OK;
}

// ---- the sorted list --------------------------------------------------------------------------

static bool is_special(const facet_token *token)
{
    return token->bytes > 0 &&
           (token->type == FACET_TOKEN_CONTROL || token->type == FACET_TOKEN_USER ||
            token->type == FACET_TOKEN_UNKNOWN);
}

static int compare_texts(const facet_tokenizer *t, uint32_t a, uint32_t b)
{
    const facet_token *x = &t->tokens[a], *y = &t->tokens[b];
    const int order = memcmp(facet_token_text(t, a), facet_token_text(t, b),
                             x->bytes < y->bytes ? x->bytes : y->bytes);
    if (order != 0) return order;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return a < b ? -1 : a > b;
}

// qsort has no room for the vocabulary, and a vocabulary is no global: heap sort.
static void sift(const facet_tokenizer *t, uint32_t *ids, size_t i, size_t n)
{
    const uint32_t id = ids[i];
    for (size_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && compare_texts(t, ids[child], ids[child + 1]) < 0) child++;
        if (compare_texts(t, id, ids[child]) >= 0) break;
        ids[i] = ids[child];
        i = child;
    }
    ids[i] = id;
}

static void sort_by_text(const facet_tokenizer *t, uint32_t *ids, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(t, ids, i, n);
    while (n-- > 1) {
        const uint32_t top = ids[0];
        ids[0] = ids[n];
        ids[n] = top;
        sift(t, ids, 0, n);
    }
}

facet_status facet_specials_build(facet_tokenizer *t, facet_err *err)
{
    for (uint32_t id = 0; id < t->n; id++)
        t->n_specials += is_special(&t->tokens[id]);
    t->specials = facet_mem_new(t->alloc, t->n_specials, sizeof *t->specials);
    if (!t->specials) return facet_fail_memory(err, t->n_specials * sizeof *t->specials);
    uint32_t n = 0;
    for (uint32_t id = 0; id < t->n; id++) {
        if (!is_special(&t->tokens[id])) continue;
        t->specials[n++] = id;
        t->first_special[(uint8_t)*facet_token_text(t, id) + 1]++;
    }
    for (int c = 0; c < 256; c++)
        t->first_special[c + 1] += t->first_special[c];
    sort_by_text(t, t->specials, n);
    return FACET_OK;
}
