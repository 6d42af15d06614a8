# SPDX-License-Identifier: Apache-2.0
"""Runs one Python program under limits; started by sandbox.py, which says what is limited.

The order matters: a namespace needs rights that the change of user takes away, that change needs
processes that the limits forbid, and the hook would refuse all of it. The program comes on standard
input with its limits, what became of it goes out on the pipe that the first argument names.
"""
import ctypes
import json
import os
import random
import resource
import sys

NOBODY = 65534
NEW_NET, NEW_USER, NO_NEW_PRIVS, DIE_WITH_PARENT, KILL = 0x40000000, 0x10000000, 38, 1, 9

PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork",
             "os.forkpty", "pty.spawn", "os.kill", "os.killpg", "signal.pthread_kill")
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink",
           "os.chmod", "os.chown", "os.utime", "os.setxattr", "os.removexattr", "shutil.rmtree",
           "shutil.move", "shutil.chown")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def leave_network():
    """A network namespace of its own has nothing to talk to. None: not allowed here."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(DIE_WITH_PARENT, KILL, 0, 0, 0)
    for flags in (NEW_NET, NEW_NET | NEW_USER):
        if libc.unshare(flags) == 0:
            break
    else:
        flags = None
    libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
    return "namespace" if flags is not None else None


def leave_root():
    """Root has no limit of processes. Stays root where nobody else can read the library."""
    if os.geteuid() != 0:
        return
    os.setgroups([])
    os.seteuid(NOBODY)
    try:
        open(os.__file__, "rb").close()
        os.listdir(".")
    except OSError:
        os.seteuid(0)
        return
    os.seteuid(0)
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def limit(limits):
    for name, value in limits.items():
        which = getattr(resource, "RLIMIT_" + name)
        # One second more until the kernel kills: the first signal can be told from other ends.
        resource.setrlimit(which, (value, value + 1 if name == "CPU" else value))


def guard(home):
    """What the kernel would let a user do to his own files and processes, refused in Python."""
    def inside(path):  # a number is a file that is open already
        if isinstance(path, int) or path is None:
            return True
        return os.path.realpath(os.fsdecode(path)).startswith(home + os.sep)

    def hook(event, args):
        if event.startswith("socket."):
            raise PermissionError("no network here")
        if event in PROCESSES or event.startswith("ctypes."):
            raise PermissionError("no other processes here: " + event)
        if event == "open" and args[2] & WRITES and not inside(args[0]) and args[0] != os.devnull:
            raise PermissionError("no files outside the working directory")
        if event in CHANGES and not all(inside(a) for a in args if isinstance(a, (str, bytes))):
            raise PermissionError("no files outside the working directory")

    sys.addaudithook(hook)


def execute(source):
    """The outcome in a word and a line about it."""
    random.seed(0)
    try:
        exec(compile(source, "candidate.py", "exec"), {"__name__": "candidate"})
    except AssertionError as error:
        return "wrong", str(error)
    except SyntaxError as error:
        return "syntax", str(error)
    except MemoryError:
        return "memory", ""
    except BaseException as error:  # SystemExit and KeyboardInterrupt are the program's own, too
        return "error", f"{type(error).__name__}: {error}"
    return "passed", ""


def main():
    job = json.load(sys.stdin)
    pipe = int(sys.argv[1])
    home = os.path.realpath(os.getcwd())
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    network = leave_network()
    leave_root()
    limit(job["limits"])
    if job["guard"]:
        guard(home)
    os.write(pipe, json.dumps({"network": network, "uid": os.getuid()}).encode() + b"\n")
    outcome, detail = execute(job["source"])
    os.write(pipe, json.dumps({"outcome": outcome, "detail": detail[:200]}).encode() + b"\n")
    os._exit(0)


if __name__ == "__main__":
    main()
