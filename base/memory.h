// SPDX-License-Identifier: Apache-2.0
// Memory: every allocation goes through a facet_alloc given at the top, so that tests can make the
// n-th one fail. NULL stands for malloc. Also the arena: one per compile phase, freed whole.
#ifndef FACET_BASE_MEMORY_H
#define FACET_BASE_MEMORY_H

#include "base/status.h"

// n * size zeroed bytes, or NULL (also on overflow). n * size == 0 gives a valid pointer.
void *facet_mem_new(const facet_alloc *alloc, size_t n, size_t size);
// Grows or shrinks to n * size bytes; new bytes are not cleared; NULL leaves the old block alone.
void *facet_mem_resize(const facet_alloc *alloc, void *ptr, size_t n, size_t size);
void facet_mem_free(const facet_alloc *alloc, void *ptr); // NULL is fine
char *facet_mem_strdup(const facet_alloc *alloc, const char *text);
char *facet_mem_strndup(const facet_alloc *alloc, const char *text, size_t bytes);

// n * size zeroed bytes at a multiple of 64; free with facet_mem_free_aligned only.
void *facet_mem_new_aligned(const facet_alloc *alloc, size_t n, size_t size);
void facet_mem_free_aligned(const facet_alloc *alloc, void *ptr);

// *out = a * b (a + b), false on overflow and then *out is untouched.
bool facet_mul_size(size_t a, size_t b, size_t *out);
bool facet_add_size(size_t a, size_t b, size_t *out);

// The sentence for a failed allocation, in one place.
facet_status facet_fail_memory(facet_err *err, size_t bytes);

typedef struct facet_arena {
    const facet_alloc *alloc;
    struct facet_arena_chunk *chunks;
} facet_arena;

void facet_arena_init(facet_arena *arena, const facet_alloc *alloc);
void facet_arena_fini(facet_arena *arena);
// n * size zeroed bytes aligned for any object, or NULL; lives until facet_arena_fini.
void *facet_arena_new(facet_arena *arena, size_t n, size_t size);
char *facet_arena_strdup(facet_arena *arena, const char *text);

#endif
