// SPDX-License-Identifier: Apache-2.0
// Wisdom: measured choices per (target, node), remembered in a text file. In: a line a measurement.
// Out: the latest choice. Losing the file costs time only, so everything odd in it is ignored. What
// a node or a choice means is the caller's.
//
//  1. A line reads "facet1 CHECK TARGET NODE CHOICE SECONDS": CHECK is the first 16 digits of the
//     XXH3-128 of what follows it and one blank; the words hold no blank.
//  2. Lines are appended, each by one write that starts and ends with a newline, so that a torn
//  line
//     spoils only itself. For a (target, node) the last good line counts.
#ifndef FACET_CACHE_WISDOM_H
#define FACET_CACHE_WISDOM_H

#include "base/memory.h"

#define FACET_WISDOM_FILE "wisdom" // its name in the cache's root

typedef struct facet_wisdom_line {
    const char *target, *node, *choice; // owned by the facet_wisdom
    double seconds;
} facet_wisdom_line;

typedef struct facet_wisdom {
    const facet_alloc *alloc;
    char *text;
    facet_wisdom_line *lines;
    size_t n;
} facet_wisdom;

// Reads a wisdom file; a missing, unreadable or damaged one gives what can be read, maybe nothing.
// Fails with FACET_NO_MEMORY only.
facet_status facet_wisdom_load(const char *path, const facet_alloc *alloc, facet_wisdom *wisdom,
                               facet_err *err);
void facet_wisdom_fini(facet_wisdom *wisdom); // a zeroed one is fine
// The last line of a (target, node), or NULL; borrowed.
const facet_wisdom_line *facet_wisdom_find(const facet_wisdom *wisdom, const char *target,
                                           const char *node);
// Appends a line to the file. Words: 1 to 255 bytes without blanks and control characters, else
// FACET_BAD_INPUT; seconds finite.
facet_status facet_wisdom_append(const char *path, const char *target, const char *node,
                                 const char *choice, double seconds, facet_err *err);

#endif
