# SPDX-License-Identifier: Apache-2.0
"""Tests of tests/quality: answers to programs and numbers, limits of the sandbox, reuse of answers.
No model."""
import os
import socket
import sys
import tempfile
import types
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "quality"))
import answers  # noqa: E402
import gsm8k  # noqa: E402
import humaneval  # noqa: E402
import sandbox  # noqa: E402

PROBLEM = {
    "task_id": "t/0",
    "prompt": "import math\n\n\ndef twice(x):\n    return 2 * x\n\n\ndef area(r):\n"
              "    \"\"\" Area of two circles. \"\"\"\n",
    "entry_point": "area",
    "test": "def check(candidate):\n    assert abs(candidate(1) - 2 * math.pi) < 1e-9\n",
}
BODY = "    return twice(math.pi * r * r)\n"
WHOLE = "def area(r):\n" + BODY
SHORT = sandbox.Limits(cpu_s=1, wall_s=2)


class Programs(unittest.TestCase):
    def outcome(self, text):
        return humaneval.judge(PROBLEM, "dense", text)[0]["outcome"]

    def test_right_answers_in_any_dress(self):
        for text in (f"```python\n{WHOLE}```", f"Here it is:\n\n```python\n{WHOLE}```\n\nIt works.",
                     f"```\n{WHOLE}```", f"```python\n{WHOLE}", f"  ```py\n{WHOLE}  ```", WHOLE,
                     f"Sure.\n{WHOLE}\nThis takes the radius.", BODY, "\n" + BODY,
                     f"```python\n{BODY}```", f"```bash\npip install x\n```\n```python\n{WHOLE}```",
                     f"```python\nx = 1\n```\nthen\n```python\n{WHOLE}```",
                     f"```python\n{WHOLE}\ndef unfinished(a):\n    return (a +"):
            self.assertEqual(self.outcome(text), "passed", text)

    def test_examples_of_use_are_left_out(self):
        text = f"```python\n{WHOLE}\nassert area(1) == 3\nprint(area(int(input())))\n```"
        self.assertEqual(self.outcome(text), "passed")

    def test_wrong_answers(self):
        for text, outcome in (("```python\ndef area(r):\n    return r\n```", "wrong"),
                              ("```python\ndef area(r):\n    return pi * r\n```", "error"),
                              ("```python\ndef area(r) return\n```", "syntax"),
                              ("```python\ndef other(r):\n    return r\n```", "error"),
                              ("```python\n```", "no-code"), ("", "no-code"),
                              ("I cannot do that.", "no-code"), ("```\n", "no-code")):
            self.assertEqual(self.outcome(text), outcome, text)


class Numbers(unittest.TestCase):
    def test_forms(self):
        for text, want in (("The answer is 18", 18), ("so the answer is: **$1,234.00**.", 1234),
                           ("The answer is \\(35\\). Let us check: 3 + 4 = 7", 35),
                           ("the answer is 5 * 4 = 20.", 20), ("The answer is -7.5 degrees", -7.5),
                           ("The answer is 3.\nNo: the answer is 4.", 4), ("#### 1,000", 1000),
                           ("\\[ \\boxed{$42} \\]", 42), ("she has 3 apples and 12 pears.", 12),
                           ("The answer is N", None), ("none at all", None), ("it is .5", 0.5),
                           ("The answer is correct: we had 9 of them.", 9)):
            got = gsm8k.final(text)[0]
            self.assertEqual(None if got is None else float(got), want, text)

    def test_equal_numbers_are_equal(self):
        for text in ("1,234.00", "$1234", "1234.", "1 234"):
            self.assertEqual(gsm8k.number(text), gsm8k.expected("so\n#### 1,234"), text)
        self.assertNotEqual(gsm8k.number("12.34"), gsm8k.number("1234"))

    def test_a_file_without_numbers(self):
        with self.assertRaises(SystemExit):
            gsm8k.expected("eighteen")


