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
static void run_child(const char *program, const char *const *argv, const facet_process_opts *opts,
                      int output, int report)
{
    union {
        const char *const *in;
        char *const *out;
    } arguments = {.in = argv};
    const int null = open("/dev/null", O_RDWR);
    setpgid(0, 0);
    // We may ignore it, and what is ignored stays so across exec; pipelines rely on it.
    signal(SIGPIPE, SIG_DFL);
    if (null >= 0) dup2(null, STDIN_FILENO);
    dup2(output >= 0 ? output : null, STDOUT_FILENO);
    if (opts->errors == FACET_PROCESS_ERRORS_JOIN) dup2(STDOUT_FILENO, STDERR_FILENO);
    if (opts->errors == FACET_PROCESS_ERRORS_DROP) dup2(null, STDERR_FILENO);
    if (!opts->cwd || chdir(opts->cwd) == 0) execv(program, arguments.out);
    const int error = errno;
    const ssize_t n = write(report, &error, sizeof error);
    _exit(n == (ssize_t)sizeof error ? 127 : 126);
}

static void read_some(int fd, facet_text *output, bool *open, bool *cut)
{
    char buffer[4096];
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (n <= 0) {
        *open = false;
        return;
    }
    *cut = output->length >= OUTPUT_LIMIT;
    if (!*cut) facet_text_put(output, buffer, (size_t)n);
}

static int wait_ms(uint64_t start, unsigned timeout_ms)
{
    if (timeout_ms == 0) return 100;
    const uint64_t gone = (facet_clock_ns() - start) / 1000000u;
    if (gone >= timeout_ms) return 0;
    return (int)(timeout_ms - gone < 100 ? timeout_ms - gone : 100);
}

// A group that is asked first may remove what it made.
static void end_group(pid_t child, pid_t *done, int *state)
{
    enum { GRACE_MS = 2000, STEP_MS = 10 };
    kill(-child, SIGTERM);
    for (int ms = 0; ms < GRACE_MS && kill(-child, 0) == 0; ms += STEP_MS) {
        if (*done == 0) *done = waitpid(child, state, WNOHANG);
        poll(NULL, 0, STEP_MS);
    }
    kill(-child, SIGKILL);
}

// Reads until the pipe closes, the time is up or the report says to stop; the child may outlive its
// pipe, so waitpid polls too.
static facet_status supervise(pid_t child, int fd, const facet_process_opts *opts,
                              facet_text *output, facet_process_result *result, facet_err *err)
{
    const uint64_t start = facet_clock_ns();
    facet_status status = FACET_OK;
    bool open = fd >= 0;
    int state = 0;
    pid_t done = 0;
    while (open || done == 0) {
        const int pause = wait_ms(start, opts->timeout_ms);
        if (!result->timed_out && status == FACET_OK) {
            status = facet_report_check(opts->report, "child process", err);
            result->timed_out = pause == 0;
            if (pause == 0 || status != FACET_OK) {
                end_group(child, &done, &state);
                open = false; // whoever left the group may write for ever
            }
        }
        struct pollfd polled = {.fd = open ? fd : -1, .events = POLLIN};
        poll(&polled, 1, done == 0 ? (open ? pause : 1) : 0);
        if (open && polled.revents)
            read_some(fd, output, &open, &result->cut);
        else if (done != 0)
            open = false; // a grandchild keeps the pipe: not our child any more
        if (done == 0) done = waitpid(child, &state, WNOHANG);
        if (done < 0 && errno == EINTR) done = 0;
    }
    result->exit_status = done > 0 && WIFEXITED(state) ? WEXITSTATUS(state) : -1;
    result->signal = done > 0 && WIFSIGNALED(state) ? WTERMSIG(state) : 0;
    return status;
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
    static const facet_process_opts defaults = {0};
    char program[4096];
    if (!opts) opts = &defaults;
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
    if (child == 0) run_child(program, argv, opts, out[1], report[1]);
    setpgid(child, child);
    close_end(&out[1]);
    close_end(&report[1]);
    status = supervise(child, out[0], opts, output, &local, err);
    int error = 0;
    if (status == FACET_OK && read(report[0], &error, sizeof error) == (ssize_t)sizeof error)
        status = facet_fail_errno(err, error, argv[0], "start");
    if (status == FACET_OK) *result = local;
done:
    for (int i = 0; i < 2; i++) {
        close_end(&out[i]);
        close_end(&report[i]);
    }
    return status;
}
