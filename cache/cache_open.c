// SPDX-License-Identifier: Apache-2.0
// Where the cache lies and whether it may be trusted: ours, and writable by nobody else.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/cache_internal.h"

#define VERSION_TEXT "facet cache 1\n"

static facet_status check_owner(const char *root, facet_err *err)
{
    struct stat info;
    if (stat(root, &info) != 0) return facet_fail_errno(err, errno, root, "use the cache");
    if (!S_ISDIR(info.st_mode))
        return facet_fail_at(err, FACET_IO, root, -1,
                             "cache %s: is not a directory; name another with --cache", root);
    if (info.st_uid != geteuid())
        return facet_fail_at(err, FACET_PERMISSION, root, -1,
                             "cache %s: belongs to user %lu, not to you; chown it or name another "
                             "with --cache",
                             root, (unsigned long)info.st_uid);
    if ((info.st_mode & 022) != 0)
        return facet_fail_at(err, FACET_PERMISSION, root, -1,
                             "cache %s: others may write it (mode %04o); run chmod 700 on it or "
                             "name another with --cache",
                             root, (unsigned)info.st_mode & 07777u);
    return FACET_OK;
}

// A version file that reads "facet cache N" with another N belongs to another facet, whose entries
// are left alone; any other text is damage and written again.
static facet_status check_version(facet_cache *cache, facet_err *err)
{
    char path[FACET_CACHE_PATH], *text = NULL;
    size_t bytes;
    uint64_t version = 0;
    FACET_TRY(facet_cache_path(cache, "version", NULL, path, err));
    facet_status status = facet_file_read(path, 64, cache->alloc, &text, &bytes, err);
    if (status == FACET_NO_MEMORY) return status;
    bool good = false, foreign = false;
    if (status == FACET_OK) {
        static const char start[] = "facet cache ";
        good = strcmp(text, VERSION_TEXT) == 0;
        if (!good && bytes > sizeof start && strncmp(text, start, sizeof start - 1) == 0 &&
            text[bytes - 1] == '\n') {
            text[bytes - 1] = 0;
            foreign = facet_parse_u64(text + sizeof start - 1, &version) && version > 1;
        }
        facet_mem_free(cache->alloc, text);
    }
    if (foreign)
        return facet_fail_at(err, FACET_MISMATCH, path, -1,
                             "cache %s: has layout %llu and this facet uses 1; name another with "
                             "--cache",
                             cache->root, (unsigned long long)version);
    if (!good && cache->writable && cache->mode != FACET_CACHE_STRICT)
        return facet_file_write(path, VERSION_TEXT, sizeof VERSION_TEXT - 1, true, err);
    return FACET_OK;
}

static facet_status make_dirs(const facet_cache *cache, facet_err *err)
{
    static const char *const dirs[] = {"entries", "locks", "tmp"};
    for (size_t i = 0; i < FACET_COUNT_OF(dirs); i++) {
        char path[FACET_CACHE_PATH];
        FACET_TRY(facet_cache_path(cache, dirs[i], NULL, path, err));
        FACET_TRY(facet_dir_make(path, 0700, err));
    }
    return FACET_OK;
}

// cache->root is made usable. An existing directory that is ours but cannot be written serves hits.
static facet_status prepare(facet_cache *cache, facet_err *err)
{
    const bool strict = cache->mode == FACET_CACHE_STRICT;
    cache->writable = !strict;
    if (!facet_path_exists(cache->root)) {
        if (strict) return FACET_OK;
        FACET_TRY(facet_dir_make_all(cache->root, 0700, err));
    }
    FACET_TRY(check_owner(cache->root, err));
    facet_err why = {0};
    facet_status status = strict ? FACET_OK : make_dirs(cache, &why);
    if (status == FACET_OK) status = check_version(cache, &why);
    if (status == FACET_OK) return FACET_OK;
    if (status == FACET_NO_MEMORY || status == FACET_MISMATCH)
        return facet_fail_at(err, status, why.file, why.offset, "%s", why.message);
    cache->writable = false;
    facet_cache_warn(cache, "cannot write to it", &why);
    return FACET_OK;
}

static facet_status set_root(facet_cache *cache, const char *root, facet_err *err)
{
    const size_t length = strlen(root);
    if (length == 0 || length + FACET_CACHE_ROOM > sizeof cache->root)
        return facet_fail_at(err, FACET_IO, root, -1,
                             "cache: its path is empty or too long; name another with --cache");
    memcpy(cache->root, root, length + 1);
    return FACET_OK;
}

// "Unusable" is an environment's fault for the user, whatever the system call said.
static facet_status as_environment(facet_status status, facet_err *err)
{
    if (status == FACET_OK || facet_status_exit(status) == facet_status_exit(FACET_IO))
        return status;
    if (err != NULL) err->code = FACET_IO;
    return FACET_IO;
}

static facet_status use_private(facet_cache *cache, facet_err *err)
{
    char path[FACET_CACHE_PATH];
    FACET_TRY(facet_dir_temp(cache->temp_parent, "facet-cache", path, sizeof path, err));
    FACET_TRY(set_root(cache, path, err));
    cache->private_root = true;
    return prepare(cache, err);
}

facet_status facet_cache_settle(facet_cache *cache, const facet_cache_opts *opts, facet_err *err)
{
    if (opts->root != NULL) {
        facet_status status = set_root(cache, opts->root, err);
        if (status == FACET_OK) status = prepare(cache, err);
        return as_environment(status, err);
    }
    facet_err why = {0};
    facet_status status =
        opts->fallback != NULL
            ? set_root(cache, opts->fallback, &why)
            : facet_fail(&why, FACET_IO, "there is no default place (is HOME unset?)");
    if (status == FACET_OK) status = prepare(cache, &why);
    if (status == FACET_OK) return FACET_OK;
    if (status == FACET_NO_MEMORY)
        return facet_fail_at(err, status, why.file, why.offset, "%s", why.message);
    facet_cache_warn(cache, "the default place is unusable, so nothing is kept", &why);
    return as_environment(use_private(cache, err), err);
}
