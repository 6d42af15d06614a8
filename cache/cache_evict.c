// SPDX-License-Identifier: Apache-2.0
// What goes: least recently used entries over the cap, doubted entries, and what dead processes
// left. An entry leaves its name by one rename; only then its files are removed.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/cache_internal.h"

#define QUARANTINE_MAX 16

// ---- scan -------------------------------------------------------------------------------------

typedef struct scan {
    const facet_cache *cache;
    facet_cache_scanned *items;
    size_t n, capacity;
    int64_t now_s;
} scan;

static facet_status scan_entry(void *ctx, const char *name, facet_err *err)
{
    scan *s = ctx;
    char path[FACET_CACHE_PATH], sum[FACET_CACHE_PATH];
    struct stat info;
    if (!facet_digest_valid(name)) return FACET_OK;
    if (s->n == s->capacity) {
        const size_t capacity = s->capacity ? 2 * s->capacity : 64;
        void *items = facet_mem_resize(s->cache->alloc, s->items, capacity, sizeof *s->items);
        if (items == NULL) return facet_fail_memory(err, capacity * sizeof *s->items);
        s->items = items;
        s->capacity = capacity;
    }
    facet_cache_scanned *item = &s->items[s->n];
    *item = (facet_cache_scanned){.bytes = 0};
    memcpy(item->key, name, sizeof item->key);
    FACET_TRY(facet_cache_path(s->cache, "entries", name, path, err));
    item->bytes = facet_tree_allocated(path);
    FACET_TRY(facet_path_join(sum, sizeof sum, path, "sum", err));
    if (stat(sum, &info) == 0) {
        item->inode = info.st_ino;
        item->used_s = info.st_mtim.tv_sec;
        item->used_ns = info.st_mtim.tv_nsec;
    }
    s->n++;
    return FACET_OK;
}

static int compare_use(const void *a, const void *b)
{
    const facet_cache_scanned *x = a, *y = b;
    if (x->used_s != y->used_s) return x->used_s < y->used_s ? -1 : 1;
    if (x->used_ns != y->used_ns) return x->used_ns < y->used_ns ? -1 : 1;
    return strcmp(x->key, y->key);
}

facet_status facet_cache_scan(const facet_cache *cache, facet_cache_scanned **items, size_t *n,
                              facet_err *err)
{
    scan s = {.cache = cache};
    char path[FACET_CACHE_PATH];
    FACET_TRY(facet_cache_path(cache, "entries", NULL, path, err));
    facet_status status =
        facet_path_exists(path) ? facet_dir_each(path, scan_entry, &s, err) : FACET_OK;
    if (status != FACET_OK) {
        facet_mem_free(cache->alloc, s.items);
        return status;
    }
    if (s.n > 1) qsort(s.items, s.n, sizeof *s.items, compare_use);
    *items = s.items;
    *n = s.n;
    return FACET_OK;
}

// ---- removal ----------------------------------------------------------------------------------

typedef enum owner { NOBODY, SOMEBODY, NO_RECIPE } owner;

