// SPDX-License-Identifier: Apache-2.0
// The artifact cache: recipe text -> payload file, on disk, shared by processes. Design: a hit
// compares the whole recipe and the payload's checksum; any doubt is a miss, the entry is put into
// quarantine, counted and rebuilt; publishing is temporary directory + fsync + rename, and losing
// the race is success. Locks only save work. Nothing in here runs or builds anything.
//
//     ROOT/version                one line, "facet cache 1"
//     ROOT/entries/KEY/recipe     the canonical text; KEY = XXH3-128 of it. flock'ed while in use
//     ROOT/entries/KEY/payload    the artifact, usable in place (dlopen)
//     ROOT/entries/KEY/sum        "XXH3-128 bytes\n" of the payload; of a directory: cache_tree.c.
//                                 Its time of change is the last use
//     ROOT/quarantine/            what was doubted
//     ROOT/locks/KEY              flock'ed while somebody builds
//     ROOT/tmp/                   private directories of builds; stale ones are swept after an hour
//     ROOT/stats                  counters
//     ROOT/wisdom                 cache/wisdom.h
//
// One facet_cache may be used by several threads. docs/FORMATS.md says more about the files.
#ifndef FACET_CACHE_CACHE_H
#define FACET_CACHE_CACHE_H

#include "base/hash.h"
#include "base/report.h"
#include "base/text.h"

typedef struct facet_cache facet_cache;

typedef enum facet_cache_mode {
    FACET_CACHE_AUTO,    // read and write
    FACET_CACHE_STRICT,  // read only; a miss is FACET_REFUSED naming the key
    FACET_CACHE_REBUILD, // ignore what is there, replace it (but for what another process is using)
} facet_cache_mode;

typedef struct facet_cache_opts {
    const char *root;         // explicit directory: unusable is FACET_PERMISSION or FACET_IO
    const char *fallback;     // used when root is NULL: the default place; unusable: a private
                              // temporary directory and one warning
    const char *temp_parent;  // parent of that temporary directory ("/tmp"), also of what cannot be
                              // published
    uint64_t limit_bytes;     // 0: 10 GiB
    uint32_t lock_timeout_ms; // wait for somebody else's build of the same key; 0: 10 minutes
    facet_cache_mode mode;
    const facet_alloc *alloc;
    const facet_report *report;
} facet_cache_opts;

typedef struct facet_cache_stats {
    uint64_t entries, bytes, limit_bytes;
    uint64_t hits, misses, compiled, rejected, quarantined, evicted; // all processes, since clear
    uint64_t run_hits, run_misses, run_compiled, run_rejected;       // this facet_cache
} facet_cache_stats;

// The directory is made 0700 when missing; one that others may write or somebody else owns is
// refused.
facet_status facet_cache_open(const facet_cache_opts *opts, facet_cache **cache, facet_err *err);
void facet_cache_close(facet_cache *cache);
const char *facet_cache_root(const facet_cache *cache);

// Writes the payload to `path` inside the directory `dir` that only the caller sees (other files in
// it vanish), then checks it runs and agrees with the reference. FACET_CHECK: rejected, counted,
// nothing published. It may be called twice: again elsewhere when the cache's disk is full.
typedef facet_status facet_cache_build_fn(void *ctx, const char *dir, const char *path,
                                          facet_err *err);

typedef struct facet_cache_hit {
    char key[FACET_DIGEST_HEX];
    char path[4096]; // of the payload; stays valid while the facet_cache is open (the loser of a
                     // race and an unpublishable result keep their own private copy)
    uint64_t bytes;
    facet_digest sum;
    bool hit;
} facet_cache_hit;

// Finds the payload of a recipe or builds it (once per key among processes, as far as locks allow).
// If publishing fails (full disk, read-only), the built bytes are still used, with one warning.
// `build` NULL: look up only, a miss is FACET_NOT_FOUND.
facet_status facet_cache_get(facet_cache *cache, const char *recipe, facet_cache_build_fn *build,
                             void *ctx, facet_cache_hit *out, facet_err *err);
// The same for a payload that is a directory tree: `build` makes the directory `path`. `sum` is the
// digest of the list of its files, `bytes` their sum. A hit checks the names and sizes of all files
// and the checksums of those below 1 MiB; facet_cache_verify checks all.
facet_status facet_cache_get_dir(facet_cache *cache, const char *recipe,
                                 facet_cache_build_fn *build, void *ctx, facet_cache_hit *out,
                                 facet_err *err);

// Maintenance (facet cache ...). verify: checks every entry, counts, and puts the bad ones that
// nobody uses into quarantine. trim and clear leave entries alone that any process is using;
// `removed` counts entries. Under FACET_CACHE_STRICT nothing is written: verify only counts, trim
// and clear are FACET_REFUSED.
facet_status facet_cache_get_stats(facet_cache *cache, facet_cache_stats *stats, facet_err *err);
facet_status facet_cache_verify(facet_cache *cache, uint64_t *good, uint64_t *bad, facet_err *err);
facet_status facet_cache_trim(facet_cache *cache, uint64_t limit_bytes, uint64_t *removed,
                              facet_err *err);
facet_status facet_cache_clear(facet_cache *cache, facet_err *err);
typedef struct facet_cache_item {
    char key[FACET_DIGEST_HEX];
    char title[96]; // first line of the recipe
    uint64_t bytes;
    int64_t used; // seconds since 1970 of the last use
} facet_cache_item;
// Entries, most recently used first; caller frees with facet_mem_free.
facet_status facet_cache_list(facet_cache *cache, facet_cache_item **items, size_t *n,
                              facet_err *err);
// The difference of two entries' recipes, line by line, for people.
facet_status facet_cache_explain(facet_cache *cache, const char *key_a, const char *key_b,
                                 facet_text *out, facet_err *err);

#endif
