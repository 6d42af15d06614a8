// SPDX-License-Identifier: Apache-2.0
// Directory trees: make, walk, remove, sync, publish.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/paths.h"

#define PATH_BYTES 4096

facet_status facet_dir_make(const char *path, unsigned mode, facet_err *err)
{
    if (mkdir(path, (mode_t)mode) == 0) return FACET_OK;
    const int error = errno;
    if (error == EEXIST && facet_path_is_dir(path)) return FACET_OK;
    return facet_fail_errno(err, error, path, "create the directory");
}

facet_status facet_dir_make_all(const char *path, unsigned mode, facet_err *err)
{
    char part[PATH_BYTES];
    const size_t length = strlen(path);
    if (length >= sizeof part)
        return facet_fail_at(err, FACET_BAD_INPUT, path, -1, "path: too long; shorten it");
    for (size_t i = 1; i < length; i++) {
        if (path[i] != '/') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        FACET_TRY(facet_dir_make(part, mode, err));
    }
    return facet_dir_make(path, mode, err);
}

facet_status facet_dir_temp(const char *parent, const char *prefix, char *out, size_t capacity,
                            facet_err *err)
{
    const int n = snprintf(out, capacity, "%s/.%s.XXXXXX", parent, prefix);
    if (n < 0 || (size_t)n >= capacity)
        return facet_fail_at(err, FACET_BAD_INPUT, parent, -1, "path: too long; shorten it");
    if (!mkdtemp(out)) return facet_fail_errno(err, errno, parent, "create a directory in it");
    return FACET_OK;
}

// ---- walking ----------------------------------------------------------------------------------

typedef struct name_list {
    char **names;
    size_t n, capacity;
} name_list;

static void names_fini(name_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        facet_mem_free(NULL, list->names[i]);
    facet_mem_free(NULL, list->names);
}

static facet_status names_add(name_list *list, const char *name, facet_err *err)
{
    if (list->n == list->capacity) {
        const size_t capacity = list->capacity ? list->capacity * 2 : 32;
        char **names = facet_mem_resize(NULL, list->names, capacity, sizeof *names);
        if (!names) return facet_fail_memory(err, capacity * sizeof *names);
        list->names = names;
        list->capacity = capacity;
    }
    char *copy = facet_mem_strdup(NULL, name);
    if (!copy) return facet_fail_memory(err, strlen(name) + 1);
    list->names[list->n++] = copy;
    return FACET_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static facet_status names_read(const char *path, name_list *list, facet_err *err)
{
    DIR *dir = opendir(path);
    if (!dir) return facet_fail_errno(err, errno, path, "open the directory");
    facet_status status = FACET_OK;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            if (errno) status = facet_fail_errno(err, errno, path, "read the directory");
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        status = names_add(list, entry->d_name, err);
        if (status != FACET_OK) break;
    }
    closedir(dir);
    if (list->n > 1) qsort(list->names, list->n, sizeof *list->names, compare_names);
    return status;
}

facet_status facet_dir_each(const char *path, facet_dir_fn *fn, void *ctx, facet_err *err)
{
    name_list list = {0};
    facet_status status = names_read(path, &list, err);
    for (size_t i = 0; status == FACET_OK && i < list.n; i++)
        status = fn(ctx, list.names[i], err);
    names_fini(&list);
    return status;
}

static facet_status remove_entry(void *ctx, const char *name, facet_err *err)
{
    const char *parent = ctx;
    char path[PATH_BYTES];
    FACET_TRY(facet_path_join(path, sizeof path, parent, name, err));
    return facet_dir_remove(path, err);
}

facet_status facet_dir_remove(const char *path, facet_err *err)
{
    struct stat info;
    if (lstat(path, &info) != 0)
        return errno == ENOENT ? FACET_OK : facet_fail_errno(err, errno, path, "stat");
    if (!S_ISDIR(info.st_mode)) {
        if (unlink(path) == 0 || errno == ENOENT) return FACET_OK;
        return facet_fail_errno(err, errno, path, "remove");
    }
    char copy[PATH_BYTES];
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy)
        return facet_fail_at(err, FACET_BAD_INPUT, path, -1, "path: too long; shorten it");
    FACET_TRY(facet_dir_each(path, remove_entry, copy, err));
    if (rmdir(path) == 0 || errno == ENOENT) return FACET_OK;
    return facet_fail_errno(err, errno, path, "remove the directory");
}

static facet_status sync_entry(void *ctx, const char *name, facet_err *err)
{
    const char *parent = ctx;
    char path[PATH_BYTES];
    struct stat info;
    FACET_TRY(facet_path_join(path, sizeof path, parent, name, err));
    if (lstat(path, &info) != 0) return facet_fail_errno(err, errno, path, "stat");
    if (S_ISDIR(info.st_mode)) return facet_dir_sync(path, err);
    return S_ISREG(info.st_mode) ? facet_path_sync(path, err) : FACET_OK;
}

facet_status facet_dir_sync(const char *path, facet_err *err)
{
    char copy[PATH_BYTES];
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy)
        return facet_fail_at(err, FACET_BAD_INPUT, path, -1, "path: too long; shorten it");
    FACET_TRY(facet_dir_each(path, sync_entry, copy, err));
    return facet_path_sync(path, err);
}

// ---- publishing -------------------------------------------------------------------------------

// renameat2 by number: the C library's wrapper needs _GNU_SOURCE.
static int rename_flags(const char *from, const char *to, unsigned flags)
{
#ifdef SYS_renameat2
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
#else
    (void)from, (void)to, (void)flags;
    errno = ENOSYS;
    return -1;
#endif
}

#define NOREPLACE 1u
#define EXCHANGE  2u

static bool flags_unknown(int error)
{
    return error == ENOSYS || error == EINVAL;
}

// Without an exchange of names: the old tree steps aside and comes back if the new one cannot
// enter.
static facet_status replace_aside(const char *from, const char *to, facet_err *err)
{
    char aside[PATH_BYTES];
    if (snprintf(aside, sizeof aside, "%s.old", from) >= (int)sizeof aside)
        return facet_fail_at(err, FACET_BAD_INPUT, to, -1, "path: too long; shorten it");
    if (rename(to, aside) != 0) return facet_fail_errno(err, errno, to, "move aside");
    if (rename(from, to) != 0) {
        const int error = errno;
        if (rename(aside, to) != 0)
            return facet_fail_at(err, FACET_IO, aside, -1,
                                 "%s: the old tree is now %s; move it back by hand", to, aside);
        return facet_fail_errno(err, error, to, "rename to");
    }
    FACET_TRY(facet_path_sync_parent(to, err));
    return facet_dir_remove(aside, err);
}

facet_status facet_dir_publish(const char *from, const char *to, bool force, facet_err *err)
{
    if (rename_flags(from, to, NOREPLACE) == 0) return facet_path_sync_parent(to, err);
    int error = errno;
    if (flags_unknown(error) && !facet_path_exists(to)) {
        if (rename(from, to) == 0) return facet_path_sync_parent(to, err);
        error = errno;
    }
    if (error != EEXIST && !facet_path_exists(to))
        return facet_fail_errno(err, error, to, "rename to");
    if (!force)
        return facet_fail_at(err, FACET_REFUSED, to, -1,
                             "%s: exists already; choose another name or add --force", to);
    if (rename_flags(from, to, EXCHANGE) != 0) {
        if (!flags_unknown(errno)) return facet_fail_errno(err, errno, to, "replace");
        return replace_aside(from, to, err);
    }
    FACET_TRY(facet_path_sync_parent(to, err));
    return facet_dir_remove(from, err);
}
