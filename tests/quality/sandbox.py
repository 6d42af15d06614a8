# SPDX-License-Identifier: Apache-2.0
"""Programs that a model wrote, each run in a process of its own that can do little harm.

Limited by the kernel: processor time, address space, size of a file, open files, processes (none
but itself; root becomes nobody, whom that limit binds); by the parent: time on the clock. The
working directory and HOME are a fresh directory that only the program's user reads, removed
afterwards; the environment is empty but for them. There is no network: a network namespace of its
own where the kernel allows one. In every case a Python audit hook refuses sockets, processes,
signals and changes to files outside that directory. This stops accidents, not an attacker: use a
virtual machine against those.
"""
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

CHILD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sandbox_child.py")


@dataclasses.dataclass
class Limits:
    cpu_s: int = 5
    wall_s: float = 20.0
    memory: int = 1 << 30
    file_bytes: int = 1 << 20
    files: int = 64

    def kernel(self):
        return {"CPU": self.cpu_s, "AS": self.memory, "FSIZE": self.file_bytes, "NPROC": 0,
                "NOFILE": self.files, "CORE": 0}


@dataclasses.dataclass
class Outcome:
    outcome: str  # passed wrong syntax memory error cpu-time wall-time died
    detail: str
    network: str  # how it was kept away: "namespace" or "hook"
    seconds: float

    @property
    def passed(self):
        return self.outcome == "passed"


def start(home, pipe):
    environment = {"HOME": home, "TMPDIR": home, "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}
    # -S: the standard library and nothing else; results do not depend on what is installed.
    return subprocess.Popen([sys.executable, "-S", "-s", "-B", CHILD, str(pipe)], cwd=home,
                            env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, pass_fds=[pipe], start_new_session=True)


def wait(child, job, wall_s):
    """False when time ran out. The whole group goes, should there be more of it."""
    try:
        child.communicate(json.dumps(job).encode(), timeout=wall_s)
        return True
    except subprocess.TimeoutExpired:
        return False
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()


def judge(in_time, status, said):
    if len(said) > 1:
        return said[1]["outcome"], said[1]["detail"]
    if not in_time:
        return "wall-time", ""
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return "cpu-time", ""
    return "died", f"exit {status}" if status >= 0 else signal.Signals(-status).name


def run(source, limits=Limits(), guard=True):
    """The Outcome of a program. guard False leaves the audit hook out, for tests of the limits."""
    home = tempfile.mkdtemp(prefix="candidate-")
    if os.geteuid() == 0:
        os.chown(home, 65534, 65534)
    ours, theirs = os.pipe()
    begin = time.monotonic()
    try:
        child = start(home, theirs)
        os.close(theirs)
        in_time = wait(child, {"source": source, "limits": limits.kernel(), "guard": guard},
                       limits.wall_s)
        with os.fdopen(ours, "rb") as pipe:
            said = [json.loads(line) for line in pipe.read(1 << 16).splitlines()]
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if not said:
        raise SystemExit(f"sandbox: {sys.executable}: the child did not start")
    outcome, detail = judge(in_time, child.returncode, said)
    return Outcome(outcome, detail, said[0]["network"] or "hook", time.monotonic() - begin)
