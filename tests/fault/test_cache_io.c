// SPDX-License-Identifier: Apache-2.0
// kill -9 before and in the middle of every system call that the cache makes, and every one of them
// failing. This program defines the calls itself, so the code under test reaches these first.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "tests/support/cache_box.h"

// ---- the calls --------------------------------------------------------------------------------

static struct {
    long calls, at; // the at-th call is hit; 0: none
    bool dies;      // by SIGKILL, else it fails
    bool onwards;   // so do all later ones
    int error;
    const char *below; // only calls that name a path below this one; NULL: all
} trap;

// Counts a call on `path` (NULL: by descriptor); true when it must fail now. It does not return
// when the process must die; `half` then runs first.
static bool trapped(const char *path)
{
    if (trap.at == 0) return false;
    if (trap.below != NULL && (path == NULL || strncmp(path, trap.below, strlen(trap.below)) != 0))
        return false;
    trap.calls++;
    if (trap.calls != trap.at && !(trap.onwards && trap.calls > trap.at)) return false;
    if (trap.dies) kill(getpid(), SIGKILL);
    errno = trap.error;
    return true;
}

// Will the next call by descriptor be the one to die in?
static bool dies_next(void)
{
    return trap.at != 0 && trap.dies && trap.below == NULL && trap.calls + 1 == trap.at;
}

static void *real(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (function == NULL) _exit(9);
    return function;
}
#define REAL(result, name, ...)                                                                    \
    union {                                                                                        \
        void *from;                                                                                \
        result (*call)(__VA_ARGS__);                                                               \
    } next = {.from = real(name)}

int open(const char *path, int flags, ...)
{
    REAL(int, "open", const char *, int, ...);
    va_list args;
    va_start(args, flags);
    const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    return trapped(path) ? -1 : next.call(path, flags, mode);
}

ssize_t write(int fd, const void *data, size_t bytes)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    if (dies_next()) next.call(fd, data, bytes / 2);
    return trapped(NULL) ? -1 : next.call(fd, data, bytes);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at)
{
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    if (dies_next()) next.call(fd, data, bytes / 2, at);
    return trapped(NULL) ? -1 : next.call(fd, data, bytes, at);
}

ssize_t read(int fd, void *data, size_t bytes)
{
    REAL(ssize_t, "read", int, void *, size_t);
    return trapped(NULL) ? -1 : next.call(fd, data, bytes);
}

int fsync(int fd)
{
    REAL(int, "fsync", int);
    return trapped(NULL) ? -1 : next.call(fd);
}

int ftruncate(int fd, off_t bytes)
{
    REAL(int, "ftruncate", int, off_t);
    return trapped(NULL) ? -1 : next.call(fd, bytes);
}

int flock(int fd, int operation)
{
    REAL(int, "flock", int, int);
    return trapped(NULL) ? -1 : next.call(fd, operation);
}

int utimensat(int fd, const char *path, const struct timespec times[2], int flags)
{
    REAL(int, "utimensat", int, const char *, const struct timespec *, int);
    return trapped(path) ? -1 : next.call(fd, path, times, flags);
}

int rename(const char *from, const char *to)
{
    REAL(int, "rename", const char *, const char *);
    return trapped(to) ? -1 : next.call(from, to);
}

// renameat2 is called by number.
long syscall(long number, ...)
{
    REAL(long, "syscall", long, ...);
    va_list args;
    va_start(args, number);
    const long a = va_arg(args, long);
    const char *from = va_arg(args, const char *);
    const long c = va_arg(args, long);
    const char *to = va_arg(args, const char *);
    const long e = va_arg(args, long);
    va_end(args);
    return trapped(to) ? -1 : next.call(number, a, from, c, to, e);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(int, "mkdir", const char *, mode_t);
    return trapped(path) ? -1 : next.call(path, mode);
}

char *mkdtemp(char *path)
{
    REAL(char *, "mkdtemp", char *);
    return trapped(path) ? NULL : next.call(path);
}

