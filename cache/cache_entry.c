// SPDX-License-Identifier: Apache-2.0
// One entry: is it what it says, and writing a new one. An entry counts only if its recipe is the
// one asked for and its payload has the size and checksum of `sum`.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/cache_internal.h"

#define SUM_MAX (64u << 20)

facet_status facet_entry_hash(const facet_alloc *alloc, const char *path, uint64_t *bytes,
                              facet_digest *sum, facet_err *err)
{
    char buffer[65536];
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0) return facet_fail_errno(err, errno, path, "open");
    facet_hasher *hasher = facet_hasher_new(alloc);
    facet_status status = FACET_OK;
    uint64_t total = 0;
    if (hasher == NULL)
        status = facet_fail_memory(err, sizeof buffer);
    else if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        status =
            facet_fail_at(err, FACET_BAD_FILE, path, -1, "%s: not a regular file; remove it", path);
    while (status == FACET_OK) {
        const ssize_t n = read(fd, buffer, sizeof buffer);
        if (n == 0) break;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            status = facet_fail_errno(err, errno, path, "read");
            break;
        }
        facet_hasher_add(hasher, buffer, (size_t)n);
        total += (uint64_t)n;
    }
    close(fd);
    if (hasher != NULL) {
        const facet_digest digest = facet_hasher_end(hasher);
        if (status == FACET_OK) {
            *sum = digest;
            *bytes = total;
        }
    }
    return status;
}

facet_status facet_entry_measure(const facet_cache *cache, const char *path, bool tree,
                                 facet_text *listing, facet_cache_facts *facts, facet_err *err)
{
    if (tree) {
        FACET_TRY(facet_tree_list(cache->alloc, path, listing, &facts->bytes, err));
        facts->sum = facet_hash(facet_text_str(listing), listing->length);
    } else {
        FACET_TRY(facet_entry_hash(cache->alloc, path, &facts->bytes, &facts->sum, err));
    }
    if (facts->bytes == 0)
        return facet_fail_at(err, FACET_FAILED, path, -1, "%s: the builder left it empty", path);
    return FACET_OK;
}

// A failed read of a part says: nothing can be said (UNREADABLE), or the entry is bad. Memory is
// the one thing that is not the entry's fault and must be reported.
static facet_status judge(facet_status status, facet_cache_state *state)
{
    switch (status) {
    case FACET_OK:
        return FACET_OK;
    case FACET_NO_MEMORY:
        return status;
    case FACET_NOT_FOUND:
    case FACET_BAD_FILE:
    case FACET_BAD_INPUT:
        *state = FACET_STATE_BAD;
        return FACET_OK;
    default:
        *state = FACET_STATE_UNREADABLE;
        return FACET_OK;
    }
}

// "XXH3-128 bytes\n" or "XXH3-128 bytes tree\n" and the listing, which *listing then points at.
static bool parse_sum(char *text, size_t length, bool tree, facet_digest *sum, uint64_t *bytes,
                      const char **listing)
{
    char *end = memchr(text, '\n', length);
    if (end == NULL || strlen(text) != length || end - text < FACET_DIGEST_HEX) return false;
    *end = 0;
    *listing = end + 1;
    if (text[FACET_DIGEST_HEX - 1] != ' ') return false;
    memcpy(sum->hex, text, FACET_DIGEST_HEX - 1);
    sum->hex[FACET_DIGEST_HEX - 1] = 0;
    char *number = text + FACET_DIGEST_HEX, *kind = strchr(number, ' ');
    if ((kind != NULL) != tree || (tree && strcmp(kind, " tree") != 0)) return false;
    if (kind != NULL) *kind = 0;
    if (!tree && **listing != 0) return false;
    return facet_digest_valid(sum->hex) && facet_parse_u64(number, bytes);
}

static facet_status check_payload(const facet_cache *cache, const char *path, bool full,
                                  const char *listing, facet_cache_facts *facts, facet_err *err)
{
    uint64_t bytes = 0;
    facet_digest sum;
    if (*listing != 0) {
        sum = facet_hash(listing, strlen(listing));
        if (strcmp(sum.hex, facts->sum.hex) != 0) {
            facts->state = FACET_STATE_BAD;
            return FACET_OK;
        }
        FACET_TRY(facet_tree_check(cache->alloc, path, listing, full, &bytes, &facts->state, err));
    } else {
        FACET_TRY(facet_entry_hash(cache->alloc, path, &bytes, &sum, err));
        facts->state = strcmp(sum.hex, facts->sum.hex) == 0 ? FACET_STATE_GOOD : FACET_STATE_BAD;
    }
    if (bytes != facts->bytes || bytes == 0) facts->state = FACET_STATE_BAD;
    return FACET_OK;
}

