// SPDX-License-Identifier: Apache-2.0
#include "tests/support/sample_ids.h"

#include <ctype.h>
#include <stdlib.h>

#include "base/file.h"

// Both arrays are large enough for one id per two characters.
static void parse(char *text, facet_samples *samples)
{
    char *at = text;
    while (*at) {
        uint32_t n = 0;
        while (*at && *at != '\n') {
            if (isdigit((unsigned char)*at)) {
                samples->tokens[samples->n_tokens++] = (uint32_t)strtoul(at, &at, 10);
                n++;
            } else {
                at++;
            }
        }
        if (*at) at++;
        if (n > 0) samples->lengths[samples->n++] = n;
    }
}

facet_status facet_sample_ids_load(const char *path, facet_samples *samples, facet_err *err)
{
    char *text = NULL;
    size_t bytes;
    FACET_TRY(facet_file_read(path, 1u << 24, NULL, &text, &bytes, err));
    facet_samples made = {0};
    made.tokens = facet_mem_new(NULL, bytes / 2 + 1, sizeof *made.tokens);
    made.lengths = facet_mem_new(NULL, bytes / 2 + 1, sizeof *made.lengths);
    const bool ok = made.tokens && made.lengths;
    if (ok) parse(text, &made);
    facet_mem_free(NULL, text);
    if (!ok) {
        facet_sample_ids_fini(&made);
        return facet_fail_memory(err, bytes / 2 * sizeof *made.tokens);
    }
    *samples = made;
    return FACET_OK;
}

void facet_sample_ids_fini(facet_samples *samples)
{
    facet_mem_free(NULL, samples->tokens);
    facet_mem_free(NULL, samples->lengths);
    *samples = (facet_samples){0};
}
