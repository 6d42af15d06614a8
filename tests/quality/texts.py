#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Real task texts from Debian packages: KIND.jsonl to calibrate, KIND.held.txt to score.

Usage: texts.py OUT [--documents 48] [--gsm8k FILE.jsonl]
Kinds: c (/usr/include), python (standard library), german and french (man pages), english (man pages),
and, when a file is given, problems (GSM8K: items 1..800 calibrate, the last 300 score). Beside them
functions.jsonl: signatures and docstrings of Python's library, put as humaneval.py puts its problems
and without answers, so that the dense model gives them.
Packages: libc6-dev manpages-dev manpages-de manpages-fr man-db python3. Documents are split by file: every
fifth is held out; a document gives one window of about 1,200 characters, from its middle.
"""
import argparse
import ast
import glob
import json
import os
import subprocess
import sys
import textwrap

import humaneval

WINDOW = 1200


def man_pages(pattern, most):
    """Rendering takes half a second a page: only `most` pages of some size, evenly spaced."""
    paths = [p for p in sorted(glob.glob(pattern)) if os.path.getsize(p) > WINDOW]
    for path in paths[::max(1, len(paths) // most)]:
        out = subprocess.run(["man", "--nj", "--warnings=", "-E", "UTF-8", path], capture_output=True,
                             env=dict(os.environ, MANWIDTH="78", MANROFFOPT="-c"))
        text = subprocess.run(["col", "-bx"], input=out.stdout, capture_output=True).stdout
        yield path, text.decode("utf-8", "replace")


def files(patterns):
    for pattern in patterns:
        for path in sorted(glob.glob(pattern, recursive=True)):
            try:
                with open(path, encoding="utf-8") as file:
                    yield path, file.read()
            except (UnicodeDecodeError, OSError):
                continue


def spread(documents, count):
    """Evenly spaced documents that are long enough, with a window from the middle of each."""
    usable = [(p, t) for p, t in documents if len(t) > 2 * WINDOW]
    step = max(1, len(usable) // count)
    for path, text in usable[::step][:count]:
        start = text.rfind("\n", 0, (len(text) - WINDOW) // 2) + 1
        yield path, text[start:start + WINDOW]


def functions(sources):
    """Public functions with a docstring of some size: what precedes their code."""
    for path, text in sources:
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            names = [a.arg for a in node.args.args]
            if names[:1] in (["self"], ["cls"]) or not 60 < len(ast.get_docstring(node) or "") < 900:
                continue
            lines = text.splitlines()[node.lineno - 1:node.body[0].end_lineno]
            yield textwrap.dedent("\n".join(lines))


def write_functions(out, sources, count):
    found = list(dict.fromkeys(functions(sources)))
    step = max(1, len(found) // count)
    with open(os.path.join(out, "functions.jsonl"), "w", encoding="utf-8") as file:
        for prompt in found[::step][:count]:
            record = {"prompt": humaneval.instruction({"prompt": prompt})}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    print(f"functions: {len(found[::step][:count])} prompts calibrate, HumanEval scores")


def write(out, kind, train, held):
    with open(os.path.join(out, kind + ".jsonl"), "w", encoding="utf-8") as file:
        for text in train:
            cut = text.find("\n", 200) + 1 or 200
            file.write(json.dumps({"prompt": text[:cut], "completion": text[cut:]},
                                  ensure_ascii=False) + "\n")
    with open(os.path.join(out, kind + ".held.txt"), "w", encoding="utf-8") as file:
        file.write("\n\n".join(held))
    print(f"{kind}: {len(train)} documents calibrate, {len(held)} score")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--gsm8k")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    version = f"/usr/lib/python3.{sys.version_info.minor}"
    root = version if os.path.isdir(version) else os.path.dirname(os.__file__)
    pages, most = max(150, args.documents), max(600, args.documents)
    library = [root + "/*.py", root + "/*/*.py"]
    write_functions(args.out, files(library), args.documents)
    kinds = {
        "c": files(["/usr/include/**/*.h"]),
        "python": files(library),
        "english": man_pages("/usr/share/man/man[27]/*.gz", pages),
        "german": man_pages("/usr/share/man/de/man[1578]/*.gz", pages),
        "french": man_pages("/usr/share/man/fr/man[1578]/*.gz", pages),
    }
    for kind, documents in kinds.items():
        windows = [text for _, text in spread(list(documents)[:most], args.documents)]
        if len(windows) < 10:
            print(f"{kind}: too few documents; are the packages installed?", file=sys.stderr)
            continue
        write(args.out, kind, [w for i, w in enumerate(windows) if i % 5 != 4],
              [w for i, w in enumerate(windows) if i % 5 == 4])
    if args.gsm8k:
        items = [json.loads(line) for line in open(args.gsm8k, encoding="utf-8")]
        texts = [item["question"] + "\n" + item["answer"] for item in items]
        write(args.out, "problems", texts[:800:max(1, 400 // args.documents)], texts[-300::10])


if __name__ == "__main__":
    main()
