// SPDX-License-Identifier: Apache-2.0
// Templates with holes. In: the name of an embedded text of templates/ and values for its holes,
// written @{name}. Out: the text with every hole filled. templates/README.md is the dictionary.
#ifndef FACET_COMPILER_TEMPLATE_H
#define FACET_COMPILER_TEMPLATE_H

#include "base/memory.h"
#include "base/text.h"

#define FACET_HOLES_MAX 24u

typedef struct facet_hole {
    const char *name, *value;
} facet_hole;

// Values in the order they were put; strings live in the arena.
typedef struct facet_holes {
    facet_arena *arena;
    facet_hole list[FACET_HOLES_MAX];
    uint32_t n;
    facet_status status; // sticky: FACET_NO_MEMORY
} facet_holes;

void facet_holes_init(facet_holes *holes, facet_arena *arena);
void facet_holes_put(facet_holes *holes, const char *name, const char *format, ...)
    FACET_PRINTF(3, 4);
// "name=value" lines, for telling one set from another.
void facet_holes_print(const facet_holes *holes, facet_text *out);

// Appends the template. A hole without a value, or one that does not close, is FACET_FAILED with
// template:line:col in the sentence.
facet_status facet_template_fill(const char *name, const facet_holes *holes, facet_text *out,
                                 facet_err *err);
// The same for a text given here; `name` is only named in errors.
facet_status facet_template_fill_text(const char *name, const char *text, const facet_holes *holes,
                                      facet_text *out, facet_err *err);

#endif
