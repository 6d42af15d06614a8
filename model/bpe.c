// SPDX-License-Identifier: Apache-2.0
#include "model/bpe.h"

#include <string.h>

void facet_merger_fini(facet_merger *merger)
{
    facet_mem_free(merger->alloc, merger->symbols);
    facet_mem_free(merger->alloc, merger->heap);
    *merger = (facet_merger){.alloc = merger->alloc};
}

facet_status facet_merger_add(facet_merger *merger, uint32_t at, uint32_t bytes, uint32_t id,
                              facet_err *err)
{
    if (merger->n == merger->capacity) {
        const uint32_t capacity = merger->capacity ? merger->capacity * 2 : 64;
        facet_symbol *grown =
            facet_mem_resize(merger->alloc, merger->symbols, capacity, sizeof *grown);
        if (!grown) return facet_fail_memory(err, capacity * sizeof *grown);
        merger->symbols = grown;
        merger->capacity = capacity;
    }
    const uint32_t i = merger->n++;
    merger->symbols[i] = (facet_symbol){at, bytes, id, i ? i - 1 : FACET_NO_TOKEN, FACET_NO_TOKEN};
    if (i) merger->symbols[i - 1].next = i;
    return FACET_OK;
}

// Knuth's multiplicative hashing of both halves; the table is at most half full.
static uint32_t pair_hash(uint32_t left, uint32_t right)
{
    const uint64_t key = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(key >> 32) ^ (uint32_t)key;
}

static const facet_pair_slot *find_pair(const facet_tokenizer *t, uint32_t left, uint32_t right)
{
    for (uint32_t i = pair_hash(left, right) & t->pair_mask;; i = (i + 1) & t->pair_mask) {
        const facet_pair_slot *slot = &t->pairs[i];
        if (slot->left == left && slot->right == right) return slot;
        if (slot->left == FACET_NO_TOKEN) return NULL;
    }
}

facet_status facet_pairs_build(facet_tokenizer *t, facet_err *err)
{
    uint32_t slots = 16;
    while (slots < t->n_merges * 2)
        slots *= 2;
    t->pairs = facet_mem_resize(t->alloc, NULL, slots, sizeof *t->pairs);
    if (!t->pairs) return facet_fail_memory(err, slots * sizeof *t->pairs);
    t->pair_mask = slots - 1;
    for (uint32_t i = 0; i < slots; i++)
        t->pairs[i].left = FACET_NO_TOKEN;
    for (uint32_t rank = 0; rank < t->n_merges; rank++) {
        const facet_merge *m = &t->merges[rank];
        uint32_t i = pair_hash(m->left, m->right) & t->pair_mask;
        while (t->pairs[i].left != FACET_NO_TOKEN &&
               (t->pairs[i].left != m->left || t->pairs[i].right != m->right))
            i = (i + 1) & t->pair_mask;
        // The first of two merges of one pair counts.
        if (t->pairs[i].left == FACET_NO_TOKEN)
            t->pairs[i] = (facet_pair_slot){m->left, m->right, rank, m->result};
    }
    return FACET_OK;
}

// What would left and right become, and how soon? False when they do not merge.
static bool find_candidate(const facet_merger *merger, uint32_t left, uint32_t right,
                           facet_candidate *out)
{
    const facet_tokenizer *t = merger->tokenizer;
    const facet_symbol *l = &merger->symbols[left], *r = &merger->symbols[right];
    *out = (facet_candidate){.left = left, .right = right, .right_bytes = r->bytes};
    if (t->engine == FACET_ENGINE_SPM) {
        out->result = facet_vocab_find(t, merger->text + l->at, (size_t)l->bytes + r->bytes);
        if (out->result == FACET_NO_TOKEN) return false;
        out->rank = t->ranks[out->result];
        return true;
    }
    if (l->id == FACET_NO_TOKEN || r->id == FACET_NO_TOKEN) return false;
    const facet_pair_slot *slot = find_pair(t, l->id, r->id);
    if (!slot) return false;
    out->rank = slot->rank;
    out->result = slot->result;
    return true;
}

static bool before(const facet_candidate *a, const facet_candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

// Puts the candidate of two neighbours (FACET_NO_TOKEN: the end of the text) on the heap.
static facet_status push(facet_merger *merger, uint32_t left, uint32_t right, facet_err *err)
{
    facet_candidate c;
    if (left == FACET_NO_TOKEN || right == FACET_NO_TOKEN) return FACET_OK;
    if (!find_candidate(merger, left, right, &c)) return FACET_OK;
    if (merger->heap_count == merger->heap_capacity) {
        const size_t capacity = merger->heap_capacity ? merger->heap_capacity * 2 : 64;
        facet_candidate *grown =
            facet_mem_resize(merger->alloc, merger->heap, capacity, sizeof *grown);
        if (!grown) return facet_fail_memory(err, capacity * sizeof *grown);
        merger->heap = grown;
        merger->heap_capacity = capacity;
    }
    facet_candidate *heap = merger->heap;
    size_t i = merger->heap_count++;
    while (i > 0 && before(&c, &heap[(i - 1) / 2])) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = c;
    return FACET_OK;
}

static facet_candidate pop(facet_merger *merger)
{
    facet_candidate *heap = merger->heap;
    const facet_candidate top = heap[0], last = heap[--merger->heap_count];
    const size_t n = merger->heap_count;
    size_t i = 0;
    for (size_t child = 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && before(&heap[child + 1], &heap[child])) child++;
        if (!before(&heap[child], &last)) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

facet_status facet_merger_run(facet_merger *merger, facet_err *err)
{
    facet_symbol *symbols = merger->symbols;
    merger->heap_count = 0;
    for (uint32_t i = 1; i < merger->n; i++)
        FACET_TRY(push(merger, i - 1, i, err));
    while (merger->heap_count > 0) {
        const facet_candidate c = pop(merger);
        facet_symbol *left = &symbols[c.left], *right = &symbols[c.right];
        // The left one cannot have grown while the right one lives, so these two checks suffice.
        if (left->bytes == 0 || right->bytes != c.right_bytes) continue;
        left->bytes += right->bytes;
        left->id = c.result;
        left->next = right->next;
        right->bytes = 0;
        if (left->next != FACET_NO_TOKEN) symbols[left->next].prev = c.left;
        FACET_TRY(push(merger, left->prev, c.left, err));
        FACET_TRY(push(merger, c.left, left->next, err));
    }
    return FACET_OK;
}
