// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

void facet_text_init(facet_text *text, const facet_alloc *alloc)
{
    *text = (facet_text){.alloc = alloc};
}

void facet_text_fini(facet_text *text)
{
    facet_mem_free(text->alloc, text->data);
    facet_text_init(text, text->alloc);
}

void facet_text_clear(facet_text *text)
{
    text->length = 0;
    text->status = FACET_OK;
    if (text->data) text->data[0] = '\0';
}

// Room for `extra` more bytes and the terminator.
static bool reserve(facet_text *text, size_t extra)
{
    size_t needed;
    if (text->status != FACET_OK) return false;
    if (!facet_add_size(text->length, extra, &needed) || !facet_add_size(needed, 1, &needed)) {
        text->status = FACET_NO_MEMORY;
        return false;
    }
    if (needed <= text->capacity) return true;
    size_t capacity = text->capacity ? text->capacity : 128;
    while (capacity < needed)
        capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
    char *data = facet_mem_resize(text->alloc, text->data, capacity, 1);
    if (!data) {
        text->status = FACET_NO_MEMORY;
        return false;
    }
    text->data = data;
    text->capacity = capacity;
    return true;
}

void facet_text_put(facet_text *text, const void *data, size_t bytes)
{
    if (!reserve(text, bytes)) return;
    if (bytes) memcpy(text->data + text->length, data, bytes);
    text->length += bytes;
    text->data[text->length] = '\0';
}

void facet_text_puts(facet_text *text, const char *s)
{
    facet_text_put(text, s, strlen(s));
}

void facet_text_addv(facet_text *text, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    const int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0) {
        text->status = FACET_FAILED;
        return;
    }
    if (!reserve(text, (size_t)length)) return;
    vsnprintf(text->data + text->length, (size_t)length + 1, format, args);
    text->length += (size_t)length;
}

void facet_text_add(facet_text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    facet_text_addv(text, format, args);
    va_end(args);
}

void facet_text_add_number(facet_text *text, double value)
{
    char digits[40];
    if (!isfinite(value)) {
        facet_text_puts(text, "null");
        return;
    }
    snprintf(digits, sizeof digits, "%.9g", value);
    for (char *c = digits; *c; c++)
        if (*c == ',') *c = '.'; // a host program's locale
    facet_text_puts(text, digits);
}

const char *facet_text_str(const facet_text *text)
{
    return text->data ? text->data : "";
}

char *facet_text_take(facet_text *text)
{
    if (!reserve(text, 0)) return NULL;
    char *data = text->data;
    data[text->length] = '\0';
    facet_text_init(text, text->alloc);
    return data;
}

facet_status facet_text_status(const facet_text *text, facet_err *err)
{
    if (text->status == FACET_OK) return FACET_OK;
    if (text->status == FACET_NO_MEMORY) return facet_fail_memory(err, text->length);
    return facet_fail(err, text->status, "text: cannot format; this is a fault of facet");
}

// ---- numbers ----------------------------------------------------------------------------------

bool facet_parse_u64(const char *s, uint64_t *out)
{
    uint64_t value = 0;
    if (!*s) return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9') return false;
        const uint64_t digit = (uint64_t)(*s - '0');
        if (value > (UINT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

// Digits, point and exponent are accumulated by hand: strtod depends on the locale.
static const char *scan_digits(const char *s, double *value, int *count)
{
    for (; *s >= '0' && *s <= '9'; s++, ++*count)
        *value = *value * 10 + (*s - '0');
    return s;
}

static const char *scan_exponent(const char *s, int *exponent)
{
    int sign = 1, value = 0, count = 0;
    if (*s != 'e' && *s != 'E') return s;
    s++;
    if (*s == '-' || *s == '+') sign = *s++ == '-' ? -1 : 1;
    for (; *s >= '0' && *s <= '9'; s++, count++)
        if (value < 10000) value = value * 10 + (*s - '0');
    *exponent += sign * value;
    return count ? s : NULL;
}

bool facet_parse_double(const char *s, double *out)
{
    double value = 0;
    int whole = 0, fraction = 0, exponent = 0;
    const bool negative = *s == '-';
    if (*s == '-' || *s == '+') s++;
    s = scan_digits(s, &value, &whole);
    if (*s == '.') s = scan_digits(s + 1, &value, &fraction);
    if (whole + fraction == 0) return false;
    exponent -= fraction;
    s = scan_exponent(s, &exponent);
    if (!s || *s) return false;
    // Division keeps short decimals (0.1 = 1 / 10) correctly rounded; multiplication would not.
    value = exponent < 0 ? value / pow(10, -exponent) : value * pow(10, exponent);
    if (!isfinite(value)) return false;
    *out = negative ? -value : value;
    return true;
}
