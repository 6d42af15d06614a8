// SPDX-License-Identifier: Apache-2.0
// The cache: opening, closing, and what a request goes through.
#include "cache/cache.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/cache_internal.h"

#define DEFAULT_LIMIT   (UINT64_C(10) << 30)
#define DEFAULT_LOCK_MS (10u * 60u * 1000u)

facet_status facet_cache_path(const facet_cache *cache, const char *dir, const char *name,
                              char out[FACET_CACHE_PATH], facet_err *err)
{
    char parent[FACET_CACHE_PATH];
    if (name == NULL) return facet_path_join(out, FACET_CACHE_PATH, cache->root, dir, err);
    FACET_TRY(facet_path_join(parent, sizeof parent, cache->root, dir, err));
    return facet_path_join(out, FACET_CACHE_PATH, parent, name, err);
}

void facet_cache_warn(facet_cache *cache, const char *what, const facet_err *why)
{
    pthread_mutex_lock(&cache->mutex);
    const bool first = !cache->warned;
    cache->warned = true;
    pthread_mutex_unlock(&cache->mutex);
    if (first)
        facet_report_log(cache->report, FACET_LOG_WARN, "cache %s: %s: %s", cache->root, what,
                         why->message);
}

facet_status facet_cache_open(const facet_cache_opts *opts, facet_cache **out, facet_err *err)
{
    facet_cache *cache = facet_mem_new(opts->alloc, 1, sizeof *cache);
    if (cache == NULL) return facet_fail_memory(err, sizeof *cache);
    const char *temp_parent = opts->temp_parent != NULL ? opts->temp_parent : "/tmp";
    cache->alloc = opts->alloc;
    cache->report = opts->report;
    cache->mode = opts->mode;
    cache->limit_bytes = opts->limit_bytes > 0 ? opts->limit_bytes : DEFAULT_LIMIT;
    cache->lock_timeout_ms = opts->lock_timeout_ms > 0 ? opts->lock_timeout_ms : DEFAULT_LOCK_MS;
    pthread_mutex_init(&cache->mutex, NULL);
    facet_status status = FACET_OK;
    if (strlen(temp_parent) + 2 * FACET_CACHE_ROOM > sizeof cache->temp_parent)
        status = facet_fail(err, FACET_IO, "cache: the temporary directory's path is too long");
    else
        memcpy(cache->temp_parent, temp_parent, strlen(temp_parent) + 1);
    if (status == FACET_OK) status = facet_cache_settle(cache, opts, err);
    if (status != FACET_OK) {
        facet_cache_close(cache);
        return status;
    }
    if (cache->writable && cache->mode != FACET_CACHE_STRICT) facet_cache_sweep(cache);
    *out = cache;
    return FACET_OK;
}

static bool is_private(const facet_cache_held *held)
{
    return held->dir != NULL && held->dir[0] != 0;
}

static facet_cache_held *new_held(const facet_cache *cache, const char *key)
{
    facet_cache_held *held = facet_mem_new(cache->alloc, 1, sizeof *held);
    if (held == NULL) return NULL;
    held->fd = -1;
    memcpy(held->key, key, sizeof held->key);
    held->dir = facet_mem_new(cache->alloc, FACET_CACHE_PATH, 1);
    if (held->dir != NULL) return held;
    facet_mem_free(cache->alloc, held);
    return NULL;
}

static void free_held(facet_cache *cache, facet_cache_held *held)
{
    if (held->fd >= 0) close(held->fd);
    if (is_private(held)) facet_dir_remove(held->dir, NULL);
    facet_mem_free(cache->alloc, held->dir);
    facet_mem_free(cache->alloc, held);
}

void facet_cache_close(facet_cache *cache)
{
    if (cache == NULL) return;
    while (cache->held != NULL) {
        facet_cache_held *held = cache->held;
        cache->held = held->next;
        free_held(cache, held);
    }
    if (cache->scratch[0] != 0) facet_dir_remove(cache->scratch, NULL);
    if (cache->private_root) facet_dir_remove(cache->root, NULL);
    pthread_mutex_destroy(&cache->mutex);
    facet_mem_free(cache->alloc, cache);
}