class Sandbox(unittest.TestCase):
    def expect(self, outcome, detail, source, limits=SHORT, guard=True):
        got = sandbox.run(source, limits, guard)
        self.assertEqual(got.outcome, outcome, got)
        self.assertIn(detail, got.detail)
        self.assertIn(got.network, ("namespace", "hook"))
        return got

    def test_verdicts(self):
        self.assertTrue(self.expect("passed", "", "assert 1 + 1 == 2").passed)
        self.assertFalse(self.expect("wrong", "no", "assert 1 + 1 == 3, 'no'").passed)
        self.expect("syntax", "", "def")
        self.expect("error", "SystemExit", "import sys\nsys.exit(0)")
        self.expect("died", "exit 0", "import os\nos._exit(0)")
        self.expect("died", "SIGSEGV", "import signal\nsignal.raise_signal(signal.SIGSEGV)")
        self.expect("error", "RecursionError", "def f():\n    f()\nf()")

    def test_time(self):
        # On a busy machine a second of CPU time takes long.
        busy = sandbox.Limits(cpu_s=1, wall_s=60)
        self.expect("cpu-time", "", "while True:\n    pass", busy)
        self.expect("cpu-time", "", "while True:\n    try:\n        while True: pass\n"
                                    "    except BaseException: pass", busy)
        self.assertLess(self.expect("wall-time", "", "import time\ntime.sleep(60)").seconds, 10)

    def test_memory_and_files(self):
        self.expect("memory", "", "x = bytearray(10 << 30)")
        write = "f = open('big', 'wb')\nfor _ in range(64):\n    f.write(bytes(1 << 20))\n"
        self.expect("error", "File too large", write)
        self.expect("error", "File too large", write, guard=False)
        self.expect("error", "Too many open files", "f = [open('a', 'w') for _ in range(999)]")

    def test_processes(self):
        for source in ("import os\nos.fork()", "import os\nos.system('true')",
                       "import subprocess\nsubprocess.run(['true'])",
                       "import os\nos.execv('/bin/true', ['true'])", "import os\nos.kill(1, 0)"):
            self.expect("error", "PermissionError", source)
        self.expect("error", "thread", "import threading\nthreading.Thread(target=print).start()")
        if os.geteuid() != 0 or sandbox.run("import os\nassert os.getuid() != 0", SHORT).passed:
            self.expect("error", "BlockingIOError", "import os\nos.fork()", guard=False)

    def test_network(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            connect = ("import socket\nsocket.create_connection(('127.0.0.1', "
                       f"{server.getsockname()[1]}), 1)")
            got = self.expect("error", "PermissionError: no network", connect)
            if got.network == "namespace":
                self.expect("error", "OSError", connect, guard=False)
            else:
                print("no network namespace here: sockets are refused by the audit hook alone")

    def test_directory_and_environment(self):
        with tempfile.TemporaryDirectory() as outside:
            os.chmod(outside, 0o777)
            kept = os.path.join(outside, "kept")
            open(kept, "w").close()
            for source in (f"open({kept!r}, 'a')", f"import os\nos.remove({kept!r})",
                           f"import os\nos.rename({kept!r}, 'mine')",
                           f"import os\nos.mkdir({outside + '/new'!r})",
                           f"import shutil\nshutil.rmtree({outside!r})"):
                self.expect("error", "no files outside", source)
            self.assertEqual(os.listdir(outside), ["kept"])
        self.expect("passed", "", "import os\nopen('a', 'w').write('b')\nos.mkdir('c')\n"
                                  "assert os.environ['HOME'] == os.getcwd()\n"
                                  "assert sorted(os.listdir()) == ['a', 'c']")
        os.environ["FACET_SECRET"] = "x"
        self.expect("passed", "", "import os\nassert 'FACET_SECRET' not in os.environ")
        self.expect("error", "EOFError", "input()")
        self.expect("error", "ModuleNotFoundError", "import sandbox")

    def test_nothing_stays(self):
        before = set(os.listdir(tempfile.gettempdir()))
        where = sandbox.run("import os\nraise ValueError(os.getcwd())", SHORT)
        name = os.path.basename(where.detail.split()[-1])
        self.assertTrue(name.startswith("candidate-"), where)
        self.assertNotIn(name, before | set(os.listdir(tempfile.gettempdir())))

    def test_the_same_again(self):
        source = "import random\nraise ValueError(random.random(), hash('a'), list({'x', 'y'}))"
        self.assertEqual(sandbox.run(source).detail, sandbox.run(source).detail)


class Store(unittest.TestCase):
    def test_answers_are_made_once(self):
        asked = []

        def complete(_args, family, _stops, records):
            asked.append([r["id"] for r in records])
            return [family + r["prompt"] for r in records], len(records)

        with tempfile.TemporaryDirectory() as out:
            os.mkdir(out + "/b")
            with open(out + "/b/manifest.json", "w") as file:
                file.write("{}")
            args = types.SimpleNamespace(out=out, bundle=out + "/b", tokens=9, prefill="family")
            n = answers.PORTION + 2
            prompts = {str(i): f"p{i}" for i in range(n)}
            real, answers.complete = answers.complete, complete
            error, sys.stderr = sys.stderr, open(os.devnull, "w")
            try:
                first = answers.collect(args, "t", "f", prompts)
                self.assertEqual(first["9"], "fp9")
                self.assertEqual([len(a) for a in asked], [n - 2, 2])
                self.assertEqual(answers.collect(args, "t", "f", prompts), first)
                self.assertEqual(len(asked), 2)
                prompts["3"] = "other"
                self.assertEqual(answers.collect(args, "t", "f", prompts)["3"], "fother")
                self.assertEqual(asked[2:], [["3"]])
                args.tokens = 10
                answers.collect(args, "t", "f", prompts)
                self.assertEqual(sum(map(len, asked[3:])), n)
                with open(out + "/b/manifest.json", "w") as file:
                    file.write("{ }")
                answers.collect(args, "t", "f", {"0": "p0"})
                self.assertEqual(asked[-1], ["0"])
            finally:
                answers.complete = real
                sys.stderr.close()
                sys.stderr = error


if __name__ == "__main__":
    unittest.main()
