// SPDX-License-Identifier: Apache-2.0
// ROOT/stats: counters of all processes. Text, a line "name value" each, then "sum XXH3-128" over
// what stands before. A file that is damaged (or was torn by a dying process) starts again at zero:
// counts are for people, and the total of bytes is put right by the next scan.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "cache/cache_internal.h"

#define STATS_MAX 1024
#define LOCK_MS   2000

static const struct {
    const char *name;
    size_t at;
} counters[] = {
    {"hits", offsetof(facet_cache_counts, hits)},
    {"misses", offsetof(facet_cache_counts, misses)},
    {"compiled", offsetof(facet_cache_counts, compiled)},
    {"rejected", offsetof(facet_cache_counts, rejected)},
    {"quarantined", offsetof(facet_cache_counts, quarantined)},
    {"evicted", offsetof(facet_cache_counts, evicted)},
    {"bytes", offsetof(facet_cache_counts, bytes)},
};

static uint64_t load(const facet_cache_counts *counts, size_t i)
{
    uint64_t value;
    memcpy(&value, (const char *)counts + counters[i].at, sizeof value);
    return value;
}

static void store(facet_cache_counts *counts, size_t i, uint64_t value)
{
    memcpy((char *)counts + counters[i].at, &value, sizeof value);
}

// Cuts the next line off *text; NULL at the end.
static char *next_line(char **text)
{
    char *line = *text, *end = strchr(line, '\n');
    if (end == NULL) return NULL;
    *end = 0;
    *text = end + 1;
    return line;
}

static bool parse(char *text, facet_cache_counts *counts)
{
    facet_cache_counts result = {0};
    char *sum = strstr(text, "sum ");
    if (sum == NULL || strlen(sum) != 4 + FACET_DIGEST_HEX) return false;
    const facet_digest digest = facet_hash(text, (size_t)(sum - text));
    if (strncmp(sum + 4, digest.hex, FACET_DIGEST_HEX - 1) != 0) return false;
    *sum = 0;
    for (size_t i = 0; i < FACET_COUNT_OF(counters); i++) {
        const size_t length = strlen(counters[i].name);
        uint64_t value;
        const char *line = next_line(&text);
        if (line == NULL || strncmp(line, counters[i].name, length) != 0 || line[length] != ' ' ||
            !facet_parse_u64(line + length + 1, &value))
            return false;
        store(&result, i, value);
    }
    *counts = result;
    return *text == 0;
}

static void read_fd(int fd, facet_cache_counts *counts)
{
    char text[STATS_MAX + 1];
    *counts = (facet_cache_counts){0};
    const ssize_t n = pread(fd, text, STATS_MAX, 0);
    if (n <= 0) return;
    text[n] = 0;
    if (strlen(text) == (size_t)n) parse(text, counts);
}

// One write, so that a process that dies leaves the old text or the new one in all but rare cases.
static void write_fd(int fd, const facet_cache_counts *counts)
{
    char text[STATS_MAX];
    int n = 0;
    for (size_t i = 0; i < FACET_COUNT_OF(counters); i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s %" PRIu64 "\n", counters[i].name,
                      load(counts, i));
    const facet_digest digest = facet_hash(text, (size_t)n);
    n += snprintf(text + n, sizeof text - (size_t)n, "sum %s\n", digest.hex);
    if (pwrite(fd, text, (size_t)n, 0) == n && ftruncate(fd, n) != 0) return;
}

static int open_stats(const facet_cache *cache, int flags)
{
    char path[FACET_CACHE_PATH];
    if (facet_cache_path(cache, "stats", NULL, path, NULL) != FACET_OK) return -1;
    return open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, 0600);
}

// Opens and locks the file for a change; -1 when this cache is not written to. Without the lock the
// change is made all the same: a count may get lost.
static int begin_change(const facet_cache *cache)
{
    if (!cache->writable || cache->mode == FACET_CACHE_STRICT) return -1;
    const int fd = open_stats(cache, O_RDWR | O_CREAT);
    if (fd >= 0) facet_lock_wait(fd, LOCK_EX, LOCK_MS, NULL);
    return fd;
}

uint64_t facet_stats_add(facet_cache *cache, const facet_cache_counts *more, int64_t bytes)
{
    facet_cache_counts counts = {0};
    pthread_mutex_lock(&cache->mutex);
    for (size_t i = 0; i < FACET_COUNT_OF(counters); i++)
        store(&cache->run, i, load(&cache->run, i) + load(more, i));
    pthread_mutex_unlock(&cache->mutex);
    const int fd = begin_change(cache);
    if (fd < 0) return 0;
    read_fd(fd, &counts);
    for (size_t i = 0; i < FACET_COUNT_OF(counters); i++)
        store(&counts, i, load(&counts, i) + load(more, i));
    // Never below zero, or the cap would never be met again.
    if (bytes < 0 && counts.bytes < (uint64_t)-bytes)
        counts.bytes = 0;
    else
        counts.bytes += (uint64_t)bytes;
    write_fd(fd, &counts);
    close(fd);
    return counts.bytes;
}

void facet_stats_read(const facet_cache *cache, facet_cache_counts *counts)
{
    *counts = (facet_cache_counts){0};
    const int fd = open_stats(cache, O_RDONLY);
    if (fd < 0) return;
    facet_lock_wait(fd, LOCK_SH, LOCK_MS, NULL);
    read_fd(fd, counts);
    close(fd);
}

void facet_stats_set_bytes(facet_cache *cache, uint64_t bytes)
{
    facet_cache_counts counts;
    const int fd = begin_change(cache);
    if (fd < 0) return;
    read_fd(fd, &counts);
    if (counts.bytes != bytes) {
        counts.bytes = bytes;
        write_fd(fd, &counts);
    }
    close(fd);
}

void facet_stats_reset(facet_cache *cache)
{
    const facet_cache_counts zero = {0};
    const int fd = begin_change(cache);
    if (fd < 0) return;
    write_fd(fd, &zero);
    close(fd);
}
