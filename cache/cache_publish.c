// SPDX-License-Identifier: Apache-2.0
// A miss: build in a private directory, seal it as an entry, publish it by one rename.
//
//     ROOT/tmp/.KEY.XXXXXX/           flock'ed (shared) while it lives
//         payload and work files      the builder's
//         entry/{payload,recipe,sum}  renamed to ROOT/entries/KEY
//
// Where ROOT cannot be written, the same directory lies below temp_parent and stays until close.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cache/cache_internal.h"

#define LITTLE_SPACE (1u << 20)

// A directory outside of the cache; its parent is made when first needed.
static facet_status scratch_dir(facet_cache *cache, const char *key, char *out, facet_err *err)
{
    facet_status status = FACET_OK;
    pthread_mutex_lock(&cache->mutex);
    if (cache->scratch[0] == 0) {
        char made[FACET_CACHE_PATH];
        status = facet_dir_temp(cache->temp_parent, "facet", made, sizeof made, err);
        if (status == FACET_OK) memcpy(cache->scratch, made, strlen(made) + 1);
    }
    if (status == FACET_OK)
        status = facet_dir_temp(cache->scratch, key, out, FACET_CACHE_PATH, err);
    pthread_mutex_unlock(&cache->mutex);
    return status;
}

static facet_status inside_dir(facet_cache *cache, const char *key, char *out, facet_err *err)
{
    char parent[FACET_CACHE_PATH];
    FACET_TRY(facet_cache_path(cache, "tmp", NULL, parent, err));
    FACET_TRY(facet_dir_make(parent, 0700, err));
    return facet_dir_temp(parent, key, out, FACET_CACHE_PATH, err);
}

// Did a builder fail because of where it had to write? A compiler does not say clearly that the
// disk is full, hence the look at what is free.
static bool is_place_at_fault(facet_status status, const char *path)
{
    struct statvfs info;
    if (status == FACET_CHECK || status == FACET_INTERRUPTED) return false;
    if (status == FACET_NO_SPACE || status == FACET_IO || status == FACET_PERMISSION) return true;
    return statvfs(path, &info) == 0 && (uint64_t)info.f_bavail * info.f_frsize < LITTLE_SPACE;
}

static void leave_dir(facet_cache_held *held)
{
    if (held->fd >= 0) close(held->fd);
    held->fd = -1;
    facet_dir_remove(held->dir, NULL);
    held->dir[0] = 0;
}

// One request on its way through this file.
typedef struct making {
    facet_cache *cache;
    const facet_cache_query *query;
    facet_cache_build_fn *build;
    void *ctx;
    facet_cache_held *held;
    facet_cache_facts facts; // sum and bytes of the payload
    facet_text listing;      // of a tree
    char payload[FACET_CACHE_PATH];
} making;

// Runs the builder in held->dir and measures what it left.
static facet_status run_build(making *m, facet_err *err)
{
    m->held->fd = facet_lock_dir(m->held->dir);
    facet_text_clear(&m->listing);
    FACET_TRY(facet_path_join(m->payload, sizeof m->payload, m->held->dir, "payload", err));
    FACET_TRY(m->build(m->ctx, m->held->dir, m->payload, err));
    return facet_entry_measure(m->cache, m->payload, m->query->tree, &m->listing, &m->facts, err);
}

// In the cache if possible; elsewhere if it cannot be written or stopped taking data meanwhile.
static facet_status build_somewhere(making *m, facet_err *err)
{
    facet_cache_held *held = m->held;
    facet_err why = {0};
    if (m->cache->writable) {
        facet_status status = inside_dir(m->cache, m->query->key, held->dir, &why);
        if (status == FACET_OK) {
            status = run_build(m, err);
            if (status == FACET_OK) return FACET_OK;
            const bool place = is_place_at_fault(status, held->dir);
            leave_dir(held);
            if (!place) return status;
            facet_fail(&why, status, "its disk is full or failing");
        }
        held->dir[0] = 0;
    } else {
        facet_fail(&why, FACET_PERMISSION, "it is read-only");
    }
    FACET_TRY(scratch_dir(m->cache, m->query->key, held->dir, err));
    facet_cache_warn(m->cache, "cannot keep results", &why);
    facet_status status = run_build(m, err);
    if (status != FACET_OK) leave_dir(held);
    return status;
}

// Makes the directory entry/ with the payload in it and seals it. Wherever this stops, m->payload
// is where the payload lies.
static facet_status seal(making *m, facet_err *err)
{
    char entry[FACET_CACHE_PATH], inside[FACET_CACHE_PATH];
    FACET_TRY(facet_path_join(entry, sizeof entry, m->held->dir, "entry", err));
    FACET_TRY(facet_path_join(inside, sizeof inside, entry, "payload", err));
    FACET_TRY(facet_dir_make(entry, 0700, err));
    if (rename(m->payload, inside) != 0) return facet_fail_errno(err, errno, inside, "rename to");
    memcpy(m->payload, inside, strlen(inside) + 1);
    return facet_entry_seal(m->cache, entry, m->query, &m->listing, &m->facts, err);
}

