// SPDX-License-Identifier: Apache-2.0
// Wisdom: what was written is found, the last line wins, damage is ignored.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "cache/wisdom.h"
#include "tests/support/cache_box.h"
#include "tests/support/failing.h"

static void wisdom(void **state)
{
    facet_box box;
    char path[512];
    facet_wisdom w;
    (void)state;
    facet_box_init(&box);
    snprintf(path, sizeof path, "%s/" FACET_WISDOM_FILE, box.dir);
    assert_int_equal(facet_wisdom_load(path, NULL, &w, NULL), FACET_OK); // missing is empty
    assert_null(facet_wisdom_find(&w, "avx2", "ffn:0"));
    facet_wisdom_fini(&w);
    assert_int_equal(facet_wisdom_append(path, "avx2", "ffn:0", "rows=2", 0.5, NULL), FACET_OK);
    assert_int_equal(facet_wisdom_append(path, "avx2", "ffn:1", "rows=4", 1e-6, NULL), FACET_OK);
    assert_int_equal(facet_wisdom_append(path, "avx2", "ffn:0", "rows=8", 0.25, NULL), FACET_OK);
    assert_int_equal(facet_wisdom_append(path, "", "a", "b", 1, NULL), FACET_BAD_INPUT);
    assert_int_equal(facet_wisdom_append(path, "a b", "a", "b", 1, NULL), FACET_BAD_INPUT);
    assert_int_equal(facet_wisdom_append(path, "a", "b", "c", NAN, NULL), FACET_BAD_INPUT);
    char *text;
    size_t bytes;
    assert_int_equal(facet_file_read(path, 1u << 20, NULL, &text, &bytes, NULL), FACET_OK);
    // Cut at every byte and with every byte changed: never a wrong answer, at worst an older one.
    for (size_t i = 0; i < 2 * bytes; i++) {
        char kept = 0;
        if (i >= bytes) {
            kept = text[i - bytes];
            text[i - bytes] = (char)(kept ^ (char)(1 << i % 7));
        }
        facet_box_write(path, text, i < bytes ? i : bytes);
        if (i >= bytes) text[i - bytes] = kept;
        assert_int_equal(facet_wisdom_append(path, "t", "n", "c", 1, NULL), FACET_OK);
        assert_int_equal(facet_wisdom_load(path, NULL, &w, NULL), FACET_OK);
        assert_non_null(facet_wisdom_find(&w, "t", "n")); // a torn line spoils only itself
        const facet_wisdom_line *line = facet_wisdom_find(&w, "avx2", "ffn:0");
        if (line != NULL)
            assert_true(strcmp(line->choice, "rows=8") == 0 ||
                        (strcmp(line->choice, "rows=2") == 0 && line->seconds == 0.5));
        facet_wisdom_fini(&w);
    }
    facet_box_write(path, text, bytes);
    facet_status status = FACET_NO_MEMORY;
    for (long n = 1; status == FACET_NO_MEMORY; n++) {
        facet_failing failing;
        facet_failing_init(&failing, n);
        status = facet_wisdom_load(path, &failing.alloc, &w, NULL);
        if (status == FACET_OK) {
            assert_string_equal(facet_wisdom_find(&w, "avx2", "ffn:0")->choice, "rows=8");
            assert_true(facet_wisdom_find(&w, "avx2", "ffn:1")->seconds == 1e-6);
            facet_wisdom_fini(&w);
        }
        assert_int_equal(failing.alive, 0);
    }
    facet_mem_free(NULL, text);
    facet_box_fini(&box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(wisdom)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
