// SPDX-License-Identifier: Apache-2.0
// Files and directories. Outputs appear whole or not at all: temporary sibling, fsync, rename,
// fsync of the parent. All paths are UTF-8 byte strings.
#ifndef FACET_BASE_FILE_H
#define FACET_BASE_FILE_H

#include "base/status.h"

typedef struct facet_map {
    const uint8_t *data; // NULL for an empty file
    size_t bytes;
} facet_map;

// Maps a regular file read-only.
facet_status facet_map_open(const char *path, facet_map *map, facet_err *err);
void facet_map_close(facet_map *map);

// Reads a whole regular file of at most max_bytes; *data is terminated by a zero byte not counted
// in *bytes; free with facet_mem_free(alloc, ..).
facet_status facet_file_read(const char *path, size_t max_bytes, const facet_alloc *alloc,
                             char **data, size_t *bytes, facet_err *err);
// Writes a file whole or not at all. An existing file is an error (FACET_REFUSED) unless `force`.
facet_status facet_file_write(const char *path, const void *data, size_t bytes, bool force,
                              facet_err *err);

bool facet_path_exists(const char *path);
bool facet_path_is_dir(const char *path);
facet_status facet_path_size(const char *path, uint64_t *bytes, facet_err *err);
// "a/b" from "a" and "b"; FACET_BAD_INPUT when it does not fit.
facet_status facet_path_join(char *out, size_t capacity, const char *a, const char *b,
                             facet_err *err);
// The part after the last slash, borrowed.
const char *facet_path_base(const char *path);

// An output file written in pieces. Nothing is visible under its name before facet_out_commit.
typedef struct facet_out {
    int fd; // -1 when closed
    uint64_t bytes;
    bool force;
    char path[4096], temp[4096 + 32];
} facet_out;
facet_status facet_out_open(facet_out *out, const char *path, bool force, facet_err *err);
facet_status facet_out_write(facet_out *out, const void *data, size_t bytes, facet_err *err);
facet_status facet_out_pad(facet_out *out, uint64_t alignment, facet_err *err); // zeros
facet_status facet_out_commit(facet_out *out, facet_err *err);
void facet_out_abort(facet_out *out); // safe after commit and on a zeroed or failed facet_out

// Directories. facet_dir_make: one level, EEXIST is success. facet_dir_make_all: with parents.
facet_status facet_dir_make(const char *path, unsigned mode, facet_err *err);
facet_status facet_dir_make_all(const char *path, unsigned mode, facet_err *err);
// Makes PARENT/.PREFIX.XXXXXX (mode 0700) and writes its path to `out`.
facet_status facet_dir_temp(const char *parent, const char *prefix, char *out, size_t capacity,
                            facet_err *err);
// Removes a tree; symbolic links are removed, never followed. A missing tree is success.
facet_status facet_dir_remove(const char *path, facet_err *err);
// Calls fn for each entry but . and .., in byte order of names; a failing fn stops the walk.
typedef facet_status facet_dir_fn(void *ctx, const char *name, facet_err *err);
facet_status facet_dir_each(const char *path, facet_dir_fn *fn, void *ctx, facet_err *err);
// fsync of every regular file and directory of a tree.
facet_status facet_dir_sync(const char *path, facet_err *err);
// Moves directory `from` to `to` (same file system) and syncs the parent. An existing `to` is
// FACET_REFUSED without `force`; with it the two names are exchanged and the old tree is removed.
facet_status facet_dir_publish(const char *from, const char *to, bool force, facet_err *err);

#endif
