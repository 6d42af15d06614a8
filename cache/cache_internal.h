// SPDX-License-Identifier: Apache-2.0
// Shared by cache*.c only.
//
//     get:  find ──> hit
//            │ miss
//            └─> lock ─> find again ─> build in tmp/ ─> seal ─> publish ─> evict if over the cap
#ifndef FACET_CACHE_CACHE_INTERNAL_H
#define FACET_CACHE_CACHE_INTERNAL_H

#include <pthread.h>
#include <sys/types.h>

#include "base/file.h"
#include "base/memory.h"
#include "cache/cache.h"

#define FACET_CACHE_PATH       4096
#define FACET_CACHE_ROOM       256  // a root leaves this many bytes of a path to what is below it
#define FACET_CACHE_STALE_S    3600 // age at which abandoned temporary directories are swept
#define FACET_CACHE_RECIPE_MAX (16u << 20)
#define FACET_CACHE_MAX_FDS    200 // entries a process keeps locked; the rest it only remembers

typedef struct facet_cache_counts {
    uint64_t hits, misses, compiled, rejected, quarantined, evicted;
    uint64_t bytes; // allocated by all entries: a running total, put right by every scan
} facet_cache_counts;

// What this facet_cache uses until it is closed: an entry (its `recipe` locked), or a private
// directory whose result could not be published (the directory locked, so that nobody sweeps it).
typedef struct facet_cache_held {
    struct facet_cache_held *next;
    char key[FACET_DIGEST_HEX];
    int fd; // -1: none
    bool built;
    char *dir; // private directory (of FACET_CACHE_PATH bytes), removed at close; NULL or "": none
} facet_cache_held;

struct facet_cache {
    const facet_alloc *alloc;
    const facet_report *report;
    facet_cache_mode mode;
    uint64_t limit_bytes;
    uint32_t lock_timeout_ms;
    bool private_root;     // removed at close
    bool writable;         // may we try to write below root?
    pthread_mutex_t mutex; // guards everything below
    bool warned;
    facet_cache_held *held;
    unsigned n_fds; // of held
    facet_cache_counts run;
    char root[FACET_CACHE_PATH];
    char temp_parent[FACET_CACHE_PATH];
    char scratch[FACET_CACHE_PATH]; // private directory outside of root, made when first needed
};

typedef struct facet_cache_query {
    const char *recipe; // NULL: any whose digest is the key
    const char *key;
    bool tree; // expected kind of payload
    bool full; // check all bytes of a tree
} facet_cache_query;

// ---- cache.c
// ROOT/dir/name; name NULL: ROOT/dir.
facet_status facet_cache_path(const facet_cache *cache, const char *dir, const char *name,
                              char out[FACET_CACHE_PATH], facet_err *err);
// One warning in the life of a facet_cache: the next ones would say the same.
void facet_cache_warn(facet_cache *cache, const char *what, const facet_err *why);
bool facet_cache_uses(facet_cache *cache, const char *key);

// ---- cache_open.c
facet_status facet_cache_settle(facet_cache *cache, const facet_cache_opts *opts, facet_err *err);

// ---- cache_lock.c
// flock(fd, operation) for at most timeout_ms; false when it was not to be had in time or at all.
bool facet_lock_wait(int fd, int operation, uint32_t timeout_ms, const facet_report *report);
// The lock of a key, -1 when locks do not work or took too long. FACET_INTERRUPTED when asked to
// stop.
facet_status facet_lock_key(facet_cache *cache, const char *key, int *fd, facet_err *err);
void facet_lock_drop(facet_cache *cache, const char *key, int fd);
// Opens a directory and takes its shared lock: "in use"; -1 when it cannot be opened.
int facet_lock_dir(const char *path);

