// SPDX-License-Identifier: Apache-2.0
#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void *default_resize(void *ctx, void *ptr, size_t bytes)
{
    (void)ctx;
    if (bytes == 0) {
        free(ptr);
        return NULL;
    }
    return realloc(ptr, bytes);
}

static void *resize(const facet_alloc *alloc, void *ptr, size_t bytes)
{
    return alloc ? alloc->resize(alloc->ctx, ptr, bytes) : default_resize(NULL, ptr, bytes);
}

bool facet_mul_size(size_t a, size_t b, size_t *out)
{
    if (b != 0 && a > SIZE_MAX / b) return false;
    *out = a * b;
    return true;
}

bool facet_add_size(size_t a, size_t b, size_t *out)
{
    if (a > SIZE_MAX - b) return false;
    *out = a + b;
    return true;
}

void *facet_mem_new(const facet_alloc *alloc, size_t n, size_t size)
{
    size_t bytes;
    if (!facet_mul_size(n, size, &bytes)) return NULL;
    if (bytes == 0) bytes = 1;
    void *ptr = resize(alloc, NULL, bytes);
    if (ptr) memset(ptr, 0, bytes);
    return ptr;
}

void *facet_mem_resize(const facet_alloc *alloc, void *ptr, size_t n, size_t size)
{
    size_t bytes;
    if (!facet_mul_size(n, size, &bytes)) return NULL;
    return resize(alloc, ptr, bytes ? bytes : 1);
}

void facet_mem_free(const facet_alloc *alloc, void *ptr)
{
    if (ptr) resize(alloc, ptr, 0);
}

char *facet_mem_strndup(const facet_alloc *alloc, const char *text, size_t bytes)
{
    size_t total;
    if (!facet_add_size(bytes, 1, &total)) return NULL;
    char *copy = facet_mem_new(alloc, total, 1);
    if (copy) memcpy(copy, text, bytes);
    return copy;
}

char *facet_mem_strdup(const facet_alloc *alloc, const char *text)
{
    return facet_mem_strndup(alloc, text, strlen(text));
}

// The block's own address stands just before the aligned one.
#define ALIGNMENT ((size_t)64)

void *facet_mem_new_aligned(const facet_alloc *alloc, size_t n, size_t size)
{
    size_t bytes;
    if (!facet_mul_size(n, size, &bytes)) return NULL;
    if (!facet_add_size(bytes, ALIGNMENT + sizeof(void *), &bytes)) return NULL;
    char *block = facet_mem_new(alloc, bytes, 1);
    if (!block) return NULL;
    const uintptr_t first = (uintptr_t)(block + sizeof(void *));
    const size_t skip = (size_t)((ALIGNMENT - first % ALIGNMENT) % ALIGNMENT);
    char *aligned = block + sizeof(void *) + skip;
    memcpy(aligned - sizeof(void *), &block, sizeof block);
    return aligned;
}

void facet_mem_free_aligned(const facet_alloc *alloc, void *ptr)
{
    if (!ptr) return;
    void *block;
    memcpy(&block, (char *)ptr - sizeof(void *), sizeof block);
    facet_mem_free(alloc, block);
}

facet_status facet_fail_memory(facet_err *err, size_t bytes)
{
    return facet_fail(err, FACET_NO_MEMORY, "memory: %zu bytes are not to be had; free some memory",
                      bytes);
}

// ---- arena ------------------------------------------------------------------------------------

struct facet_arena_chunk {
    struct facet_arena_chunk *next;
    size_t used, capacity;
    max_align_t data[];
};

#define CHUNK_BYTES ((size_t)64 * 1024)

void facet_arena_init(facet_arena *arena, const facet_alloc *alloc)
{
    *arena = (facet_arena){.alloc = alloc};
}

void facet_arena_fini(facet_arena *arena)
{
    struct facet_arena_chunk *chunk = arena->chunks;
    while (chunk) {
        struct facet_arena_chunk *next = chunk->next;
        facet_mem_free(arena->alloc, chunk);
        chunk = next;
    }
    arena->chunks = NULL;
}

static struct facet_arena_chunk *chunk_new(facet_arena *arena, size_t bytes)
{
    const size_t capacity = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
    size_t total;
    if (!facet_add_size(capacity, sizeof(struct facet_arena_chunk), &total)) return NULL;
    struct facet_arena_chunk *chunk = facet_mem_new(arena->alloc, total, 1);
    if (!chunk) return NULL;
    chunk->capacity = capacity;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    return chunk;
}

void *facet_arena_new(facet_arena *arena, size_t n, size_t size)
{
    size_t bytes;
    const size_t step = sizeof(max_align_t);
    if (!facet_mul_size(n, size, &bytes) || bytes > SIZE_MAX - step) return NULL;
    bytes = (bytes + step - 1) / step * step;
    struct facet_arena_chunk *chunk = arena->chunks;
    if (!chunk || chunk->capacity - chunk->used < bytes) chunk = chunk_new(arena, bytes);
    if (!chunk) return NULL;
    void *ptr = (char *)chunk->data + chunk->used; // cleared by facet_mem_new
    chunk->used += bytes;
    assert(chunk->used <= chunk->capacity);
    return ptr;
}

char *facet_arena_strdup(facet_arena *arena, const char *text)
{
    const size_t bytes = strlen(text) + 1;
    char *copy = facet_arena_new(arena, bytes, 1);
    if (copy) memcpy(copy, text, bytes);
    return copy;
}
