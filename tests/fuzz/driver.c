// SPDX-License-Identifier: Apache-2.0
// Replays inputs through a fuzz harness without a fuzz engine: every file of the folders and files
// given as arguments, in order of names. Fails when there are none.
#include <stdio.h>

#include "base/file.h"
#include "base/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

typedef struct replay {
    const char *folder;
    unsigned count;
} replay;

static facet_status run_file(const char *path, facet_err *err)
{
    char *data;
    size_t bytes;
    FACET_TRY(facet_file_read(path, (size_t)64 << 20, NULL, &data, &bytes, err));
    // A block of exactly the input's size, so that a sanitizer sees reads past its end.
    uint8_t *exact = facet_mem_resize(NULL, data, bytes ? bytes : 1, 1);
    LLVMFuzzerTestOneInput(exact ? exact : (const uint8_t *)data, bytes);
    facet_mem_free(NULL, exact ? (void *)exact : (void *)data);
    return FACET_OK;
}

static facet_status run_entry(void *ctx, const char *name, facet_err *err)
{
    replay *r = ctx;
    char path[4096];
    FACET_TRY(facet_path_join(path, sizeof path, r->folder, name, err));
    FACET_TRY(run_file(path, err));
    r->count++;
    return FACET_OK;
}

int main(int argc, char **argv)
{
    replay r = {0};
    for (int i = 1; i < argc; i++) {
        facet_err err;
        facet_status status;
        r.folder = argv[i];
        if (facet_path_is_dir(argv[i])) {
            status = facet_dir_each(argv[i], run_entry, &r, &err);
        } else {
            status = run_file(argv[i], &err);
            r.count++;
        }
        if (status != FACET_OK) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
    }
    printf("%u inputs\n", r.count);
    return r.count > 0 ? 0 : 1;
}
