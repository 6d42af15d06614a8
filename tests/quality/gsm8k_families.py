#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""GSM8K by dense, by a family of its problems and by a family of something else.

Usage: gsm8k_families.py FACET MODEL test.jsonl --wrong TASK --work DIR [--keep R ...]
                         [--build 160] [--limit 300] [--prefill family|dense] [-- OPTION ...]
The last --limit problems are asked; the first --build, none of which is asked, make the right
family by dense's own answers. TASK (a file of `facet build --task`) makes the wrong one, with the
same keep and the same repair. Options behind -- are facet compile's. Prints the share of right
final numbers; answers stay in DIR, as do masks and bundles, where they are found again.
"""
import os

import answers
import command
import gsm8k


def arguments():
    parser, own, options = answers.family_arguments(__doc__, "GSM8K's test.jsonl", 384, "family",
                                                    300)
    parser.add_argument("--wrong", required=True, help="a task file of another kind")
    parser.add_argument("--build", type=answers.positive, default=160,
                        help="problems that build the right family (160)")
    return parser.parse_args(own), options


def families(args):
    """A family set of the first problems, named right, and of the other task, named wrong."""
    path = os.path.join(args.work, "gsm8k.families")
    if os.path.exists(path):
        return path
    problems = answers.read_problems(args.data, "question", "answer")
    if len(problems) < args.build + args.limit:
        raise SystemExit(f"{args.data}: {len(problems)} problems; {args.build} to build and "
                         f"{args.limit} to ask are wanted, lower --build or --limit")
    right = os.path.join(args.work, "right.jsonl")
    answers.write_lines(right, [{"prompt": gsm8k.instruction(problem["question"])}
                                for problem in problems[:args.build]])
    masks = os.path.join(args.work, "gsm8k.masks")
    command.run(args.facet, "predict", args.model, "--task", f"right={right}", "--task",
                f"wrong={args.wrong}", "--ctx", 768, "--continue", args.tokens, "-o", masks,
                "--force")
    command.run(args.facet, "cluster", masks, "-o", path, "--families", "label")
    return path


def main():
    args, options = arguments()
    os.makedirs(args.work, exist_ok=True)

    def row(keep, bundle, family, out):
        lines = answers.score(args, "gsm8k", bundle, args.data, family,
                              os.path.join(args.work, out), "--limit", args.limit)
        correct = sum(line["correct"] for line in lines)
        command.row(keep, family, len(lines), correct, f"{correct / len(lines):.1%}",
                    sum(line["found"] == "said" for line in lines))

    made = families(args)
    command.table(["keep", "family", "problems", "correct", "share", "ended as asked"])
    row("", args.model, "dense", "dense")
    for keep in args.keep:
        bundle = answers.bundle_of(args, made, keep, options)
        for family in ("right", "wrong"):
            row(keep, bundle, family, f"keep{keep}")


if __name__ == "__main__":
    main()
