// SPDX-License-Identifier: Apache-2.0
#include "tests/support/failing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

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

void facet_failing_each(facet_status (*make)(void *ctx, const facet_alloc *alloc), void *ctx)
{
    for (long fail_at = 1;; fail_at++) {
        facet_failing failing;
        facet_failing_init(&failing, fail_at);
        const facet_status status = make(ctx, &failing.alloc);
        assert_int_equal(atomic_load(&failing.alive), 0);
        if (status == FACET_OK) return;
        assert_int_equal(status, FACET_NO_MEMORY);
    }
}
