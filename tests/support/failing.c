// SPDX-License-Identifier: Apache-2.0
#include "tests/support/failing.h"

#include <stdlib.h>

static void *failing_resize(void *ctx, void *ptr, size_t bytes)
{
    facet_failing *failing = ctx;
    if (bytes == 0) {
        if (ptr) atomic_fetch_sub(&failing->alive, 1);
        free(ptr);
        return NULL;
    }
    if (atomic_fetch_add(&failing->calls, 1) + 1 == failing->fail_at) return NULL;
    void *block = realloc(ptr, bytes);
    if (block && !ptr) atomic_fetch_add(&failing->alive, 1);
    return block;
}

void facet_failing_init(facet_failing *failing, long fail_at)
{
    failing->alloc = (facet_alloc){.ctx = failing, .resize = failing_resize};
    atomic_init(&failing->calls, 0);
    atomic_init(&failing->alive, 0);
    failing->fail_at = fail_at;
}
