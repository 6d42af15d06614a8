#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""GSM8K by the final number: dense and families, one greedy answer a problem.

Usage: gsm8k.py FACET BUNDLE test.jsonl [--family dense NAME ...] [--limit 300] [--out DIR]
       gsm8k.py FACET test.jsonl --score-only
The file is the one that its authors publish (question, answer; the number stands behind ####). The
last --limit problems are asked through the model's chat template. Numbers are compared as numbers.
Prints a table; answers and a line a problem stay in DIR, where the answers are found again.
With --score-only the share of right answers, for facet build --score.
"""
import decimal
import re

import answers

NUMBER = r"-?\s?\$?\s?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
SAID = re.compile(r"answer\s+is\b((?:[^.\n]|\.(?=\d))*)", re.I)
MARKED = re.compile(rf"####\s*({NUMBER})")
BOXED = re.compile(rf"\\boxed\{{[^\d\n}}-]*({NUMBER})")


def instruction(question):
    return (question + "\n\nSolve it step by step. End with this line, where N is a number "
            "without a unit:\nThe answer is N")


def number(text):
    """1,234.00 and $ 1234 are the same; None for what is no number."""
    try:
        return decimal.Decimal(re.sub(r"[\s,$]", "", text)).normalize()
    except decimal.InvalidOperation:
        return None


def last_number(text):
    found = re.findall(NUMBER, text)
    return number(found[-1]) if found else None


def said(rest):
    """The number of a sentence behind "answer is": the first, or that behind the last '='."""
    found = re.search(NUMBER, rest.rsplit("=", 1)[-1])
    return number(found.group()) if found else None


def final(text):
    """The number that an answer ends with and how it was found."""
    for how, found in (("said", [said(rest) for rest in SAID.findall(text)]),
                       ("marked", [number(n) for n in MARKED.findall(text)]),
                       ("boxed", [number(n) for n in BOXED.findall(text)]),
                       ("last", [last_number(text)])):
        found = [n for n in found if n is not None]
        if found:
            return found[-1], how
    return None, "none"


def expected(answer):
    found = MARKED.findall(answer)
    if not found:
        raise SystemExit("gsm8k: an answer without #### and a number; name the published file")
    return number(found[-1])


def main():
    args = answers.parse(answers.arguments(__doc__, "GSM8K's test.jsonl", 512, 300))
    problems = answers.read_problems(args.data, "question", "answer")
    problems = {str(i): p for i, p in list(enumerate(problems))[-args.limit:]}
    prompts = {i: instruction(p["question"]) for i, p in problems.items()}
    results, rows = [], []
    for family in answers.families(args):
        texts = answers.collect(args, "gsm8k", family, prompts)
        own = []
        for i, problem in problems.items():
            want = expected(problem["answer"])
            got, how = final(texts[i])
            own.append({"id": i, "family": family, "correct": got == want, "expected": f"{want:f}",
                        "answer": None if got is None else f"{got:f}", "found": how})
        correct = sum(r["correct"] for r in own)
        as_asked = sum(r["found"] == "said" for r in own)
        rows.append([family, len(own), correct, f"{correct / len(own):.1%}", as_asked])
        results += own
    answers.report(args, "gsm8k", ["family", "problems", "correct", "share", "ended as asked"],
                   rows, results)


if __name__ == "__main__":
    main()
