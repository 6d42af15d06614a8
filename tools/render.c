// SPDX-License-Identifier: Apache-2.0
// A document as text for people:
//
//     name     value            scalars and short lists, names aligned
//     name:                     objects, indented
//       inner  value
//     name:                     arrays of objects, as a table
//       column  column
#include <stdio.h>
#include <string.h>

#include "tools/output.h"

enum { LIST_SHOWN = 12, CELL_SHOWN = 48, TEXT_SHOWN = 160, COLUMNS = 24 };

static void add_scalar(const cJSON *item, facet_text *out)
{
    if (cJSON_IsString(item))
        facet_text_puts(out, item->valuestring);
    else if (cJSON_IsNumber(item))
        facet_text_add(out, "%.9g", item->valuedouble);
    else
        facet_text_puts(out, cJSON_IsNull(item) ? "-" : cJSON_IsTrue(item) ? "yes" : "no");
}

static bool is_flat(const cJSON *item)
{
    if (cJSON_IsObject(item)) return false;
    if (!cJSON_IsArray(item)) return true;
    return item->child == NULL || !(cJSON_IsObject(item->child) || cJSON_IsArray(item->child));
}

// A scalar, or the first elements of a list of them.
static void add_flat(const cJSON *item, facet_text *out)
{
    if (!cJSON_IsArray(item)) {
        add_scalar(item, out);
        return;
    }
    int shown = 0;
    for (const cJSON *e = item->child; e != NULL; e = e->next, shown++) {
        if (shown > 0) facet_text_puts(out, " ");
        if (shown == LIST_SHOWN) {
            facet_text_add(out, "... (%d)", cJSON_GetArraySize(item));
            break;
        }
        add_scalar(e, out);
    }
    if (shown == 0) facet_text_puts(out, "-");
}

// name=value name=value, objects inside by name.name=value.
static void add_pairs(const cJSON *object, const char *prefix, facet_text *text)
{
    for (const cJSON *e = object->child; e != NULL; e = e->next) {
        char name[96];
        (void)snprintf(name, sizeof name, "%s%s", prefix, e->string);
        if (cJSON_IsObject(e)) {
            (void)snprintf(name, sizeof name, "%s%s.", prefix, e->string);
            add_pairs(e, name, text);
            continue;
        }
        facet_text_add(text, "%s%s=", text->length > 0 ? " " : "", name);
        add_flat(e, text);
    }
}

static size_t cell(const cJSON *row, const char *name, facet_text *text)
{
    facet_text_clear(text);
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(row, name);
    if (item != NULL && is_flat(item)) add_flat(item, text);
    if (item != NULL && cJSON_IsObject(item)) add_pairs(item, "", text);
    if (text->length == 0) facet_text_puts(text, "-");
    for (size_t i = 0; i < text->length; i++) // a row is a line
        if ((unsigned char)text->data[i] < ' ') text->data[i] = ' ';
    // Pairs are a last column's; lists are cut, names are not.
    const size_t shown = item != NULL && cJSON_IsArray(item) ? CELL_SHOWN : TEXT_SHOWN;
    return text->length < shown ? text->length : shown;
}

static size_t column_width(const cJSON *rows, const char *name, facet_text *text)
{
    size_t width = strlen(name);
    for (const cJSON *row = rows->child; row != NULL; row = row->next) {
        size_t n = cell(row, name, text);
        if (n > width) width = n;
    }
    return width;
}

// Columns are the fields of the first row; later rows may lack some.
static void add_table(const cJSON *rows, int indent, facet_text *out)
{
    facet_text text;
    facet_text_init(&text, NULL);
    size_t widths[COLUMNS] = {0};
    const cJSON *columns = rows->child->child;
    size_t i = 0;
    for (const cJSON *c = columns; c != NULL && i < COLUMNS; c = c->next)
        widths[i++] = column_width(rows, c->string, &text);
    for (const cJSON *row = NULL;; row = row == NULL ? rows->child : row->next) {
        if (row == NULL && i == 0) break;
        i = 0;
        facet_text_add(out, "%*s", indent, "");
        for (const cJSON *c = columns; c != NULL && i < COLUMNS; c = c->next, i++) {
            facet_text_clear(&text);
            if (row == NULL)
                facet_text_puts(&text, c->string);
            else
                (void)cell(row, c->string, &text);
            int width = (int)widths[i];
            if (c->next != NULL)
                facet_text_add(out, "%-*.*s  ", width, width, facet_text_str(&text));
            else
                facet_text_add(out, "%.*s", width, facet_text_str(&text));
        }
        facet_text_puts(out, "\n");
        if (row != NULL && row->next == NULL) break;
    }
    facet_text_fini(&text);
}

static void add_object(const cJSON *object, int indent, facet_text *out)
{
    int width = 0;
    for (const cJSON *item = object->child; item != NULL; item = item->next) {
        int n = is_flat(item) ? (int)strlen(item->string) : 0;
        if (n > width) width = n;
    }
    for (const cJSON *item = object->child; item != NULL; item = item->next) {
        if (is_flat(item)) {
            facet_text_add(out, "%*s%-*s  ", indent, "", width, item->string);
            add_flat(item, out);
            facet_text_puts(out, "\n");
            continue;
        }
        facet_text_add(out, "%*s%s:\n", indent, "", item->string);
        if (cJSON_IsObject(item))
            add_object(item, indent + 2, out);
        else if (cJSON_IsObject(item->child))
            add_table(item, indent + 2, out);
        else
            for (const cJSON *row = item->child; row != NULL; row = row->next) {
                facet_text_add(out, "%*s", indent + 2, "");
                add_flat(row, out);
                facet_text_puts(out, "\n");
            }
    }
}

void facet_render(const cJSON *doc, facet_text *out)
{
    add_object(doc, 0, out);
}
