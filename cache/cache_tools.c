// SPDX-License-Identifier: Apache-2.0
// Maintenance for people: stats, list, verify, trim, clear, explain.
#include <string.h>
#include <unistd.h>

#include "cache/cache_internal.h"

facet_status facet_cache_get_stats(facet_cache *cache, facet_cache_stats *stats, facet_err *err)
{
    facet_cache_scanned *items = NULL;
    size_t n = 0;
    facet_cache_counts counts;
    facet_cache_stats result = {.limit_bytes = cache->limit_bytes};
    FACET_TRY(facet_cache_scan(cache, &items, &n, err));
    for (size_t i = 0; i < n; i++)
        result.bytes += items[i].bytes;
    result.entries = n;
    facet_mem_free(cache->alloc, items);
    facet_stats_set_bytes(cache, result.bytes);
    facet_stats_read(cache, &counts);
    result.hits = counts.hits;
    result.misses = counts.misses;
    result.compiled = counts.compiled;
    result.rejected = counts.rejected;
    result.quarantined = counts.quarantined;
    result.evicted = counts.evicted;
    pthread_mutex_lock(&cache->mutex);
    result.run_hits = cache->run.hits;
    result.run_misses = cache->run.misses;
    result.run_compiled = cache->run.compiled;
    result.run_rejected = cache->run.rejected;
    pthread_mutex_unlock(&cache->mutex);
    *stats = result;
    return FACET_OK;
}

// Is the payload of an entry a directory?
static bool is_tree(const char *dir)
{
    char path[FACET_CACHE_PATH];
    return facet_path_join(path, sizeof path, dir, "payload", NULL) == FACET_OK &&
           facet_path_is_dir(path);
}

facet_status facet_cache_verify(facet_cache *cache, uint64_t *good, uint64_t *bad, facet_err *err)
{
    facet_cache_scanned *items = NULL;
    size_t n = 0;
    uint64_t n_good = 0, n_bad = 0;
    FACET_TRY(facet_cache_scan(cache, &items, &n, err));
    facet_status status = FACET_OK;
    for (size_t i = 0; i < n && status == FACET_OK; i++) {
        char dir[FACET_CACHE_PATH];
        facet_cache_facts facts;
        FACET_TRY_GOTO(facet_cache_path(cache, "entries", items[i].key, dir, err), done);
        const facet_cache_query query = {NULL, items[i].key, is_tree(dir), true};
        FACET_TRY_GOTO(facet_entry_inspect(cache, dir, &query, &facts, err), done);
        if (facts.fd >= 0) close(facts.fd);
        if (facts.state == FACET_STATE_GOOD) n_good++;
        if (facts.state == FACET_STATE_BAD || facts.state == FACET_STATE_UNREADABLE) n_bad++;
        if (facts.state == FACET_STATE_BAD)
            facet_cache_quarantine(cache, items[i].key, facts.inode);
        FACET_TRY_GOTO(facet_report_progress(cache->report, "verify", i + 1, n, err), done);
    }
    *good = n_good;
    *bad = n_bad;
done:
    facet_mem_free(cache->alloc, items);
    return status;
}

static facet_status refuse_strict(const facet_cache *cache, facet_err *err)
{
    if (cache->mode != FACET_CACHE_STRICT) return FACET_OK;
    return facet_fail(err, FACET_REFUSED,
                      "cache %s: nothing is removed under --mode strict; leave the option away",
                      cache->root);
}

facet_status facet_cache_trim(facet_cache *cache, uint64_t limit_bytes, uint64_t *removed,
                              facet_err *err)
{
    FACET_TRY(refuse_strict(cache, err));
    return facet_cache_shrink(cache, limit_bytes, removed, err);
}

facet_status facet_cache_clear(facet_cache *cache, facet_err *err)
{
    char path[FACET_CACHE_PATH];
    FACET_TRY(refuse_strict(cache, err));
    FACET_TRY(facet_cache_shrink(cache, 0, NULL, err));
    FACET_TRY(facet_cache_path(cache, "quarantine", NULL, path, err));
    FACET_TRY(facet_dir_remove(path, err));
    facet_stats_reset(cache);
    return FACET_OK;
}

static facet_status read_recipe(const facet_cache *cache, const char *key, char **text,
                                size_t *bytes, facet_err *err)
{
    char dir[FACET_CACHE_PATH], path[FACET_CACHE_PATH];
    if (!facet_digest_valid(key))
        return facet_fail(err, FACET_BAD_INPUT, "cache: %s is no key; see facet cache list", key);
    FACET_TRY(facet_cache_path(cache, "entries", key, dir, err));
    if (!facet_path_exists(dir))
        return facet_fail(err, FACET_NOT_FOUND,
                          "cache %s: key %s is not in it; see facet cache list", cache->root, key);
    FACET_TRY(facet_path_join(path, sizeof path, dir, "recipe", err));
    return facet_file_read(path, FACET_CACHE_RECIPE_MAX, cache->alloc, text, bytes, err);
}