// ---- cache_entry.c
typedef enum facet_cache_state {
    FACET_STATE_ABSENT, // a plain miss
    FACET_STATE_GOOD,
    FACET_STATE_BAD,        // to be put into quarantine
    FACET_STATE_UNREADABLE, // a miss, but nobody can say that the entry is bad
} facet_cache_state;
typedef struct facet_cache_facts {
    facet_cache_state state;
    int fd; // of `recipe`, locked shared, when GOOD; the caller closes it
    uint64_t bytes;
    facet_digest sum;
    ino_t inode; // of the entry's directory, 0 when absent
} facet_cache_facts;
// Checks the entry in directory `dir`. Fails only when memory runs out.
facet_status facet_entry_inspect(const facet_cache *cache, const char *dir,
                                 const facet_cache_query *query, facet_cache_facts *facts,
                                 facet_err *err);
// Makes dir/recipe and dir/sum for the measured dir/payload and syncs all.
facet_status facet_entry_seal(const facet_cache *cache, const char *dir,
                              const facet_cache_query *query, const facet_text *listing,
                              const facet_cache_facts *facts, facet_err *err);
// Digest and size (facts->sum, bytes) of a payload: a file or a tree; `listing` receives the list
// of a tree. An empty payload is FACET_FAILED.
facet_status facet_entry_measure(const facet_cache *cache, const char *path, bool tree,
                                 facet_text *listing, facet_cache_facts *facts, facet_err *err);
// Digest and size of a regular file, by reading (a mapping would fault if the file shrank).
facet_status facet_entry_hash(const facet_alloc *alloc, const char *path, uint64_t *bytes,
                              facet_digest *sum, facet_err *err);

// ---- cache_tree.c
// The list of a tree's files in byte order of names, one "XXH3-128 bytes name\n" each.
facet_status facet_tree_list(const facet_alloc *alloc, const char *dir, facet_text *listing,
                             uint64_t *bytes, facet_err *err);
// Is the tree what the listing says? Not `full`: contents of files below 1 MiB only.
facet_status facet_tree_check(const facet_alloc *alloc, const char *dir, const char *listing,
                              bool full, uint64_t *bytes, facet_cache_state *state, facet_err *err);
// Bytes that a tree's files and directories allocate on disk; what cannot be read counts nothing.
uint64_t facet_tree_allocated(const char *dir);

// ---- cache_publish.c
// Builds, publishes, fills `out` and `held`.
facet_status facet_cache_make(facet_cache *cache, const facet_cache_query *query,
                              facet_cache_build_fn *build, void *ctx, facet_cache_held *held,
                              facet_cache_hit *out, facet_err *err);

// ---- cache_stats.c
// Adds to the counters on disk and, but for bytes, to those of this facet_cache. Never fails: a
// lost count harms nobody. Returns the total of bytes.
uint64_t facet_stats_add(facet_cache *cache, const facet_cache_counts *more, int64_t bytes);
void facet_stats_read(const facet_cache *cache, facet_cache_counts *counts);
void facet_stats_set_bytes(facet_cache *cache, uint64_t bytes);
void facet_stats_reset(facet_cache *cache);

// ---- cache_evict.c
// Puts a doubted entry away, if it still is the directory of that inode.
void facet_cache_quarantine(facet_cache *cache, const char *key, ino_t inode);
void facet_cache_sweep(facet_cache *cache);
// Moves an entry that is to be replaced out of the way, to the name `moved`; false when somebody
// uses it or it cannot be moved. No entry is success.
bool facet_cache_take(facet_cache *cache, const char *key, const char *moved);
// Removes least recently used entries until at most `limit_bytes` are allocated.
facet_status facet_cache_shrink(facet_cache *cache, uint64_t limit_bytes, uint64_t *removed,
                                facet_err *err);
typedef struct facet_cache_scanned {
    char key[FACET_DIGEST_HEX];
    uint64_t bytes;
    int64_t used_s, used_ns;
    ino_t inode; // of `sum`, 0 when it has none
} facet_cache_scanned;
// All entries, least recently used first; free with facet_mem_free.
facet_status facet_cache_scan(const facet_cache *cache, facet_cache_scanned **items, size_t *n,
                              facet_err *err);

#endif
