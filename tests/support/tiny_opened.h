// SPDX-License-Identifier: Apache-2.0
// A tiny model written as a bundle and opened with portable kernels, its memory counted.
#ifndef FACET_TESTS_TINY_OPENED_H
#define FACET_TESTS_TINY_OPENED_H

#include "tests/support/failing.h"
#include "tests/support/tiny.h"

typedef struct tiny_opened {
    char dir[4096], path[4096 + 16];
    tiny *t;
    facet_failing memory;
    facet_bundle *bundle;
    uint32_t vocab;
} tiny_opened;

void tiny_open(tiny_opened *o, const tiny_opts *opts);
// Fails the test if anything is still allocated.
void tiny_close(tiny_opened *o);

#endif
