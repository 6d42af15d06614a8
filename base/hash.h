// SPDX-License-Identifier: Apache-2.0
// XXH3-128: for keys, checksums and fingerprints. It finds accidents, not attackers.
#ifndef FACET_BASE_HASH_H
#define FACET_BASE_HASH_H

#include "base/status.h"

#define FACET_DIGEST_HEX 33 // 32 hexadecimal digits and the terminator

typedef struct facet_digest {
    char hex[FACET_DIGEST_HEX]; // canonical (big-endian) form
} facet_digest;

typedef struct facet_hasher facet_hasher;

facet_digest facet_hash(const void *data, size_t bytes);
// Streaming; NULL when out of memory. facet_hasher_end frees it.
facet_hasher *facet_hasher_new(const facet_alloc *alloc);
void facet_hasher_add(facet_hasher *hasher, const void *data, size_t bytes);
facet_digest facet_hasher_end(facet_hasher *hasher);
// Digest of a whole file.
facet_status facet_hash_file(const char *path, facet_digest *out, facet_err *err);
// 32 lower-case hexadecimal digits?
bool facet_digest_valid(const char *hex);

#endif
