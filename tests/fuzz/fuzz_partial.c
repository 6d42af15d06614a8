// SPDX-License-Identifier: Apache-2.0
// The partial file of a prediction, any bytes: only records with their own digest are taken, and a
// run that ends leaves a file that the next one reads to the same records. Input: a byte (even: the
// file begins with the right line), the least size of a record, the rest of the file.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/partial.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { most = 64, room = 100 };

static char path[64];

static void remove_path(void)
{
    unlink(path);
}

static void write_file(const facet_digest *digest, const uint8_t *data, size_t size, bool line)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL) abort();
    if (line) fprintf(file, "facet predict 1 %s\n", digest->hex);
    if (fwrite(data, 1, size, file) != size || fclose(file) != 0) abort();
}

// The sizes of the records taken; one is put behind them when `put` says so.
static size_t read_file(const facet_digest *digest, size_t least, size_t *sizes, bool put)
{
    const facet_tool tool = {.quiet = true};
    facet_partial partial = {.tool = &tool};
    uint8_t record[most];
    size_t n = 0;
    snprintf(partial.path, sizeof partial.path, "%s", path);
    facet_partial_begin(&partial, digest);
    while (n < room && facet_partial_take(&partial, record, least, most, &sizes[n])) {
        if (sizes[n] < least || sizes[n] > most) abort();
        n++;
    }
    memset(record, 7, sizeof record);
    if (put && n < room) {
        facet_partial_put(&partial, record, most);
        if (partial.file != NULL) sizes[n++] = most;
    }
    facet_partial_end(&partial, true);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    if (path[0] == '\0') {
        snprintf(path, sizeof path, "%s/facet-fuzz-partial.%ld",
                 access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp", (long)getpid());
        atexit(remove_path);
    }
    const facet_digest digest = facet_hash("work", 4);
    size_t first[room], second[room];
    const size_t least = data[1] % most;
    write_file(&digest, data + 2, size - 2, data[0] % 2 == 0);
    const size_t n = read_file(&digest, least, first, true);
    // A foreign file is let be, and nothing was put: nothing comes back either.
    const size_t again = read_file(&digest, least, second, false);
    if (n != again || memcmp(first, second, n * sizeof *first) != 0) abort();
    return 0;
}
