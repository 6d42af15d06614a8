# SPDX-License-Identifier: Apache-2.0
"""What the measuring scripts share: the facet command, and rows of results that outlive a run.

Rows are JSON lines, each with a `key` of everything that it depends on but the program; a script
that is started again skips rows that are there. A row made by another facet is used all the same,
and that is said.
"""
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time


def run(facet, *words):
    """The JSON document of a command."""
    return measured(facet, *words)[0]


def measured(facet, *words):
    """The JSON document of a command, its seconds and its peak memory in MiB.

    The peak is that of the largest process among facet and the C compilers it starts; it is never
    below this Python's own, of which a new process begins as a copy.
    """
    command = [facet, *map(str, words), "--json", "-q"]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        begin = time.monotonic()
        child = subprocess.Popen(command, stdout=out, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - begin
        out.seek(0)
        errors.seek(0)
        said = out.read().decode()
        if child.returncode != 0:
            raise SystemExit(errors.read().decode().strip() or
                             f"facet {words[0]}: status {child.returncode}")
    return json.loads(said), seconds, usage.ru_maxrss / 1024


def options_behind(argv):
    """The script's own arguments, and those behind `--`, which are facet compile's."""
    cut = argv.index("--") if "--" in argv else len(argv)
    return argv[:cut], argv[cut + 1:]


def digest(data):
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()[:16]


class Rows:
    def __init__(self, path, facet):
        self.path, self.rows = path, []
        with open(facet, "rb") as file:
            self.facet = digest(file.read())
        if path and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                self.rows = [json.loads(line) for line in file if line.endswith("\n")]

    def find(self, key):
        """The last row of this key, or None."""
        found = next((row for row in reversed(self.rows) if row["key"] == key), None)
        if found and found["facet"] != self.facet:
            print(f"{self.path}: a row of {key} is from another facet", file=sys.stderr)
        return found

    def add(self, key, figures):
        row = {"key": key, "facet": self.facet, **figures}
        self.rows.append(row)
        if self.path:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        return row


def table(columns):
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns), flush=True)


def row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)