int mkstemp(char *path)
{
    REAL(int, "mkstemp", char *);
    return trapped(path) ? -1 : next.call(path);
}

int unlink(const char *path)
{
    REAL(int, "unlink", const char *);
    return trapped(path) ? -1 : next.call(path);
}

int rmdir(const char *path)
{
    REAL(int, "rmdir", const char *);
    return trapped(path) ? -1 : next.call(path);
}

DIR *opendir(const char *path)
{
    REAL(DIR *, "opendir", const char *);
    return trapped(path) ? NULL : next.call(path);
}

// ---- what is done under them ------------------------------------------------------------------

#define TEXT "object code of some length"

static facet_box box;

static facet_status get_file(facet_cache *cache, const char *recipe, facet_cache_hit *hit)
{
    facet_box_job job = {.text = TEXT};
    return facet_cache_get(cache, recipe, facet_box_build, &job, hit, NULL);
}

static facet_status get_tree(facet_cache *cache, facet_cache_hit *hit)
{
    facet_box_job job = {.text = TEXT};
    return facet_cache_get_dir(cache, "tree\n", facet_box_build_dir, &job, hit, NULL);
}

// Whatever is answered must be right.
static facet_status checked(facet_status status, const facet_cache_hit *hit, const char *name)
{
    char path[4096 + 16];
    if (status != FACET_OK) return status;
    const long at = trap.at;
    trap.at = 0;
    snprintf(path, sizeof path, "%s%s", hit->path, name);
    if (!facet_box_same(path, TEXT)) abort();
    trap.at = at;
    return status;
}

static facet_status use(facet_cache_mode mode)
{
    facet_cache_opts opts = facet_box_opts(&box);
    facet_cache *cache;
    facet_cache_hit hit;
    opts.mode = mode;
    opts.lock_timeout_ms = 50;
    facet_status status = facet_cache_open(&opts, &cache, NULL);
    if (status != FACET_OK) return status;
    status = checked(get_file(cache, "file\n", &hit), &hit, "");
    const facet_status tree = checked(get_tree(cache, &hit), &hit, "/sub/b");
    facet_cache_close(cache);
    return status != FACET_OK ? status : tree;
}

static facet_status fill(void)
{
    return use(FACET_CACHE_AUTO);
}

static facet_status replace(void)
{
    return use(FACET_CACHE_REBUILD);
}

static facet_status trim(void)
{
    facet_cache_opts opts = facet_box_opts(&box);
    facet_cache *cache;
    FACET_TRY(facet_cache_open(&opts, &cache, NULL));
    facet_status status = facet_cache_trim(cache, 0, NULL, NULL);
    facet_cache_close(cache);
    return status;
}

static void remove_entries(void)
{
    char path[512];
    snprintf(path, sizeof path, "%s/entries", box.root);
    assert_int_equal(facet_dir_remove(path, NULL), FACET_OK);
}

static void damage(void)
{
    char path[1024];
    facet_box_entry(&box, "file\n", "payload", path, sizeof path);
    facet_box_write(path, "object cod", 10);
}

static void nothing(void) {}

static const struct {
    void (*before)(void);
    facet_status (*run)(void);
} scenes[] = {{remove_entries, fill}, {nothing, replace}, {damage, fill}, {nothing, trim}};

// Nothing half-made may have a name: all that is found is whole, and everything works again.
static void check_after(const char *what, long n)
{
    facet_cache_opts opts = facet_box_opts(&box);
    facet_cache *cache;
    uint64_t good, bad;
    trap.at = 0;
    assert_int_equal(facet_cache_open(&opts, &cache, NULL), FACET_OK);
    assert_int_equal(facet_cache_verify(cache, &good, &bad, NULL), FACET_OK);
    facet_cache_close(cache);
    if (bad > 0) fail_msg("%s at call %ld left %d bad entries", what, n, (int)bad);
    const int warnings = box.warnings;
    assert_int_equal(fill(), FACET_OK);
    assert_int_equal(box.warnings, warnings);
}

