#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Real task texts from Debian packages: KIND.jsonl to calibrate, KIND.held.txt to score.

Usage: texts.py OUT [--documents 48] [--gsm8k FILE.jsonl]
Kinds: c (/usr/include), python (standard library), german and french (man pages), english (man pages),
and, when a file is given, problems (GSM8K: items 1..800 calibrate, the last 300 score).
Packages: libc6-dev manpages-dev manpages-de manpages-fr man-db python3. Documents are split by file: every
fifth is held out; a document gives one window of about 1,200 characters, from its middle.
"""
import argparse
import glob
import json
import os
import subprocess
import sys

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
    kinds = {
        "c": files(["/usr/include/**/*.h"]),
        "python": files([root + "/*.py", root + "/*/*.py"]),
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
