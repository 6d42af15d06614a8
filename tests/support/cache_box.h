// SPDX-License-Identifier: Apache-2.0
// A cache in a fresh directory and builders to fill it, for the tests of cache/.
#ifndef FACET_TESTS_CACHE_BOX_H
#define FACET_TESTS_CACHE_BOX_H

#include "cache/cache.h"

typedef struct facet_box {
    char dir[256];  // fresh and private
    char root[300]; // dir/cache, not made yet
    char temp[300]; // dir/temp, made: parent of private directories
    int warnings;   // counted by `report`
    facet_report report;
} facet_box;

// In TMPDIR, else /dev/shm (these tests sync thousands of files), else /tmp; exits when that fails.
// `box` must stay where it is.
void facet_box_init(facet_box *box);
void facet_box_fini(facet_box *box);
// Options for box->root: explicit, automatic, warnings counted.
facet_cache_opts facet_box_opts(facet_box *box);

// ctx of facet_box_build: what to write and what to answer.
typedef struct facet_box_job {
    const char *text;
    int builds;          // how often it was called
    facet_status answer; // after writing
    unsigned delay_us;
    size_t big_bytes;
} facet_box_job;
facet_status facet_box_build(void *ctx, const char *dir, const char *path, facet_err *err);
// Makes a tree: "a" and "sub/b" with the text, and "big" of big_bytes zeros unless 0.
facet_status facet_box_build_dir(void *ctx, const char *dir, const char *path, facet_err *err);

// Is the file `path` exactly `text`?
bool facet_box_same(const char *path, const char *text);
// Replaces a file's bytes in place.
void facet_box_write(const char *path, const void *data, size_t bytes);
// ROOT/entries/KEY/NAME of a recipe.
void facet_box_entry(const facet_box *box, const char *recipe, const char *name, char *out,
                     size_t capacity);
// Names in a directory; 0 when it is missing.
size_t facet_box_count(const char *dir);

#endif
