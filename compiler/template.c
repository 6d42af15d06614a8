// SPDX-License-Identifier: Apache-2.0
#include "compiler/template.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "compiler/embedded.h"

void facet_holes_init(facet_holes *holes, facet_arena *arena)
{
    *holes = (facet_holes){.arena = arena};
}

void facet_holes_put(facet_holes *holes, const char *name, const char *format, ...)
{
    facet_text value;
    facet_text_init(&value, holes->arena->alloc);
    va_list args;
    va_start(args, format);
    facet_text_addv(&value, format, args);
    va_end(args);
    const char *copy = NULL;
    if (value.status == FACET_OK && holes->n < FACET_HOLES_MAX)
        copy = facet_arena_strdup(holes->arena, facet_text_str(&value));
    if (copy)
        holes->list[holes->n++] = (facet_hole){name, copy};
    else
        holes->status = FACET_NO_MEMORY;
    facet_text_fini(&value);
}

void facet_holes_print(const facet_holes *holes, facet_text *out)
{
    for (uint32_t i = 0; i < holes->n; i++)
        facet_text_add(out, "%s=%s\n", holes->list[i].name, holes->list[i].value);
}

static const facet_embedded *find_text(const char *name)
{
    for (uint32_t i = 0; i < facet_embedded_count; i++) {
        if (strcmp(facet_embedded_files[i].name, name) == 0) return &facet_embedded_files[i];
    }
    return NULL;
}

static const char *find_value(const facet_holes *holes, const char *name, size_t length)
{
    for (uint32_t i = 0; holes && i < holes->n; i++) {
        const char *candidate = holes->list[i].name;
        if (strlen(candidate) == length && memcmp(candidate, name, length) == 0)
            return holes->list[i].value;
    }
    return NULL;
}

// Line and column of a place in a template, both from 1.
static facet_status fail_hole(facet_err *err, const char *name, const char *text, const char *at,
                              const char *why)
{
    unsigned line = 1, column = 1;
    for (const char *p = text; p < at; p++) {
        column = *p == '\n' ? 1 : column + 1;
        line += *p == '\n';
    }
    return facet_fail(err, FACET_FAILED, "template %s:%u:%u: %s; see templates/README.md", name,
                      line, column, why);
}

facet_status facet_template_fill_text(const char *name, const char *text, const facet_holes *holes,
                                      facet_text *out, facet_err *err)
{
    const char *rest = text;
    for (const char *hole = strstr(rest, "@{"); hole; hole = strstr(rest, "@{")) {
        facet_text_put(out, rest, (size_t)(hole - rest));
        const char *word = hole + 2;
        const size_t length = strcspn(word, "}\n");
        if (word[length] != '}') return fail_hole(err, name, text, hole, "the hole does not close");
        const char *value = find_value(holes, word, length);
        if (!value) {
            char why[128];
            (void)snprintf(why, sizeof why, "the hole '%.*s' has no value",
                           (int)(length < 64 ? length : 64), word);
            return fail_hole(err, name, text, hole, why);
        }
        facet_text_puts(out, value);
        rest = word + length + 1;
    }
    facet_text_puts(out, rest);
    return facet_text_status(out, err);
}

facet_status facet_template_fill(const char *name, const facet_holes *holes, facet_text *out,
                                 facet_err *err)
{
    if (holes && holes->status != FACET_OK) return facet_fail_memory(err, 0);
    const facet_embedded *file = find_text(name);
    if (!file) return facet_fail(err, FACET_FAILED, "template %s: not part of this program", name);
    return facet_template_fill_text(name, file->text, holes, out, err);
}
