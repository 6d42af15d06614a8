// SPDX-License-Identifier: Apache-2.0
#include "base/hash.h"

#include <stdio.h>
#include <string.h>
#define XXH_STATIC_LINKING_ONLY // the size of a state; everything else is the stable API
#include <xxhash.h>

#include "base/file.h"
#include "base/memory.h"

struct facet_hasher {
    const facet_alloc *alloc;
    void *block; // facet_mem_new_aligned: XXH3 wants 64
    XXH3_state_t *state;
};

static facet_digest digest_of(XXH128_hash_t hash)
{
    XXH128_canonical_t canonical;
    facet_digest out;
    XXH128_canonicalFromHash(&canonical, hash);
    for (size_t i = 0; i < sizeof canonical.digest; i++)
        snprintf(out.hex + 2 * i, 3, "%02x", canonical.digest[i]);
    return out;
}

facet_digest facet_hash(const void *data, size_t bytes)
{
    return digest_of(XXH3_128bits(data, bytes));
}

facet_hasher *facet_hasher_new(const facet_alloc *alloc)
{
    facet_hasher *hasher = facet_mem_new(alloc, 1, sizeof *hasher);
    void *block = facet_mem_new_aligned(alloc, 1, sizeof(XXH3_state_t));
    if (!hasher || !block) {
        facet_mem_free(alloc, hasher);
        facet_mem_free_aligned(alloc, block);
        return NULL;
    }
    *hasher = (facet_hasher){alloc, block, block};
    XXH3_128bits_reset(hasher->state);
    return hasher;
}

void facet_hasher_add(facet_hasher *hasher, const void *data, size_t bytes)
{
    if (bytes) XXH3_128bits_update(hasher->state, data, bytes);
}

facet_digest facet_hasher_end(facet_hasher *hasher)
{
    const facet_digest digest = digest_of(XXH3_128bits_digest(hasher->state));
    facet_mem_free_aligned(hasher->alloc, hasher->block);
    facet_mem_free(hasher->alloc, hasher);
    return digest;
}

facet_status facet_hash_file(const char *path, facet_digest *out, facet_err *err)
{
    facet_map map;
    FACET_TRY(facet_map_open(path, &map, err));
    *out = facet_hash(map.data, map.bytes);
    facet_map_close(&map);
    return FACET_OK;
}

bool facet_digest_valid(const char *hex)
{
    return strlen(hex) == FACET_DIGEST_HEX - 1 &&
           strspn(hex, "0123456789abcdef") == FACET_DIGEST_HEX - 1;
}
