// SPDX-License-Identifier: Apache-2.0
#include "tools/partial.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "tools/output.h"

static const char magic[] = "facet predict 1 ";
enum { MAGIC = sizeof magic - 1, DIGEST = FACET_DIGEST_HEX - 1, HEAD = 8 + DIGEST };

static void give_up(facet_partial *partial, const char *why, bool let_be)
{
    facet_output_warn(partial->tool, "%s: %s; an interrupt will lose the work", partial->path, why);
    facet_partial_end(partial, let_be);
}

// No more records are to be had: what follows the last good one is cut off.
static void cut(facet_partial *partial)
{
    if (partial->old.bytes > partial->at)
        facet_output_warn(partial->tool,
                          "%s: is of another command or damaged at byte %llu; "
                          "the rest is done again",
                          partial->path, (unsigned long long)partial->at);
    facet_map_close(&partial->old);
    if (ftruncate(fileno(partial->file), (off_t)partial->at) != 0 ||
        fseeko(partial->file, (off_t)partial->at, SEEK_SET) != 0)
        give_up(partial, strerror(errno), false);
}

static void write_some(facet_partial *partial, const void *data, size_t bytes)
{
    if (partial->file != NULL && fwrite(data, 1, bytes, partial->file) != bytes)
        give_up(partial, strerror(errno), false);
}

void facet_partial_begin(facet_partial *partial, const facet_digest *digest)
{
    char line[MAGIC + DIGEST + 2];
    const size_t n = (size_t)snprintf(line, sizeof line, "%s%s\n", magic, digest->hex);
    const int fd =
        open(partial->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    partial->file = fd >= 0 ? fdopen(fd, "r+b") : NULL;
    if (partial->file == NULL || flock(fd, LOCK_EX | LOCK_NB) != 0) {
        give_up(partial, errno == EWOULDBLOCK ? "another process writes it" : strerror(errno),
                true);
        return;
    }
    const facet_status status = facet_map_open(partial->path, &partial->old, NULL);
    const size_t n_old = partial->old.bytes < MAGIC ? partial->old.bytes : MAGIC;
    if (status != FACET_OK || (n_old > 0 && memcmp(partial->old.data, magic, n_old) != 0)) {
        give_up(partial, "is no work of facet predict and is let be", true);
        return;
    }
    if (partial->old.bytes >= n && memcmp(partial->old.data, line, n) == 0) {
        partial->at = n;
        facet_output_note(partial->tool, "%s: taken up again", partial->path);
        return;
    }
    cut(partial);
    write_some(partial, line, n);
}

bool facet_partial_take(facet_partial *partial, void *data, size_t least, size_t most,
                        size_t *bytes)
{
    if (partial == NULL || partial->old.data == NULL) return false;
    const uint8_t *record = partial->old.data + partial->at;
    const uint64_t left = partial->old.bytes - partial->at;
    uint64_t size = 0;
    if (left >= HEAD) memcpy(&size, record, sizeof size);
    if (left >= HEAD && size >= least && size <= most && size <= left - HEAD &&
        memcmp(facet_hash(record + HEAD, (size_t)size).hex, record + 8, DIGEST) == 0) {
        memcpy(data, record + HEAD, (size_t)size);
        partial->at += HEAD + size;
        *bytes = (size_t)size;
        return true;
    }
    cut(partial);
    return false;
}

void facet_partial_put(facet_partial *partial, const void *data, size_t bytes)
{
    if (partial == NULL || partial->file == NULL) return;
    const uint64_t size = bytes;
    write_some(partial, &size, sizeof size);
    write_some(partial, facet_hash(data, bytes).hex, DIGEST);
    write_some(partial, data, bytes);
    if (partial->file != NULL && fflush(partial->file) != 0)
        give_up(partial, strerror(errno), false);
}

void facet_partial_end(facet_partial *partial, bool of_use)
{
    facet_map_close(&partial->old);
    if (partial->file == NULL) return;
    if (!of_use) unlink(partial->path);
    fclose(partial->file);
    partial->file = NULL;
}
