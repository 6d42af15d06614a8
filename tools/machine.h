// SPDX-License-Identifier: Apache-2.0
// What the bench says about the machine it ran on.
#ifndef FACET_TOOLS_MACHINE_H
#define FACET_TOOLS_MACHINE_H

#include "tools/tool.h"

typedef struct facet_machine {
    char cpu[128];
    const char *isa; // best target, borrowed
    uint32_t cores, n_threads;
    uint64_t l3_bytes;    // last cache, 0: unknown
    double read_gb_per_s; // plain streaming read by n_threads, 0: not measured
} facet_machine;

// Takes a second or two for the streaming read (a buffer of 1 GiB or 8 last caches, the larger).
facet_status facet_machine_find(const facet_tool *tool, facet_machine *out, facet_err *err);

#endif