typedef enum outcome { PUBLISHED, LOST, FAILED } outcome;

// Under FACET_CACHE_REBUILD the old entry goes, unless another process is using it: that one was
// promised its path, so then our result stays private.
static bool make_way(facet_cache *cache, const facet_cache_held *held)
{
    char old[FACET_CACHE_PATH];
    if (facet_path_join(old, sizeof old, held->dir, "old", NULL) == FACET_OK &&
        facet_cache_take(cache, held->key, old))
        return true;
    facet_report_log(cache->report, FACET_LOG_INFO,
                     "cache: entry %s is in use and was not replaced", held->key);
    return false;
}

// `recipe` is locked before the rename, so that nobody can evict the entry between the two. Whether
// the directory arrived is asked of the directory: the status may tell of a sync that failed later.
static outcome publish(facet_cache *cache, const facet_cache_held *held, int *recipe_fd,
                       facet_err *err)
{
    char from[FACET_CACHE_PATH], to[FACET_CACHE_PATH], recipe[FACET_CACHE_PATH];
    struct stat mine, named;
    if (!cache->writable || facet_path_join(from, sizeof from, held->dir, "entry", err) ||
        facet_path_join(recipe, sizeof recipe, from, "recipe", err) ||
        facet_cache_path(cache, "entries", NULL, to, err) || facet_dir_make(to, 0700, err) ||
        facet_cache_path(cache, "entries", held->key, to, err))
        return FAILED;
    const int fd = open(recipe, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || lstat(from, &mine) != 0) {
        facet_fail_errno(err, errno, recipe, "open");
        if (fd >= 0) close(fd);
        return FAILED;
    }
    flock(fd, LOCK_SH | LOCK_NB);
    facet_status status = FACET_REFUSED;
    if (cache->mode != FACET_CACHE_REBUILD || make_way(cache, held))
        status = facet_dir_publish(from, to, false, err);
    if (lstat(to, &named) == 0 && mine.st_ino == named.st_ino && mine.st_dev == named.st_dev) {
        *recipe_fd = fd;
        return PUBLISHED;
    }
    close(fd);
    return status == FACET_REFUSED ? LOST : FAILED;
}

// The running total decides whether a scan is worth it; it then makes room for more than one.
static void after_publish(facet_cache *cache, const char *entry)
{
    const facet_cache_counts counts = {.compiled = 1};
    const uint64_t total = facet_stats_add(cache, &counts, (int64_t)facet_tree_allocated(entry));
    if (total > cache->limit_bytes)
        facet_cache_shrink(cache, cache->limit_bytes - cache->limit_bytes / 10, NULL, NULL);
}

static facet_status make(making *m, facet_cache_hit *out, facet_err *err)
{
    facet_cache *cache = m->cache;
    facet_err why = {0};
    facet_status status = build_somewhere(m, err);
    if (status != FACET_OK) {
        const facet_cache_counts counts = {.rejected = 1};
        if (status == FACET_CHECK) facet_stats_add(cache, &counts, 0);
        return status;
    }
    status = seal(m, &why);
    m->held->built = true;
    *out = (facet_cache_hit){.bytes = m->facts.bytes, .sum = m->facts.sum};
    memcpy(out->key, m->query->key, sizeof out->key);
    int recipe_fd = -1;
    const outcome result = status == FACET_OK ? publish(cache, m->held, &recipe_fd, &why) : FAILED;
    if (result != PUBLISHED) {
        const facet_cache_counts counts = {.compiled = 1};
        facet_stats_add(cache, &counts, 0);
        if (result == FAILED && cache->writable)
            facet_cache_warn(cache, "cannot keep results", &why);
        memcpy(out->path, m->payload, sizeof out->path);
        return FACET_OK;
    }
    leave_dir(m->held);
    m->held->fd = recipe_fd;
    char entry[FACET_CACHE_PATH];
    FACET_TRY(facet_cache_path(cache, "entries", m->query->key, entry, err));
    FACET_TRY(facet_path_join(out->path, sizeof out->path, entry, "payload", err));
    after_publish(cache, entry);
    return FACET_OK;
}

facet_status facet_cache_make(facet_cache *cache, const facet_cache_query *query,
                              facet_cache_build_fn *build, void *ctx, facet_cache_held *held,
                              facet_cache_hit *out, facet_err *err)
{
    making *m = facet_mem_new(cache->alloc, 1, sizeof *m);
    if (m == NULL) return facet_fail_memory(err, sizeof *m);
    *m = (making){.cache = cache, .query = query, .build = build, .ctx = ctx, .held = held};
    facet_text_init(&m->listing, cache->alloc);
    const facet_status status = make(m, out, err);
    facet_text_fini(&m->listing);
    facet_mem_free(cache->alloc, m);
    return status;
}