static bool dies(facet_status (*run)(void), long n)
{
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        trap.calls = 0;
        trap.dies = true;
        trap.at = n;
        _exit(run() == FACET_OK ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return false;
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return true;
}

static void make_stale(const char *name)
{
    char path[512];
    const struct timespec times[2] = {{1000, 0}, {1000, 0}};
    snprintf(path, sizeof path, "%s/%s", box.root, name);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            utimensat(dirfd(dir), entry->d_name, times, 0);
    closedir(dir);
}

static void killed(void **state)
{
    char path[512];
    long kills = 0;
    (void)state;
    facet_box_init(&box);
    assert_int_equal(fill(), FACET_OK);
    for (size_t s = 0; s < FACET_COUNT_OF(scenes); s++) {
        bool died = true;
        for (long n = 1; died; n++) {
            scenes[s].before();
            died = dies(scenes[s].run, n);
            kills += died;
            // A damaged entry that nobody got to put away is not the kill's fault.
            if (scenes[s].before == damage) assert_int_equal(fill(), FACET_OK);
            check_after("kill", n);
        }
    }
    printf("%ld kills\n", kills);
    assert_true(kills > 200);
    // What the dead left behind goes once it is old.
    make_stale("tmp");
    make_stale("locks");
    assert_int_equal(fill(), FACET_OK);
    snprintf(path, sizeof path, "%s/tmp", box.root);
    assert_int_equal(facet_box_count(path), 0);
    snprintf(path, sizeof path, "%s/locks", box.root);
    assert_int_equal(facet_box_count(path), 0);
    facet_box_fini(&box);
}

// A call that fails costs at most that request; it never gives wrong bytes and leaves nothing
// wrong.
static void failing(void **state)
{
    static const int errors[] = {EIO, EMFILE};
    (void)state;
    facet_box_init(&box);
    assert_int_equal(fill(), FACET_OK);
    for (size_t i = 0; i < 2 * FACET_COUNT_OF(errors); i++) {
        for (size_t s = 0; s < FACET_COUNT_OF(scenes); s++) {
            for (long n = 1;; n++) {
                scenes[s].before();
                trap.calls = 0;
                trap.dies = false;
                trap.error = errors[i / 2];
                trap.onwards = i % 2 == 1;
                trap.at = n;
                scenes[s].run();
                const bool reached = trap.calls >= n;
                trap.at = 0;
                if (scenes[s].before == damage) assert_int_equal(fill(), FACET_OK);
                check_after(strerror(errors[i / 2]), n);
                if (!reached) break;
            }
        }
    }
    facet_box_fini(&box);
}

// When only the cache's own directory fails, from any call on, the user still gets what was asked.
static void cache_fails(void **state)
{
    static const int errors[] = {ENOSPC, EACCES};
    (void)state;
    facet_box_init(&box);
    assert_int_equal(fill(), FACET_OK);
    for (size_t i = 0; i < 2 * FACET_COUNT_OF(errors); i++) {
        for (size_t s = 0; s + 1 < FACET_COUNT_OF(scenes); s++) {
            for (long n = 1;; n++) {
                scenes[s].before();
                box.warnings = 0;
                trap.calls = 0;
                trap.dies = false;
                trap.error = errors[i / 2];
                trap.onwards = i % 2 == 1;
                trap.below = box.root;
                trap.at = n;
                const facet_status status = scenes[s].run();
                const bool reached = trap.calls >= n;
                trap.at = 0;
                trap.below = NULL;
                if (status != FACET_OK)
                    fail_msg("%s at call %ld of scene %d: status %d", strerror(errors[i / 2]), n,
                             (int)s, (int)status);
                assert_true(box.warnings <= 1);
                if (scenes[s].before == damage) assert_int_equal(fill(), FACET_OK);
                check_after(strerror(errors[i / 2]), n);
                if (!reached) break;
            }
        }
    }
    facet_box_fini(&box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed),
        cmocka_unit_test(failing),
        cmocka_unit_test(cache_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
