#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Right, wrong, static and random families against dense: perplexity on held-out text, as a table.

Usage: families.py FACET MODEL TEXTS [--keep 0.75 0.5 0.33] [--kinds c python ...] [--work DIR]
TEXTS is a folder made by texts.py. Every family of a row has the same keep and the same compensation;
`static` is one family of all kinds together, `random` keeps random channels (refitted like the others);
`wrong` is the mean and the best of the other kinds' families. Prints markdown and appends JSON lines.
"""
import argparse
import glob
import json
import math
import os

from command import run


def families(args, kinds, variant):
    """Masks and families of a variant: the model runs once for all keeps."""
    masks = os.path.join(args.work, f"{variant}.masks")
    path = os.path.join(args.work, f"{variant}.families")
    if os.path.exists(path):
        return path
    command = ["predict", args.model, "--raw", "--continue", "0", "--ctx", str(args.ctx), "-o", masks,
               "--limit", str(args.limit), "--force"]
    if variant == "random":
        command += ["--predictor", "random"]
    for kind in kinds:
        name = "static" if variant == "static" else kind
        command += ["--task", f"{name}={args.texts}/{kind}.jsonl"]
    run(args.facet, *command)
    run(args.facet, "cluster", masks, "-o", path, "--families", "label")
    return path


def build(args, kinds, keep, variant):
    path = os.path.join(args.work, f"{variant}-{keep}.facet")
    if not os.path.isdir(path):
        run(args.facet, "compile", args.model, families(args, kinds, variant), "--keep", str(keep),
            "--no-proof", "-o", path)
    return path


def perplexities(args, bundle, kind, family="all"):
    rows = run(args.facet, "eval", bundle, "--family", family, "--ppl",
               f"{args.texts}/{kind}.held.txt", "--ctx", str(args.ctx))["results"]
    return {row["family"]: row["ppl"] for row in rows}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("facet")
    parser.add_argument("model")
    parser.add_argument("texts")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.75, 0.5, 0.33])
    parser.add_argument("--kinds", nargs="+")
    parser.add_argument("--ctx", type=int, default=256)
    parser.add_argument("--limit", type=int, default=48, help="documents that calibrate, a kind")
    parser.add_argument("--work", required=True)
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    kinds = args.kinds or sorted(os.path.basename(p)[:-6]
                                 for p in glob.glob(args.texts + "/*.jsonl"))
    print("| text | keep | dense ppl | right | static | wrong, best | wrong, mean | random |")
    print("|---|---|---|---|---|---|---|---|")
    for keep in args.keep:
        bundles = {v: build(args, kinds, keep, v) for v in ("family", "static", "random")}
        for kind in kinds:
            own = perplexities(args, bundles["family"], kind)
            dense = own["dense"]
            wrong = [own[k] / dense for k in kinds if k != kind]
            row = {
                "text": kind, "keep": keep, "dense": dense, "right": own[kind] / dense,
                "static": perplexities(args, bundles["static"], kind, "static")["static"] / dense,
                "wrong_best": min(wrong),
                "wrong_mean": math.exp(sum(map(math.log, wrong)) / len(wrong)),
                "random": perplexities(args, bundles["random"], kind, kind)[kind] / dense,
            }
            print("| {text} | {keep:.0%} | {dense:.3f} | {right:.3f} | {static:.3f} | "
                  "{wrong_best:.3f} | {wrong_mean:.3f} | {random:.3f} |".format(**row), flush=True)
            with open(os.path.join(args.work, "rows.jsonl"), "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
