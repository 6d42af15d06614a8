// SPDX-License-Identifier: Apache-2.0
#include "tests/support/cache_box.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

static void count_warning(void *ctx, facet_level level, const char *text)
{
    facet_box *box = ctx;
    (void)text;
    if (level == FACET_LOG_WARN) box->warnings++;
}

static void give_up(const char *what)
{
    perror(what);
    exit(1);
}

void facet_box_init(facet_box *box)
{
    const char *parent = getenv("TMPDIR");
    if (parent == NULL && access("/dev/shm", W_OK | X_OK) == 0) parent = "/dev/shm";
    *box = (facet_box){.report = {.log = count_warning}};
    box->report.ctx = box;
    snprintf(box->dir, sizeof box->dir, "%s/facet-test.XXXXXX", parent ? parent : "/tmp");
    if (mkdtemp(box->dir) == NULL) give_up(box->dir);
    snprintf(box->root, sizeof box->root, "%s/cache", box->dir);
    snprintf(box->temp, sizeof box->temp, "%s/temp", box->dir);
    if (mkdir(box->temp, 0700) != 0) give_up(box->temp);
}

void facet_box_fini(facet_box *box)
{
    facet_dir_remove(box->dir, NULL);
}

facet_cache_opts facet_box_opts(facet_box *box)
{
    return (facet_cache_opts){.root = box->root, .temp_parent = box->temp, .report = &box->report};
}

static facet_status write_text(const char *path, const char *text, facet_err *err)
{
    return facet_file_write(path, text, strlen(text), false, err);
}

static facet_status finish(facet_box_job *job, facet_err *err)
{
    job->builds++;
    if (job->delay_us > 0) {
        const struct timespec pause = {job->delay_us / 1000000, job->delay_us % 1000000 * 1000};
        nanosleep(&pause, NULL);
    }
    return job->answer == FACET_OK ? FACET_OK : facet_fail(err, job->answer, "the job says so");
}

facet_status facet_box_build(void *ctx, const char *dir, const char *path, facet_err *err)
{
    facet_box_job *job = ctx;
    char work[4096];
    FACET_TRY(facet_path_join(work, sizeof work, dir, "work.c", err));
    FACET_TRY(write_text(work, "left behind", err));
    FACET_TRY(write_text(path, job->text, err));
    return finish(job, err);
}

facet_status facet_box_build_dir(void *ctx, const char *dir, const char *path, facet_err *err)
{
    facet_box_job *job = ctx;
    char file[4096];
    (void)dir;
    FACET_TRY(facet_dir_make(path, 0700, err));
    FACET_TRY(facet_path_join(file, sizeof file, path, "a", err));
    FACET_TRY(write_text(file, job->text, err));
    FACET_TRY(facet_path_join(file, sizeof file, path, "sub", err));
    FACET_TRY(facet_dir_make(file, 0700, err));
    FACET_TRY(facet_path_join(file, sizeof file, path, "sub/b", err));
    FACET_TRY(write_text(file, job->text, err));
    if (job->big_bytes == 0) return finish(job, err);
    FACET_TRY(facet_path_join(file, sizeof file, path, "big", err));
    char *data = facet_mem_new(NULL, job->big_bytes, 1);
    if (data == NULL) return facet_fail_memory(err, job->big_bytes);
    facet_status status = facet_file_write(file, data, job->big_bytes, false, err);
    facet_mem_free(NULL, data);
    FACET_TRY(status);
    return finish(job, err);
}

bool facet_box_same(const char *path, const char *text)
{
    char *data;
    size_t bytes;
    if (facet_file_read(path, 1u << 20, NULL, &data, &bytes, NULL) != FACET_OK) return false;
    const bool same = bytes == strlen(text) && memcmp(data, text, bytes) == 0;
    facet_mem_free(NULL, data);
    return same;
}

void facet_box_write(const char *path, const void *data, size_t bytes)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, data, bytes) != (ssize_t)bytes) give_up(path);
    close(fd);
}

void facet_box_entry(const facet_box *box, const char *recipe, const char *name, char *out,
                     size_t capacity)
{
    const facet_digest key = facet_hash(recipe, strlen(recipe));
    snprintf(out, capacity, "%s/entries/%s%s%s", box->root, key.hex, name[0] ? "/" : "", name);
}

static facet_status count_one(void *ctx, const char *name, facet_err *err)
{
    (void)name, (void)err;
    ++*(size_t *)ctx;
    return FACET_OK;
}

size_t facet_box_count(const char *dir)
{
    size_t n = 0;
    facet_dir_each(dir, count_one, &n, NULL);
    return n;
}