const char *facet_cache_root(const facet_cache *cache)
{
    return cache->root;
}

// ---- what is in use ---------------------------------------------------------------------------

static facet_cache_held *find_held(const facet_cache *cache, const char *key,
                                   const facet_cache_held *after)
{
    facet_cache_held *held = after != NULL ? after->next : cache->held;
    while (held != NULL && strcmp(held->key, key) != 0)
        held = held->next;
    return held;
}

bool facet_cache_uses(facet_cache *cache, const char *key)
{
    pthread_mutex_lock(&cache->mutex);
    const bool uses = find_held(cache, key, NULL) != NULL;
    pthread_mutex_unlock(&cache->mutex);
    return uses;
}

// Did this facet_cache build the key already? Then `rebuild` is done with it.
static bool built_before(facet_cache *cache, const char *key)
{
    bool built = false;
    pthread_mutex_lock(&cache->mutex);
    for (facet_cache_held *held = find_held(cache, key, NULL); held != NULL && !built;
         held = find_held(cache, key, held))
        built = held->built;
    pthread_mutex_unlock(&cache->mutex);
    return built;
}

// Keeps what a request ended with until close. A second hit of an entry needs no second lock.
static void keep(facet_cache *cache, facet_cache_held *held)
{
    bool known = false;
    pthread_mutex_lock(&cache->mutex);
    for (facet_cache_held *other = find_held(cache, held->key, NULL); other != NULL && !known;
         other = find_held(cache, held->key, other))
        known = !is_private(other);
    known = known && !is_private(held) && !held->built;
    if (!known) {
        if (!is_private(held)) {
            facet_mem_free(cache->alloc, held->dir);
            held->dir = NULL;
            if (cache->n_fds >= FACET_CACHE_MAX_FDS && held->fd >= 0) {
                close(held->fd);
                held->fd = -1;
            }
        }
        cache->n_fds += held->fd >= 0;
        held->next = cache->held;
        cache->held = held;
    }
    pthread_mutex_unlock(&cache->mutex);
    if (known) free_held(cache, held);
}

// ---- find -------------------------------------------------------------------------------------

static facet_status fill_hit(const facet_cache_query *query, const char *dir,
                             const facet_cache_facts *facts, facet_cache_hit *out, facet_err *err)
{
    *out = (facet_cache_hit){.bytes = facts->bytes, .sum = facts->sum, .hit = true};
    memcpy(out->key, query->key, sizeof out->key);
    return facet_path_join(out->path, sizeof out->path, dir, "payload", err);
}

// The n-th private directory of a key, "" when there are fewer.
static void private_dir(facet_cache *cache, const char *key, unsigned n, char *dir)
{
    dir[0] = 0;
    pthread_mutex_lock(&cache->mutex);
    for (facet_cache_held *held = find_held(cache, key, NULL); held != NULL;
         held = find_held(cache, key, held))
        if (is_private(held) && n-- == 0) {
            memcpy(dir, held->dir, strlen(held->dir) + 1);
            break;
        }
    pthread_mutex_unlock(&cache->mutex);
}

// What this facet_cache built and could not publish.
static facet_status find_private(facet_cache *cache, const facet_cache_query *query,
                                 facet_cache_hit *out, bool *found, facet_err *err)
{
    for (unsigned n = 0; !*found; n++) {
        char dir[FACET_CACHE_PATH], entry[FACET_CACHE_PATH];
        facet_cache_facts facts;
        private_dir(cache, query->key, n, dir);
        if (dir[0] == 0) return FACET_OK;
        FACET_TRY(facet_path_join(entry, sizeof entry, dir, "entry", err));
        FACET_TRY(facet_entry_inspect(cache, entry, query, &facts, err));
        if (facts.state != FACET_STATE_GOOD) continue;
        close(facts.fd);
        FACET_TRY(fill_hit(query, entry, &facts, out, err));
        *found = true;
    }
    return FACET_OK;
}

