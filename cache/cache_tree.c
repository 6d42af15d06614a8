// SPDX-License-Identifier: Apache-2.0
// Payloads that are directories. `sum` of such an entry is
//
//  1. a line "XXH3-128 bytes tree": the digest of the rest of the file, the sum of all sizes;
//  2. a line "XXH3-128 bytes name" for every regular file, in byte order of names within each
//     directory; names are relative with slashes. Nothing but files and directories may be there.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/cache_internal.h"

#define MAX_DEPTH     8
#define ALWAYS_HASHED (1u << 20)

// One walk. `file` is called for every regular file; `odd` is set when something else was found.
typedef struct walk {
    const facet_alloc *alloc;
    facet_status (*file)(struct walk *walk, const char *path, const char *name, uint64_t bytes,
                         facet_err *err);
    char dir[FACET_CACHE_PATH], name[FACET_CACHE_PATH]; // where we are: absolute, relative
    unsigned depth;
    bool odd;
    uint64_t bytes;
    facet_text *listing;  // list: goes out
    const char *expected; // check: the rest of the listing
    bool full;
} walk;

static facet_status visit(void *ctx, const char *name, facet_err *err);

static facet_status visit_dir(walk *w, facet_err *err)
{
    if (++w->depth > MAX_DEPTH) {
        w->odd = true;
        return FACET_OK;
    }
    FACET_TRY(facet_dir_each(w->dir, visit, w, err));
    w->depth--;
    return FACET_OK;
}

static bool plain_name(const char *name)
{
    for (; *name != 0; name++)
        if ((unsigned char)*name < 0x20) return false;
    return true;
}

static facet_status visit(void *ctx, const char *name, facet_err *err)
{
    walk *w = ctx;
    const size_t dir_length = strlen(w->dir), name_length = strlen(w->name);
    struct stat info;
    if (w->odd) return FACET_OK;
    if (dir_length + strlen(name) + 2 > sizeof w->dir || !plain_name(name)) {
        w->odd = true;
        return FACET_OK;
    }
    w->dir[dir_length] = '/';
    strcpy(w->dir + dir_length + 1, name);
    if (name_length > 0) w->name[name_length] = '/';
    strcpy(w->name + name_length + (name_length > 0), name);
    facet_status status = FACET_OK;
    if (lstat(w->dir, &info) != 0)
        w->odd = true;
    else if (S_ISDIR(info.st_mode))
        status = visit_dir(w, err);
    else if (S_ISREG(info.st_mode))
        status = w->file(w, w->dir, w->name, (uint64_t)info.st_size, err);
    else
        w->odd = true;
    w->dir[dir_length] = 0;
    w->name[name_length] = 0;
    return status;
}

static facet_status run_walk(walk *w, const char *dir, facet_err *err)
{
    if (strlen(dir) >= sizeof w->dir)
        return facet_fail_at(err, FACET_BAD_INPUT, dir, -1, "path: too long; shorten it");
    strcpy(w->dir, dir);
    return visit_dir(w, err);
}

static facet_status list_file(walk *w, const char *path, const char *name, uint64_t bytes,
                              facet_err *err)
{
    facet_digest sum;
    FACET_TRY(facet_entry_hash(w->alloc, path, &bytes, &sum, err));
    facet_text_add(w->listing, "%s %" PRIu64 " %s\n", sum.hex, bytes, name);
    w->bytes += bytes;
    return FACET_OK;
}

facet_status facet_tree_list(const facet_alloc *alloc, const char *dir, facet_text *listing,
                             uint64_t *bytes, facet_err *err)
{
    walk w = {.alloc = alloc, .file = list_file, .listing = listing};
    FACET_TRY(run_walk(&w, dir, err));
    if (w.odd)
        return facet_fail_at(err, FACET_FAILED, dir, -1,
                             "%s: holds something else than files with plain names; report this",
                             dir);
    *bytes = w.bytes;
    return facet_text_status(listing, err);
}

// Compares the start of `text` with `part` and moves past it.
static bool skip(const char **text, const char *part, size_t length)
{
    if (strncmp(*text, part, length) != 0) return false;
    *text += length;
    return true;
}

static facet_status check_file(walk *w, const char *path, const char *name, uint64_t bytes,
                               facet_err *err)
{
    char size[32], digest[FACET_DIGEST_HEX] = "";
    facet_digest sum;
    const int n = snprintf(size, sizeof size, " %" PRIu64 " ", bytes);
    strncpy(digest, w->expected, sizeof digest - 1);
    w->expected += strlen(digest);
    w->odd = !facet_digest_valid(digest) || !skip(&w->expected, size, (size_t)n) ||
             !skip(&w->expected, name, strlen(name)) || !skip(&w->expected, "\n", 1);
    w->bytes += bytes;
    if (w->odd || (!w->full && bytes >= ALWAYS_HASHED)) return FACET_OK;
    FACET_TRY(facet_entry_hash(w->alloc, path, &bytes, &sum, err));
    if (strcmp(sum.hex, digest) != 0) w->odd = true;
    return FACET_OK;
}

facet_status facet_tree_check(const facet_alloc *alloc, const char *dir, const char *listing,
                              bool full, uint64_t *bytes, facet_cache_state *state, facet_err *err)
{
    walk w = {.alloc = alloc, .file = check_file, .expected = listing, .full = full};
    FACET_TRY(run_walk(&w, dir, err));
    *bytes = w.bytes;
    *state = w.odd || *w.expected != 0 ? FACET_STATE_BAD : FACET_STATE_GOOD;
    return FACET_OK;
}

// ---- allocated bytes --------------------------------------------------------------------------

typedef struct sizing {
    char dir[FACET_CACHE_PATH];
    uint64_t bytes;
} sizing;

static facet_status add_size(void *ctx, const char *name, facet_err *err)
{
    sizing *s = ctx;
    const size_t length = strlen(s->dir);
    struct stat info;
    if (length + strlen(name) + 2 > sizeof s->dir) return FACET_OK;
    s->dir[length] = '/';
    strcpy(s->dir + length + 1, name);
    if (lstat(s->dir, &info) == 0) {
        s->bytes += (uint64_t)info.st_blocks * 512;
        if (S_ISDIR(info.st_mode)) facet_dir_each(s->dir, add_size, s, err);
    }
    s->dir[length] = 0;
    return FACET_OK;
}

uint64_t facet_tree_allocated(const char *dir)
{
    sizing s = {.bytes = 0};
    struct stat info;
    if (strlen(dir) >= sizeof s.dir || lstat(dir, &info) != 0) return 0;
    strcpy(s.dir, dir);
    s.bytes = (uint64_t)info.st_blocks * 512;
    facet_dir_each(dir, add_size, &s, NULL);
    return s.bytes;
}
