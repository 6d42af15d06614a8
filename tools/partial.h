// SPDX-License-Identifier: Apache-2.0
// What a long work has finished, so that the same command takes it up again after an interrupt. In:
// records in an order that the work alone decides, and a digest of all that they depend on. Out:
// OUTPUT.partial, and the records of an earlier run in the same order. Nothing here fails: whatever
// is wrong with the file costs a warning, and the work is done anew.
//
// 1. The line "facet predict 1 DIGEST".
// 2. Records: 8 bytes, little-endian: how many bytes of data; their digest, 32 characters; the
// data.
#ifndef FACET_TOOLS_PARTIAL_H
#define FACET_TOOLS_PARTIAL_H

#include <stdio.h>

#include "base/file.h"
#include "base/hash.h"
#include "tools/tool.h"

typedef struct facet_partial {
    const facet_tool *tool;
    char path[4096];
    FILE *file;    // NULL: none
    facet_map old; // records of an earlier run
    uint64_t at;   // behind the last good one
} facet_partial;

// Begins a file of another digest again and lets be what is none of ours. Needs tool and path.
void facet_partial_begin(facet_partial *partial, const facet_digest *digest);
// The next record, if there is one of least to most bytes. A NULL partial has none.
bool facet_partial_take(facet_partial *partial, void *data, size_t least, size_t most,
                        size_t *bytes);
// Appends a record that was asked for in vain.
void facet_partial_put(facet_partial *partial, const void *data, size_t bytes);
// Removes the file unless it is of use to a later run.
void facet_partial_end(facet_partial *partial, bool of_use);

#endif
