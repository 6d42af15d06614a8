#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes task files for end-to-end tests: tasks.py KIND COUNT > FILE, the same for the same
arguments. KIND: code, math (records) or text (a document)."""
import json
import random
import sys

NOUNS = "apple river stone lamp horse cloud paper chair garden window bottle hammer".split()
VERBS = "counts paints moves sells washes lifts breaks finds keeps throws".split()
OPS = ["+", "-", "*", "|", "&", "^", "<<"]


def code(rng, i):
    name = "".join(rng.choice("abcdefghijklm") for _ in range(5))
    a, b = rng.randrange(2, 999), rng.randrange(2, 999)
    return {"prompt": f"{name}{i}: return x {rng.choice(OPS)} {a} {rng.choice(OPS)} {b};",
            "completion": f"int {name}(int x) {{ return (x {rng.choice(OPS)} {a}) "
                          f"{rng.choice(OPS)} {b}; }}"}


def math(rng, i):
    noun, verb = rng.choice(NOUNS), rng.choice(VERBS)
    a, b = rng.randrange(3, 99), rng.randrange(3, 99)
    return {"prompt": f"{rng.choice('ABCDEFGH')}{i} {verb} {a} {noun}s, "
                      f"then {b} more {rng.choice(NOUNS)}s.",
            "completion": f"{a} and {b} make {a + b} in all, {rng.choice(NOUNS)} or not."}


def main():
    kind, count = sys.argv[1], int(sys.argv[2])
    rng = random.Random(kind)
    if kind == "text":
        words = NOUNS + VERBS + ["the", "a", "and", "of", "with"]
        print(" ".join(rng.choice(words) for _ in range(count)) + ".")
        return
    make = {"code": code, "math": math}[kind]
    for i in range(count):
        print(json.dumps(make(rng, i)))


if __name__ == "__main__":
    main()
