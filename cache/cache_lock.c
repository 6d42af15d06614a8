// SPDX-License-Identifier: Apache-2.0
// Locks by flock: the kernel drops them when their owner dies, and nothing relies on them but the
// number of builds. Where they do not work, or take too long, we go on without.
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/cache_internal.h"

static bool cancelled(const facet_report *report)
{
    return report != NULL && report->cancelled != NULL && report->cancelled(report->ctx);
}

// There is no flock with a timeout, so it is tried every few milliseconds.
bool facet_lock_wait(int fd, int operation, uint32_t timeout_ms, const facet_report *report)
{
    const uint64_t start = facet_clock_ns(), limit = (uint64_t)timeout_ms * 1000000u;
    long pause_ns = 500000;
    while (flock(fd, operation | LOCK_NB) != 0) {
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK || facet_clock_ns() - start >= limit || cancelled(report))
            return false;
        const struct timespec pause = {0, pause_ns};
        nanosleep(&pause, NULL);
        if (pause_ns < 20000000) pause_ns *= 2;
    }
    return true;
}

facet_status facet_lock_key(facet_cache *cache, const char *key, int *fd, facet_err *err)
{
    char path[FACET_CACHE_PATH];
    *fd = -1;
    if (!cache->writable) return FACET_OK;
    FACET_TRY(facet_cache_path(cache, "locks", key, path, err));
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0) return FACET_OK;
    if (facet_lock_wait(lock, LOCK_EX, cache->lock_timeout_ms, cache->report)) {
        *fd = lock;
        return FACET_OK;
    }
    close(lock);
    if (cancelled(cache->report))
        return facet_fail(err, FACET_INTERRUPTED, "cache: interrupted while another process built");
    return FACET_OK;
}

// The file goes as well, or every key would leave one behind. Who waits on the removed file gets
// the lock, looks again and finds the entry.
void facet_lock_drop(facet_cache *cache, const char *key, int fd)
{
    char path[FACET_CACHE_PATH];
    if (fd < 0) return;
    if (facet_cache_path(cache, "locks", key, path, NULL) == FACET_OK) unlink(path);
    close(fd);
}

int facet_lock_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) flock(fd, LOCK_SH | LOCK_NB);
    return fd;
}