// The first line of the recipe, "" when it cannot be read.
static void read_title(const facet_cache *cache, facet_cache_item *item)
{
    char *text;
    size_t bytes;
    if (read_recipe(cache, item->key, &text, &bytes, NULL) != FACET_OK) return;
    size_t n = strcspn(text, "\n");
    if (n >= sizeof item->title) n = sizeof item->title - 1;
    for (size_t i = 0; i < n; i++)
        item->title[i] = (unsigned char)text[i] < 0x20 ? ' ' : text[i];
    facet_mem_free(cache->alloc, text);
}

facet_status facet_cache_list(facet_cache *cache, facet_cache_item **items, size_t *n,
                              facet_err *err)
{
    facet_cache_scanned *scanned = NULL;
    size_t count = 0;
    FACET_TRY(facet_cache_scan(cache, &scanned, &count, err));
    facet_cache_item *result = facet_mem_new(cache->alloc, count, sizeof *result);
    for (size_t i = 0; result != NULL && i < count; i++) {
        const facet_cache_scanned *from = &scanned[count - 1 - i];
        memcpy(result[i].key, from->key, sizeof result[i].key);
        result[i].bytes = from->bytes;
        result[i].used = from->used_s;
        read_title(cache, &result[i]);
    }
    facet_mem_free(cache->alloc, scanned);
    if (result == NULL) return facet_fail_memory(err, count * sizeof *result);
    *items = result;
    *n = count;
    return FACET_OK;
}

// ---- explain ----------------------------------------------------------------------------------

#define LOOK_AHEAD 512 // lines

typedef struct lines {
    char *text;
    char **line;
    size_t n;
} lines;

static facet_status load_lines(const facet_cache *cache, const char *key, lines *out,
                               facet_err *err)
{
    size_t bytes;
    FACET_TRY(read_recipe(cache, key, &out->text, &bytes, err));
    size_t n = 1;
    for (size_t i = 0; i < bytes; i++)
        n += out->text[i] == '\n';
    out->line = facet_mem_new(cache->alloc, n, sizeof *out->line);
    if (out->line == NULL) return facet_fail_memory(err, n * sizeof *out->line);
    char *at = out->text, *const end = at + bytes;
    while (at < end) {
        char *stop = memchr(at, '\n', (size_t)(end - at)); // a damaged recipe may hold zero bytes
        out->line[out->n++] = at;
        if (stop == NULL) break;
        *stop = 0;
        at = stop + 1;
    }
    return FACET_OK;
}

static void free_lines(const facet_cache *cache, lines *l)
{
    facet_mem_free(cache->alloc, l->text);
    facet_mem_free(cache->alloc, l->line);
}

// From (i, j): how many lines of a and of b come before the next pair that agrees. Recipes are a
// few dozen lines in a fixed order, so the nearest pair is as good as a longest common subsequence.
static void next_common(const lines *a, size_t i, const lines *b, size_t j, size_t *skip_a,
                        size_t *skip_b)
{
    const size_t left_a = a->n - i, left_b = b->n - j;
    for (size_t sum = 0; sum < left_a + left_b && sum < LOOK_AHEAD; sum++) {
        for (size_t x = 0; x <= sum; x++) {
            if (x >= left_a || sum - x >= left_b) continue;
            if (strcmp(a->line[i + x], b->line[j + sum - x]) != 0) continue;
            *skip_a = x;
            *skip_b = sum - x;
            return;
        }
    }
    *skip_a = left_a;
    *skip_b = left_b;
}

static void print_difference(const lines *a, const lines *b, facet_text *out)
{
    size_t i = 0, j = 0, skip_a, skip_b;
    while (i < a->n || j < b->n) {
        next_common(a, i, b, j, &skip_a, &skip_b);
        for (; skip_a > 0; skip_a--)
            facet_text_add(out, "- %s\n", a->line[i++]);
        for (; skip_b > 0; skip_b--)
            facet_text_add(out, "+ %s\n", b->line[j++]);
        if (i < a->n && j < b->n) i++, j++;
    }
}

facet_status facet_cache_explain(facet_cache *cache, const char *key_a, const char *key_b,
                                 facet_text *out, facet_err *err)
{
    lines a = {0}, b = {0};
    facet_status status = load_lines(cache, key_a, &a, err);
    if (status == FACET_OK) status = load_lines(cache, key_b, &b, err);
    if (status == FACET_OK) {
        print_difference(&a, &b, out);
        status = facet_text_status(out, err);
    }
    free_lines(cache, &a);
    free_lines(cache, &b);
    return status;
}
