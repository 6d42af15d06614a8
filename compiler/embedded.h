// SPDX-License-Identifier: Apache-2.0
// The texts of templates/ and kernels/abi.h, inside the binary (made by cmake/Embed.cmake).
#ifndef FACET_COMPILER_EMBEDDED_H
#define FACET_COMPILER_EMBEDDED_H

#include <stddef.h>
#include <stdint.h>

typedef struct facet_embedded {
    const char *name; // file name, as "abi.h"
    const char *text; // terminated
    size_t bytes;
} facet_embedded;

extern const facet_embedded facet_embedded_files[];
extern const uint32_t facet_embedded_count;

#endif
