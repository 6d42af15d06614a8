// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/paths.h"

static facet_status open_regular(const char *path, int *fd_out, uint64_t *bytes, facet_err *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return facet_fail_errno(err, errno, path, "open");
    struct stat info;
    if (fstat(fd, &info) != 0) {
        const int error = errno;
        close(fd);
        return facet_fail_errno(err, error, path, "stat");
    }
    if (!S_ISREG(info.st_mode)) {
        close(fd);
        return facet_fail_at(err, FACET_BAD_INPUT, path, -1, "%s: not a regular file; name a file",
                             path);
    }
    *fd_out = fd;
    *bytes = (uint64_t)info.st_size;
    return FACET_OK;
}

facet_status facet_map_open(const char *path, facet_map *map, facet_err *err)
{
    int fd = -1;
    uint64_t bytes = 0;
    FACET_TRY(open_regular(path, &fd, &bytes, err));
    void *data = NULL;
    if (bytes > 0) {
        data =
            bytes > SIZE_MAX ? MAP_FAILED : mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED) {
            const int error = bytes > SIZE_MAX ? ENOMEM : errno;
            close(fd);
            return facet_fail_errno(err, error, path, "map");
        }
    }
    close(fd);
    *map = (facet_map){data, (size_t)bytes};
    return FACET_OK;
}

void facet_map_close(facet_map *map)
{
    if (map->data) {
        union {
            const uint8_t *in;
            void *out;
        } address = {.in = map->data};
        munmap(address.out, map->bytes);
    }
    *map = (facet_map){0};
}

static facet_status read_exact(int fd, const char *path, char *data, size_t bytes, facet_err *err)
{
    for (size_t done = 0; done < bytes;) {
        const ssize_t n = read(fd, data + done, bytes - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return facet_fail_errno(err, errno, path, "read");
        if (n == 0)
            return facet_fail_at(err, FACET_BAD_FILE, path, (int64_t)done,
                                 "%s: shrank while being read; try again", path);
        done += (size_t)n;
    }
    return FACET_OK;
}

facet_status facet_file_read(const char *path, size_t max_bytes, const facet_alloc *alloc,
                             char **data, size_t *bytes, facet_err *err)
{
    int fd = -1;
    uint64_t size = 0;
    FACET_TRY(open_regular(path, &fd, &size, err));
    facet_status status = FACET_OK;
    char *buffer = NULL;
    if (size > max_bytes) {
        status =
            facet_fail_at(err, FACET_BAD_FILE, path, (int64_t)max_bytes,
                          "%s: %llu bytes are more than the %zu allowed; is it the right file?",
                          path, (unsigned long long)size, max_bytes);
    } else if (!(buffer = facet_mem_new(alloc, (size_t)size + 1, 1))) {
        status = facet_fail_memory(err, (size_t)size + 1);
    } else {
        status = read_exact(fd, path, buffer, (size_t)size, err);
    }
    close(fd);
    if (status != FACET_OK) {
        facet_mem_free(alloc, buffer);
        return status;
    }
    *data = buffer;
    *bytes = (size_t)size;
    return FACET_OK;
}

facet_status facet_file_write(const char *path, const void *data, size_t bytes, bool force,
                              facet_err *err)
{
    facet_out out;
    FACET_TRY(facet_out_open(&out, path, force, err));
    facet_status status = facet_out_write(&out, data, bytes, err);
    if (status == FACET_OK) status = facet_out_commit(&out, err);
    facet_out_abort(&out);
    return status;
}

// ---- output in pieces -------------------------------------------------------------------------

static facet_status refuse_existing(const char *path, facet_err *err)
{
    return facet_fail_at(err, FACET_REFUSED, path, -1,
                         "%s: exists already; choose another name or add --force", path);
}

facet_status facet_out_open(facet_out *out, const char *path, bool force, facet_err *err)
{
    *out = (facet_out){.fd = -1, .force = force};
    struct stat info;
    if (stat(path, &info) == 0) {
        if (!force) return refuse_existing(path, err);
        if (!S_ISREG(info.st_mode))
            return facet_fail_at(err, FACET_BAD_INPUT, path, -1,
                                 "%s: exists and is not a regular file; choose another name", path);
    }
    char parent[sizeof out->path];
    FACET_TRY(facet_path_parent(path, parent, sizeof parent, err));
    if (snprintf(out->path, sizeof out->path, "%s", path) >= (int)sizeof out->path)
        return facet_fail_at(err, FACET_BAD_INPUT, path, -1, "path: too long; shorten it");
    snprintf(out->temp, sizeof out->temp, "%s/.facet.XXXXXX", parent);
    out->fd = mkstemp(out->temp);
    if (out->fd < 0) return facet_fail_errno(err, errno, path, "create");
    fcntl(out->fd, F_SETFD, FD_CLOEXEC);
    const mode_t mask = umask(0);
    umask(mask);
    fchmod(out->fd, 0666 & ~mask); // mkstemp makes it private
    return FACET_OK;
}

facet_status facet_out_write(facet_out *out, const void *data, size_t bytes, facet_err *err)
{
    const char *from = data;
    while (bytes > 0) {
        const ssize_t n = write(out->fd, from, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return facet_fail_errno(err, errno, out->path, "write");
        from += n;
        bytes -= (size_t)n;
        out->bytes += (uint64_t)n;
    }
    return FACET_OK;
}

facet_status facet_out_pad(facet_out *out, uint64_t alignment, facet_err *err)
{
    static const char zeros[4096];
    uint64_t missing = (alignment - out->bytes % alignment) % alignment;
    while (missing > 0) {
        const size_t n = missing < sizeof zeros ? (size_t)missing : sizeof zeros;
        FACET_TRY(facet_out_write(out, zeros, n, err));
        missing -= n;
    }
    return FACET_OK;
}

facet_status facet_out_commit(facet_out *out, facet_err *err)
{
    if (fsync(out->fd) != 0) return facet_fail_errno(err, errno, out->path, "sync");
    const int closed = close(out->fd);
    out->fd = -1;
    if (closed != 0) return facet_fail_errno(err, errno, out->path, "close");
    // link refuses an existing name, which rename does not: nobody's file is lost in a race.
    if (!out->force && link(out->temp, out->path) != 0) {
        if (errno == EEXIST) return refuse_existing(out->path, err);
        if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS)
            return facet_fail_errno(err, errno, out->path, "link");
        if (rename(out->temp, out->path) != 0)
            return facet_fail_errno(err, errno, out->path, "rename");
    } else if (!out->force) {
        unlink(out->temp);
    } else if (rename(out->temp, out->path) != 0) {
        return facet_fail_errno(err, errno, out->path, "rename");
    }
    out->temp[0] = '\0';
    return facet_path_sync_parent(out->path, err);
}

void facet_out_abort(facet_out *out)
{
    if (out->fd >= 0 && out->temp[0]) close(out->fd);
    if (out->temp[0]) unlink(out->temp);
    out->fd = -1;
    out->temp[0] = '\0';
}