// Takes an entry's exclusive lock if nobody uses it: *fd, and then nobody else can move the entry
// or begin to use it. The name is looked at again under the lock, because another entry may have
// come under it meanwhile. Where locks do not work at all, this says that nobody uses it. A
// directory without `recipe` was damaged: it cannot be locked, and only quarantine moves it.
static owner lock_unused(const char *dir, int *fd)
{
    char path[FACET_CACHE_PATH];
    struct stat mine, named;
    if (facet_path_join(path, sizeof path, dir, "recipe", NULL) != FACET_OK) return SOMEBODY;
    const int recipe = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (recipe < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? NO_RECIPE : SOMEBODY;
    const bool locked = flock(recipe, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    if (!locked || fstat(recipe, &mine) != 0 || stat(path, &named) != 0 ||
        mine.st_ino != named.st_ino) {
        close(recipe);
        return SOMEBODY;
    }
    *fd = recipe;
    return NOBODY;
}

// The same, and not used since the scan either.
static owner claim(facet_cache *cache, const facet_cache_scanned *item, const char *dir, int *fd)
{
    char path[FACET_CACHE_PATH];
    struct stat info;
    if (facet_cache_uses(cache, item->key)) return SOMEBODY;
    const owner who = lock_unused(dir, fd);
    if (who != NOBODY) return who;
    bool same = facet_path_join(path, sizeof path, dir, "sum", NULL) == FACET_OK;
    if (same && stat(path, &info) == 0)
        same = info.st_ino == item->inode && info.st_mtim.tv_sec == item->used_s &&
               info.st_mtim.tv_nsec == item->used_ns;
    if (same) return NOBODY;
    close(*fd);
    return SOMEBODY;
}

// Quarantine for a directory without a recipe; true when the name is free afterwards.
static bool put_away(facet_cache *cache, const char *key, const char *dir)
{
    struct stat info;
    if (lstat(dir, &info) == 0) facet_cache_quarantine(cache, key, info.st_ino);
    return !facet_path_exists(dir);
}

bool facet_cache_take(facet_cache *cache, const char *key, const char *moved)
{
    char dir[FACET_CACHE_PATH];
    int fd;
    if (facet_cache_path(cache, "entries", key, dir, NULL) != FACET_OK) return false;
    const owner who = lock_unused(dir, &fd);
    if (who == NO_RECIPE) return put_away(cache, key, dir);
    if (who == SOMEBODY) return false;
    const facet_cache_counts none = {0};
    const bool taken = rename(dir, moved) == 0;
    if (taken) facet_stats_add(cache, &none, -(int64_t)facet_tree_allocated(moved));
    close(fd);
    return taken;
}

// *gone tells whether the entry was removed; one that is in use stays, and that is no failure.
static facet_status evict(facet_cache *cache, const facet_cache_scanned *item, bool *gone,
                          facet_err *err)
{
    char dir[FACET_CACHE_PATH], parent[FACET_CACHE_PATH], temp[FACET_CACHE_PATH];
    char moved[FACET_CACHE_PATH];
    int fd;
    *gone = false;
    FACET_TRY(facet_cache_path(cache, "entries", item->key, dir, err));
    const owner who = claim(cache, item, dir, &fd);
    if (who == NO_RECIPE) *gone = put_away(cache, item->key, dir);
    if (who != NOBODY) return FACET_OK;
    facet_status status = facet_cache_path(cache, "tmp", NULL, parent, err);
    if (status == FACET_OK) status = facet_dir_make(parent, 0700, err);
    if (status == FACET_OK) status = facet_dir_temp(parent, "evict", temp, sizeof temp, err);
    if (status == FACET_OK) {
        status = facet_path_join(moved, sizeof moved, temp, "entry", err);
        if (status == FACET_OK && rename(dir, moved) == 0)
            *gone = true;
        else if (status == FACET_OK && errno != ENOENT)
            status = facet_fail_errno(err, errno, dir, "move");
        const facet_status removed = facet_dir_remove(temp, status == FACET_OK ? err : NULL);
        if (status == FACET_OK) status = removed;
    }
    close(fd);
    return status;
}

facet_status facet_cache_shrink(facet_cache *cache, uint64_t limit_bytes, uint64_t *removed,
                                facet_err *err)
{
    facet_cache_scanned *items = NULL;
    size_t n = 0;
    uint64_t total = 0;
    FACET_TRY(facet_cache_scan(cache, &items, &n, err));
    for (size_t i = 0; i < n; i++)
        total += items[i].bytes;
    facet_status status = FACET_OK;
    facet_cache_counts counts = {0};
    for (size_t i = 0; i < n && total > limit_bytes && status == FACET_OK; i++) {
        bool gone = false;
        status = evict(cache, &items[i], &gone, err);
        if (!gone) continue;
        total -= items[i].bytes;
        counts.evicted++;
    }
    facet_mem_free(cache->alloc, items);
    if (counts.evicted > 0) facet_stats_add(cache, &counts, 0);
    facet_stats_set_bytes(cache, total);
    if (removed != NULL) *removed = counts.evicted;
    return status;
}

// ---- quarantine -------------------------------------------------------------------------------

static facet_status count_name(void *ctx, const char *name, facet_err *err)
{
    (void)name, (void)err;
    ++*(size_t *)ctx;
    return FACET_OK;
}

// What was doubted is kept for a person to look at, but not without end.
static void bound_quarantine(const char *parent)
{
    size_t n = 0;
    if (facet_dir_each(parent, count_name, &n, NULL) == FACET_OK && n >= QUARANTINE_MAX)
        facet_dir_remove(parent, NULL);
}

// Moves entries/KEY into a new directory of the quarantine. True: counted, *moved is where it is.
static bool move_away(facet_cache *cache, const char *key, const char *dir, ino_t inode,
                      char *moved)
{
    char parent[FACET_CACHE_PATH], temp[FACET_CACHE_PATH];
    struct stat info;
    if (facet_cache_path(cache, "quarantine", NULL, parent, NULL) != FACET_OK) return false;
    bound_quarantine(parent);
    if (facet_dir_make(parent, 0700, NULL) != FACET_OK ||
        facet_dir_temp(parent, key, temp, sizeof temp, NULL) != FACET_OK)
        return false;
    if (facet_path_join(moved, FACET_CACHE_PATH, temp, "entry", NULL) != FACET_OK ||
        rename(dir, moved) != 0) {
        rmdir(temp);
        return false;
    }
    if (lstat(moved, &info) != 0 || info.st_ino == inode) return true;
    // A good entry came in between: back with it, unless there is one again.
    if (facet_dir_publish(moved, dir, false, NULL) != FACET_OK) facet_dir_remove(moved, NULL);
    rmdir(temp);
    return false;
}

// An entry that somebody uses stays: it was good when they looked, and its path was promised.
void facet_cache_quarantine(facet_cache *cache, const char *key, ino_t inode)
{
    char dir[FACET_CACHE_PATH], moved[FACET_CACHE_PATH];
    struct stat info;
    int fd = -1;
    if (!cache->writable || cache->mode == FACET_CACHE_STRICT ||
        facet_cache_path(cache, "entries", key, dir, NULL) != FACET_OK ||
        lock_unused(dir, &fd) == SOMEBODY)
        return;
    // Somebody may have rebuilt the entry since it was doubted.
    const bool same = lstat(dir, &info) == 0 && info.st_ino == inode;
    if (same && move_away(cache, key, dir, inode, moved)) {
        const facet_cache_counts counts = {.quarantined = 1};
        facet_stats_add(cache, &counts, -(int64_t)facet_tree_allocated(moved));
        facet_report_log(cache->report, FACET_LOG_INFO,
                         "cache: entry %s was damaged; it is now %s and is built again", key,
                         moved);
    }
    if (fd >= 0) close(fd);
}

// ---- sweep ------------------------------------------------------------------------------------

typedef struct sweep {
    const facet_cache *cache;
    const char *dir;
} sweep;

// Old by the file's own clock, or stamped in the future by a clock that has gone back since; and
// not locked by whoever works in it.
static facet_status sweep_one(void *ctx, const char *name, facet_err *err)
{
    const sweep *s = ctx;
    char path[FACET_CACHE_PATH];
    struct stat info;
    (void)err;
    if (facet_cache_path(s->cache, s->dir, name, path, NULL) != FACET_OK) return FACET_OK;
    if (lstat(path, &info) != 0) return FACET_OK;
    const int64_t age = (int64_t)time(NULL) - (int64_t)info.st_mtim.tv_sec;
    if (age < FACET_CACHE_STALE_S && age > -FACET_CACHE_STALE_S) return FACET_OK;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0) return FACET_OK;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) facet_dir_remove(path, NULL);
    close(fd);
    return FACET_OK;
}

void facet_cache_sweep(facet_cache *cache)
{
    static const char *const dirs[] = {"tmp", "locks"};
    for (size_t i = 0; i < FACET_COUNT_OF(dirs); i++) {
        char path[FACET_CACHE_PATH];
        sweep s = {cache, dirs[i]};
        if (facet_cache_path(cache, dirs[i], NULL, path, NULL) == FACET_OK)
            facet_dir_each(path, sweep_one, &s, NULL);
    }
}
