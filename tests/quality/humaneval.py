#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HumanEval pass@1 of dense and families: one greedy answer a problem, run against its tests.

Usage: humaneval.py FACET BUNDLE HumanEval.jsonl[.gz] [--family dense NAME ...] [--limit N]
                    [--out DIR]
       humaneval.py FACET HumanEval.jsonl[.gz] --score-only
The file is the one that its authors publish (task_id, prompt, entry_point, test). A problem is put
as an instruction through the model's chat template. Of the answer's code block (else of what looks
like code) only imports, definitions and assignments are run, behind the imports and helpers of the
problem, in the sandbox of sandbox.py. Prints a table; answers and a line a problem stay in DIR,
where the answers are found again. With --score-only the share of solved problems, for facet build
--score.
"""
import ast
import re
import sys

import answers
import sandbox

# A closed block with a blank line behind it: what follows is prose.
STOPS = ("```\n\n",)
FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)(^[ \t]*```|\Z)", re.M | re.S)
CODE_BEGINS = re.compile(r"^(?:(?:def|class|import|from)\b|@)", re.M)
KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign,
        ast.AnnAssign)


def instruction(problem):
    return ("Complete this Python function. Answer with one Python code block that holds the whole "
            f"function and the imports it needs.\n\n```python\n{problem['prompt'].rstrip()}\n```")


def parses(code):
    try:
        ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    return True


def defines(code, name):
    return re.search(rf"^def\s+{re.escape(name)}\b", code, re.M) is not None


def longest_code(text):
    """The longest beginning that parses: an answer that was cut, or that goes on in prose."""
    lines = text.split("\n")
    for n in range(len(lines), 0, -1):
        if parses("\n".join(lines[:n])):
            return "\n".join(lines[:n])
    return text


def definitions(code):
    """Without calls, prints and asserts at the top level: an example of use is no part of it."""
    if not parses(code):
        return code
    tree = ast.parse(code)
    tree.body = [node for node in tree.body if isinstance(node, KEPT)]
    return ast.unparse(tree)


def extract(text, problem):
    """The program's own part of an answer, or None when there is no code in it."""
    entry = problem["entry_point"]
    found = [(code, bool(end)) for language, code, end in FENCE.findall(text)
             if language.lower() in ("", "py", "python", "python3")]
    found.sort(key=lambda block: not defines(block[0], entry))  # stable: the first that defines it
    if found:
        code, closed = found[0]
        code = code if closed else longest_code(code)
    else:
        begin = CODE_BEGINS.search(text)
        if begin:
            code = longest_code(text[begin.start():])
        elif text.lstrip("\n")[:1] in (" ", "\t"):
            code = text.lstrip("\n")  # the function's body and nothing else
        else:
            return None
    if not defines(code, entry) and code[:1] in (" ", "\t"):
        code = longest_code(problem["prompt"] + code)
    return definitions(code) if code.strip() else None


def preamble(problem):
    """What stands before the function in the problem: imports and helpers."""
    entry = rf"^def\s+{re.escape(problem['entry_point'])}\b"
    begins = [m.start() for m in re.finditer(entry, problem["prompt"], re.M)]
    return problem["prompt"][:begins[-1]] if begins else ""


def program(problem, code):
    return f"{preamble(problem)}\n{code}\n{problem['test']}\ncheck({problem['entry_point']})\n"


def judge(problem, family, text):
    code = extract(text, problem)
    if code is None:
        return {"task_id": problem["task_id"], "family": family, "passed": False,
                "outcome": "no-code", "detail": ""}, None
    ran = sandbox.run(program(problem, code))
    return {"task_id": problem["task_id"], "family": family, "passed": ran.passed,
            "outcome": ran.outcome, "detail": ran.detail}, ran.network


def main():
    args = answers.parse(answers.arguments(__doc__, "HumanEval.jsonl or .jsonl.gz", 512))
    problems = answers.read_problems(args.data, "task_id", "prompt", "entry_point", "test")
    problems = problems[:args.limit]
    prompts = {p["task_id"]: instruction(p) for p in problems}
    results, rows, networks = [], [], set()
    for family in answers.families(args):
        texts = answers.collect(args, "humaneval", family, prompts, STOPS)
        judged = [judge(p, family, texts[p["task_id"]]) for p in problems]
        networks |= {network for _, network in judged if network}
        own = [result for result, _ in judged]
        passed = sum(r["passed"] for r in own)
        count = {}
        for r in own:
            count[r["outcome"]] = count.get(r["outcome"], 0) + 1
        others = ", ".join(f"{k} {v}" for k, v in sorted(count.items()) if k != "passed")
        rows.append([family, len(own), passed, f"{passed / len(own):.1%}", others or "-"])
        results += own
    for network in sorted(networks):
        print("no network by " + {"namespace": "a network namespace of its own and an audit hook",
                                  "hook": "an audit hook alone"}[network], file=sys.stderr)
    answers.report(args, "humaneval", ["family", "problems", "passed", "pass@1", "others"], rows,
                   results)


if __name__ == "__main__":
    main()
