#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HumanEval in two halves: a family calibrated by dense's answers to one half answers the other.

Usage: halves.py FACET MODEL HumanEval.jsonl[.gz] --work DIR [--keep R ...] [--prefill family|dense]
                 [--answers N] [-- OPTION ...]
What a deployer does who has prompts of the task itself: no problem is answered by a family that it
calibrated, and every problem is answered once. Odd problems are one half, even ones the other.
With --answers dense's greedy answers are joined by drawn ones, N in all to each problem.
Options behind -- are facet compile's. Prints pass@1 of dense and of each keep; answers stay in DIR,
as do masks and bundles, where they are found again.
"""
import os

import answers
import command


def arguments():
    parser, own, options = answers.family_arguments(__doc__, "HumanEval.jsonl or .jsonl.gz", 512,
                                                    "dense")
    parser.add_argument("--ctx", type=answers.positive, default=768,
                        help="tokens of a problem and its answer (768)")
    parser.add_argument("--answers", type=answers.positive, default=1,
                        help="dense's answers to a problem that calibrate (1)")
    return parser.parse_args(own), options


def score(args, bundle, data, family, out):
    """Problems solved, and asked."""
    lines = answers.score(args, "humaneval", bundle, data, family, out)
    return sum(line["passed"] for line in lines), len(lines)


def calibrate(args, halves, completions):
    """A family set of the two halves, each named for the half that calibrates it."""
    families = os.path.join(args.work, "halves.families")
    if os.path.exists(families):
        return families
    tasks = []
    for k, half in enumerate(halves):
        path = os.path.join(args.work, f"calibrates{k}.jsonl")
        made = [completions[problem["task_id"]] for problem in half]
        fields = ["prompt"] if args.answers > 1 else ["prompt", "completion"]
        answers.write_lines(path, [{name: m[name] for name in fields} for m in made])
        tasks += ["--task", f"half{k}={path}"]
    masks = os.path.join(args.work, "halves.masks")
    command.run(args.facet, "predict", args.model, *tasks, "--ctx", args.ctx, "--continue",
                args.tokens, "--answers", args.answers, "-o", masks, "--force")
    command.run(args.facet, "cluster", masks, "-o", families)
    return families


def main():
    args, options = arguments()
    os.makedirs(args.work, exist_ok=True)
    problems = answers.read_problems(args.data, "task_id", "prompt", "entry_point", "test")
    problems = problems[:args.limit]
    halves = [problems[0::2], problems[1::2]]
    whole = os.path.join(args.work, "problems.jsonl")
    answers.write_lines(whole, problems)
    files = [os.path.join(args.work, f"asks{k}.jsonl") for k in range(2)]
    for path, half in zip(files, halves, strict=True):
        answers.write_lines(path, half)
    dense = os.path.join(args.work, "dense")
    rows = [("dense", *score(args, args.model, whole, "dense", dense))]
    made = answers.read_lines(os.path.join(dense, "humaneval-dense.jsonl"))
    families = calibrate(args, halves, {record["id"]: record for record in made})
    for keep in args.keep:
        bundle = answers.bundle_of(args, families, keep, options)
        parts = [score(args, bundle, files[1 - k], f"half{k}",
                       os.path.join(args.work, f"keep{keep}-{k}")) for k in range(2)]
        rows.append((keep, *map(sum, zip(*parts, strict=True))))
    command.table(["keep", "problems", "passed", "pass@1"])
    for keep, passed, asked in rows:
        command.row(keep, asked, passed, f"{passed / asked:.1%}")


if __name__ == "__main__":
    main()
