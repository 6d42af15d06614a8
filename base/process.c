// SPDX-License-Identifier: Apache-2.0
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"

#define OUTPUT_LIMIT ((size_t)1 << 20)

static bool is_program(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

facet_status facet_process_find(const char *name, char *out, size_t capacity, facet_err *err)
{
    if (strchr(name, '/')) {
        const int n = snprintf(out, capacity, "%s", name);
        if (n > 0 && (size_t)n < capacity && is_program(name)) return FACET_OK;
        return facet_fail(err, FACET_NOT_FOUND, "%s: no such program; check the path", name);
    }
    const char *path = getenv("PATH"); // what exec itself would read
    for (const char *at = path ? path : "/usr/local/bin:/usr/bin:/bin"; *name && at;) {
        const char *colon = strchr(at, ':');
        const int length = colon ? (int)(colon - at) : (int)strlen(at);
        const int n = snprintf(out, capacity, "%.*s/%s", length, at, name);
        if (length > 0 && n > 0 && (size_t)n < capacity && is_program(out)) return FACET_OK;
        at = colon ? colon + 1 : NULL;
    }
    return facet_fail(err, FACET_NOT_FOUND, "%s: no such program in PATH; install it", name);
}

// Between fork and exec only async-signal-safe calls are allowed.
static void run_child(const char *program, const char *const *argv, const char *cwd, int output,
                      int report)
{
    union {
        const char *const *in;
        char *const *out;
    } arguments = {.in = argv};
    const int null = open("/dev/null", O_RDWR);
    setpgid(0, 0);
    if (null >= 0) dup2(null, STDIN_FILENO);
    dup2(output >= 0 ? output : null, STDOUT_FILENO);
    dup2(output >= 0 ? output : null, STDERR_FILENO);
    if (!cwd || chdir(cwd) == 0) execv(program, arguments.out);
    const int error = errno;
    const ssize_t n = write(report, &error, sizeof error);
    _exit(n == (ssize_t)sizeof error ? 127 : 126);
}

static void read_some(int fd, facet_text *output, bool *open)
{
    char buffer[4096];
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (n <= 0) {
        *open = false;
        return;
    }
    if (output->length < OUTPUT_LIMIT) facet_text_put(output, buffer, (size_t)n);
}

static int wait_ms(uint64_t start, unsigned timeout_ms)
{
    if (timeout_ms == 0) return 100;
    const uint64_t gone = (facet_clock_ns() - start) / 1000000u;
    if (gone >= timeout_ms) return 0;
    return (int)(timeout_ms - gone < 100 ? timeout_ms - gone : 100);
}

// Reads until the pipe closes or the time is up; the child may outlive its pipe, so waitpid polls
// too.
static void supervise(pid_t child, int fd, const facet_process_opts *opts, facet_text *output,
                      facet_process_result *result)
{
    const uint64_t start = facet_clock_ns();
    const unsigned timeout_ms = opts ? opts->timeout_ms : 0;
    bool open = fd >= 0;
    int state = 0;
    pid_t done = 0;
    while (open || done == 0) {
        const int pause = wait_ms(start, timeout_ms);
        if (pause == 0 && !result->timed_out) {
            result->timed_out = true;
            kill(-child, SIGKILL);
            kill(child, SIGKILL);
        }
        struct pollfd polled = {.fd = open ? fd : -1, .events = POLLIN};
        poll(&polled, 1, done == 0 ? (open ? pause : 1) : 0);
        if (open && polled.revents)
            read_some(fd, output, &open);
        else if (done != 0)
            open = false; // a grandchild keeps the pipe: not our child any more
        if (done == 0) done = waitpid(child, &state, WNOHANG);
        if (done < 0 && errno == EINTR) done = 0;
    }
    result->exit_status = done > 0 && WIFEXITED(state) ? WEXITSTATUS(state) : -1;
    result->signal = done > 0 && WIFSIGNALED(state) ? WTERMSIG(state) : 0;
}

static bool pipe_private(int ends[2])
{
    if (pipe(ends) != 0) return false;
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    return true;
}

static void close_end(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

facet_status facet_process_run(const char *const *argv, const facet_process_opts *opts,
                               facet_text *output, facet_process_result *result, facet_err *err)
{
    char program[4096];
    FACET_TRY(facet_process_find(argv[0], program, sizeof program, err));
    int out[2] = {-1, -1}, report[2] = {-1, -1};
    facet_status status = FACET_OK;
    facet_process_result local = {0};
    if ((output && !pipe_private(out)) || !pipe_private(report)) {
        status = facet_fail_errno(err, errno, argv[0], "make a pipe for");
        goto done;
    }
    const pid_t child = fork();
    if (child < 0) {
        status = facet_fail_errno(err, errno, argv[0], "start");
        goto done;
    }
    if (child == 0) run_child(program, argv, opts ? opts->cwd : NULL, out[1], report[1]);
    setpgid(child, child);
    close_end(&out[1]);
    close_end(&report[1]);
    supervise(child, out[0], opts, output, &local);
    int error = 0;
    if (read(report[0], &error, sizeof error) == (ssize_t)sizeof error)
        status = facet_fail_errno(err, error, argv[0], "start");
    else
        *result = local;
done:
    for (int i = 0; i < 2; i++) {
        close_end(&out[i]);
        close_end(&report[i]);
    }
    return status;
}
