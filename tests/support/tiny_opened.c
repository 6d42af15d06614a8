// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/support/tiny_opened.h"

void tiny_open(tiny_opened *o, const tiny_opts *opts)
{
    facet_err err;
    facet_failing_init(&o->memory, 0);
    const facet_open_opts generic = {.alloc = &o->memory.alloc, .mode = FACET_MODE_GENERIC};
    tiny_dir(o->dir, sizeof o->dir);
    snprintf(o->path, sizeof o->path, "%s/tiny.facet", o->dir);
    o->t = tiny_new(opts);
    o->vocab = o->t->n_vocab;
    tiny_write(o->t, o->path, NULL, NULL);
    if (facet_open(o->path, &generic, &o->bundle, &err) != FACET_OK) fail_msg("%s", err.message);
}

void tiny_close(tiny_opened *o)
{
    facet_close(o->bundle);
    assert_int_equal(atomic_load(&o->memory.alive), 0);
    tiny_free(o->t);
    tiny_remove(o->dir);
}
