// SPDX-License-Identifier: Apache-2.0
#include "base/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

bool facet_path_exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

bool facet_path_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

facet_status facet_path_size(const char *path, uint64_t *bytes, facet_err *err)
{
    struct stat info;
    if (stat(path, &info) != 0) return facet_fail_errno(err, errno, path, "stat");
    *bytes = (uint64_t)info.st_size;
    return FACET_OK;
}

static facet_status too_long(facet_err *err, const char *path)
{
    return facet_fail_at(err, FACET_BAD_INPUT, path, -1, "path: too long; shorten it");
}

facet_status facet_path_join(char *out, size_t capacity, const char *a, const char *b,
                             facet_err *err)
{
    const size_t length = strlen(a);
    const char *slash = length > 0 && a[length - 1] == '/' ? "" : "/";
    const int n = snprintf(out, capacity, "%s%s%s", a, slash, b);
    return n < 0 || (size_t)n >= capacity ? too_long(err, a) : FACET_OK;
}

const char *facet_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

facet_status facet_path_parent(const char *path, char *out, size_t capacity, facet_err *err)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    while (length > 0 && path[length - 1] != '/')
        length--;
    while (length > 1 && path[length - 1] == '/')
        length--;
    if (length == 0) {
        path = ".";
        length = 1;
    }
    if (length >= capacity) return too_long(err, path);
    memcpy(out, path, length);
    out[length] = '\0';
    return FACET_OK;
}

facet_status facet_path_sync(const char *path, facet_err *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return facet_fail_errno(err, errno, path, "open");
    // Some file systems cannot sync a directory; they say EINVAL, and there is nothing to wait for.
    const int error = fsync(fd) == 0 || errno == EINVAL ? 0 : errno;
    close(fd);
    return error ? facet_fail_errno(err, error, path, "sync") : FACET_OK;
}

facet_status facet_path_sync_parent(const char *path, facet_err *err)
{
    char parent[4096];
    FACET_TRY(facet_path_parent(path, parent, sizeof parent, err));
    return facet_path_sync(parent, err);
}