static facet_status check_recipe(const facet_cache *cache, const char *path,
                                 const facet_cache_query *query, facet_cache_facts *facts,
                                 facet_err *err)
{
    char *text;
    size_t bytes, max = query->recipe ? strlen(query->recipe) : FACET_CACHE_RECIPE_MAX;
    FACET_TRY(facet_file_read(path, max, cache->alloc, &text, &bytes, err));
    const facet_digest key = facet_hash(text, bytes);
    const bool same =
        strcmp(key.hex, query->key) == 0 &&
        (query->recipe == NULL || (bytes == max && memcmp(text, query->recipe, bytes) == 0));
    facet_mem_free(cache->alloc, text);
    if (!same) facts->state = FACET_STATE_BAD;
    return FACET_OK;
}

// With `recipe` open and locked: all parts. state is GOOD on entry.
static facet_status check_parts(const facet_cache *cache, const char *dir,
                                const facet_cache_query *query, facet_cache_facts *facts,
                                facet_err *err)
{
    char path[FACET_CACHE_PATH], *text = NULL;
    const char *listing = "";
    size_t length;
    FACET_TRY(facet_path_join(path, sizeof path, dir, "recipe", err));
    FACET_TRY(check_recipe(cache, path, query, facts, err));
    if (facts->state != FACET_STATE_GOOD) return FACET_OK;
    FACET_TRY(facet_path_join(path, sizeof path, dir, "sum", err));
    FACET_TRY(facet_file_read(path, SUM_MAX, cache->alloc, &text, &length, err));
    facet_status status = facet_path_join(path, sizeof path, dir, "payload", err);
    if (status == FACET_OK &&
        parse_sum(text, length, query->tree, &facts->sum, &facts->bytes, &listing))
        status = check_payload(cache, path, query->full, listing, facts, err);
    else
        facts->state = FACET_STATE_BAD;
    facet_mem_free(cache->alloc, text);
    return status;
}

// Opens dir/recipe and takes its shared lock. Whoever removes an entry holds the exclusive one, so
// a refused lock, like another file under the name, means that the entry is on its way out.
static facet_cache_state open_recipe(const char *dir, const char *path, int *out)
{
    struct stat mine, named;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        const int error = errno;
        if (error != ENOENT && error != ENOTDIR) return FACET_STATE_UNREADABLE;
        return facet_path_exists(dir) ? FACET_STATE_BAD : FACET_STATE_ABSENT;
    }
    const bool locked = flock(fd, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    if (!locked || fstat(fd, &mine) != 0 || stat(path, &named) != 0 ||
        mine.st_ino != named.st_ino) {
        close(fd);
        return FACET_STATE_ABSENT;
    }
    *out = fd;
    return FACET_STATE_GOOD;
}

facet_status facet_entry_inspect(const facet_cache *cache, const char *dir,
                                 const facet_cache_query *query, facet_cache_facts *facts,
                                 facet_err *err)
{
    char path[FACET_CACHE_PATH];
    struct stat info;
    *facts = (facet_cache_facts){.state = FACET_STATE_ABSENT, .fd = -1};
    FACET_TRY(facet_path_join(path, sizeof path, dir, "recipe", err));
    if (lstat(dir, &info) != 0) return FACET_OK;
    facts->inode = info.st_ino;
    facts->state = open_recipe(dir, path, &facts->fd);
    if (facts->state != FACET_STATE_GOOD) return FACET_OK;
    facet_status status = judge(check_parts(cache, dir, query, facts, err), &facts->state);
    if (facts->state != FACET_STATE_GOOD || status != FACET_OK) {
        close(facts->fd);
        facts->fd = -1;
    }
    return status;
}

// Not facet_file_write: nobody sees this directory yet, and all of it is synced at once.
static facet_status write_plain(const char *dir, const char *name, const char *text, size_t bytes,
                                facet_err *err)
{
    char path[FACET_CACHE_PATH];
    FACET_TRY(facet_path_join(path, sizeof path, dir, name, err));
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return facet_fail_errno(err, errno, path, "create");
    facet_status status = FACET_OK;
    for (size_t done = 0; done < bytes && status == FACET_OK;) {
        const ssize_t n = write(fd, text + done, bytes - done);
        if (n < 0 && errno != EINTR) status = facet_fail_errno(err, errno, path, "write");
        if (n > 0) done += (size_t)n;
    }
    if (close(fd) != 0 && status == FACET_OK) status = facet_fail_errno(err, errno, path, "close");
    return status;
}

facet_status facet_entry_seal(const facet_cache *cache, const char *dir,
                              const facet_cache_query *query, const facet_text *listing,
                              const facet_cache_facts *facts, facet_err *err)
{
    facet_text sum;
    facet_text_init(&sum, cache->alloc);
    facet_text_add(&sum, "%s %" PRIu64 "%s\n", facts->sum.hex, facts->bytes,
                   query->tree ? " tree" : "");
    facet_text_put(&sum, facet_text_str(listing), listing->length);
    facet_status status = facet_text_status(&sum, err);
    if (status == FACET_OK)
        status = write_plain(dir, "recipe", query->recipe, strlen(query->recipe), err);
    if (status == FACET_OK) status = write_plain(dir, "sum", sum.data, sum.length, err);
    if (status == FACET_OK) status = facet_dir_sync(dir, err);
    facet_text_fini(&sum);
    return status;
}
