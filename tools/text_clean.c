// SPDX-License-Identifier: Apache-2.0
// Tokens cut characters in two and models write what they like: what leaves for a terminal is held
// back until a character is whole, and what leaves in JSON is made valid.
#include "tools/output.h"

// Bytes of the valid sequence at `s`, 0 when there is none; *partial: it may still become one.
static size_t sequence(const unsigned char *s, size_t n, bool *partial)
{
    *partial = false;
    unsigned c = s[0];
    if (c < 0x80) return 1;
    size_t need = c >= 0xC2 && c <= 0xDF   ? 2
                  : c >= 0xE0 && c <= 0xEF ? 3
                  : c >= 0xF0 && c <= 0xF4 ? 4
                                           : 0;
    if (need == 0) return 0;
    // The second byte's range excludes overlong forms, surrogates and what lies past U+10FFFF.
    unsigned low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    unsigned high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    for (size_t i = 1; i < need; i++) {
        if (i >= n) {
            *partial = true;
            return 0;
        }
        if (s[i] < low || s[i] > high) return 0;
        low = 0x80;
        high = 0xBF;
    }
    return need;
}

void facet_utf8_clean(const char *text, size_t bytes, facet_text *out)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t begin = 0;
    for (size_t i = 0; i < bytes;) {
        bool partial;
        size_t n = s[i] == 0 ? 0 : sequence(s + i, bytes - i, &partial);
        if (n == 0) {
            facet_text_put(out, text + begin, i - begin);
            facet_text_puts(out, "\xEF\xBF\xBD");
            begin = ++i;
        } else {
            i += n;
        }
    }
    facet_text_put(out, text + begin, bytes - begin);
}

size_t facet_utf8_whole(const char *text, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t back = bytes < 3 ? bytes : 3;
    for (size_t i = bytes - back; i < bytes; i++) {
        bool partial;
        if (s[i] >= 0xC0 && sequence(s + i, bytes - i, &partial) == 0 && partial) return i;
    }
    return bytes;
}

bool facet_utf8_valid(const char *text, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < bytes;) {
        bool partial;
        size_t n = sequence(s + i, bytes - i, &partial);
        if (n == 0) return false;
        i += n;
    }
    return true;
}