// Notes the use of an entry. Access times would not do: most mounts do not keep them.
static void stamp(const facet_cache *cache, const char *dir)
{
    char path[FACET_CACHE_PATH];
    if (cache->mode != FACET_CACHE_STRICT && cache->writable &&
        facet_path_join(path, sizeof path, dir, "sum", NULL) == FACET_OK)
        utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW);
}

static facet_status find(facet_cache *cache, const facet_cache_query *query, facet_cache_held *held,
                         facet_cache_hit *out, bool *found, facet_err *err)
{
    char dir[FACET_CACHE_PATH];
    facet_cache_facts facts;
    if (cache->mode == FACET_CACHE_REBUILD && !built_before(cache, query->key)) return FACET_OK;
    FACET_TRY(facet_cache_path(cache, "entries", query->key, dir, err));
    FACET_TRY(facet_entry_inspect(cache, dir, query, &facts, err));
    if (facts.state == FACET_STATE_GOOD) {
        held->fd = facts.fd;
        FACET_TRY(fill_hit(query, dir, &facts, out, err));
        stamp(cache, dir);
        *found = true;
    } else {
        if (facts.state == FACET_STATE_BAD) facet_cache_quarantine(cache, query->key, facts.inode);
        FACET_TRY(find_private(cache, query, out, found, err));
    }
    if (*found) {
        const facet_cache_counts counts = {.hits = 1};
        facet_stats_add(cache, &counts, 0);
    }
    return FACET_OK;
}

// ---- miss -------------------------------------------------------------------------------------

static facet_status miss(facet_cache *cache, const facet_cache_query *query,
                         facet_cache_build_fn *build, void *ctx, facet_cache_held *held,
                         facet_cache_hit *out, facet_err *err)
{
    const facet_cache_counts counts = {.misses = 1};
    int lock = -1;
    bool found = false;
    if (cache->mode == FACET_CACHE_STRICT) {
        facet_stats_add(cache, &counts, 0);
        return facet_fail(err, FACET_REFUSED,
                          "cache %s: key %s is not in it; run once without --mode strict",
                          cache->root, query->key);
    }
    if (build == NULL) {
        facet_stats_add(cache, &counts, 0);
        return facet_fail(err, FACET_NOT_FOUND, "cache %s: key %s is not in it; build it",
                          cache->root, query->key);
    }
    FACET_TRY(facet_lock_key(cache, query->key, &lock, err));
    facet_status status = find(cache, query, held, out, &found, err);
    if (status == FACET_OK && !found) {
        facet_stats_add(cache, &counts, 0);
        status = facet_cache_make(cache, query, build, ctx, held, out, err);
    }
    facet_lock_drop(cache, query->key, lock);
    return status;
}

static facet_status get(facet_cache *cache, const char *recipe, bool tree,
                        facet_cache_build_fn *build, void *ctx, facet_cache_hit *out,
                        facet_err *err)
{
    const size_t length = strlen(recipe);
    if (length == 0 || length > FACET_CACHE_RECIPE_MAX)
        return facet_fail(err, FACET_BAD_INPUT, "cache: a recipe is empty or too long");
    const facet_digest key = facet_hash(recipe, length);
    const facet_cache_query query = {recipe, key.hex, tree, false};
    facet_cache_held *held = new_held(cache, key.hex);
    if (held == NULL) return facet_fail_memory(err, sizeof *held + FACET_CACHE_PATH);
    facet_cache_hit result;
    bool found = false;
    facet_status status = find(cache, &query, held, &result, &found, err);
    if (status == FACET_OK && !found) status = miss(cache, &query, build, ctx, held, &result, err);
    if (status != FACET_OK) {
        free_held(cache, held);
        return status;
    }
    *out = result;
    keep(cache, held);
    return FACET_OK;
}

facet_status facet_cache_get(facet_cache *cache, const char *recipe, facet_cache_build_fn *build,
                             void *ctx, facet_cache_hit *out, facet_err *err)
{
    return get(cache, recipe, false, build, ctx, out, err);
}

facet_status facet_cache_get_dir(facet_cache *cache, const char *recipe,
                                 facet_cache_build_fn *build, void *ctx, facet_cache_hit *out,
                                 facet_err *err)
{
    return get(cache, recipe, true, build, ctx, out, err);
}
