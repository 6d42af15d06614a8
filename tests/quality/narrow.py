#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Narrow tasks: how far a family answers as dense does, what it costs, and the smallest keep.

Usage: narrow.py FACET MODEL TASK.jsonl... --work DIR [--keep 0.75 0.5 0.33 0.25] [--build 80]
                 [--ask 20] [--tokens 64] [--ctx 512] [--limit N] [--speed] [--rows FILE]
                 [--keep-bundles] [-- COMPILE OPTIONS]
The first prompts of a task build, with the dense model's own answers; the last ones are held out
from everything and only asked: `facet eval --agree`, once with prompts that the family reads, once
with prompts that dense reads (behind the slash). The perplexity ratio is the proof's, on answers
held out among those that build. Masks are made once a task. --speed, on a quiet machine:
decoding of dense and family interleaved, in the same process. What is measured is kept in FILE
(DIR/rows.jsonl) and not measured again; --speed adds what rows lack.
"""
import argparse
import json
import os
import shutil
import sys

import command

ENOUGH = 0.95


def name_of(task):
    return os.path.splitext(os.path.basename(task))[0]


def split(args, task):
    """Files of what builds and what is asked; no prompt is in both."""
    with open(task, encoding="utf-8") as file:
        lines = [line for line in file if line.strip()]
    n_build, n_ask = (min(n, args.limit or n) for n in (args.build, args.ask))
    if len(lines) < n_build + n_ask:
        raise SystemExit(f"{task}: {len(lines)} prompts; {n_build} to build and {n_ask} to ask are "
                         "wanted, lower --build or --ask")
    paths = []
    for part in (lines[:n_build], lines[-n_ask:]):
        text = "".join(part)
        paths.append(os.path.join(args.work, f"{name_of(task)}-{command.digest(text)}.jsonl"))
        with open(paths[-1], "w", encoding="utf-8") as file:
            file.write(text)
    return paths


def stem(args, prompts):
    """Of files made from these prompts and answers of this length."""
    return os.path.join(args.work, f"{os.path.basename(args.model)}-{name_of(prompts)}-"
                        f"{args.ctx}-{args.tokens}")


def families(args, task, prompts):
    path = stem(args, prompts) + ".families"
    if not os.path.exists(path):
        masks = stem(args, prompts) + ".masks"
        command.run(args.facet, "predict", args.model, "--task", f"{name_of(task)}={prompts}",
                    "--ctx", args.ctx, "--continue", args.tokens, "-o", masks, "--force")
        command.run(args.facet, "cluster", masks, "-o", path, "--families", "label")
        os.remove(masks)
    return path


def build(args, task, keep, prompts):
    """Path of the bundle, made unless it was kept, and its description."""
    path = f"{stem(args, prompts)}-{command.digest(json.dumps([keep, args.options]))}.facet"
    if os.path.isdir(path):
        return path, command.run(args.facet, "inspect", path)
    return path, command.run(args.facet, "compile", args.model, families(args, task, prompts),
                             "--keep", keep, "-o", path, *args.options)


def quality(args, task, bundle, made, asked):
    agreed, read_by_dense = (
        command.run(args.facet, "eval", bundle, "--agree", asked, "--family", name_of(task), "-n",
                    args.tokens, "--prefill", reader)["agreement"][0]
        for reader in ("family", "dense"))
    proof = made["proof"]["families"][0]
    with open(os.path.join(bundle, "manifest.json"), encoding="utf-8") as file:
        read = {family["name"]: family["token_bytes"] for family in json.load(file)["families"]}
    return {
        "prompts": agreed["prompts"], "answers": agreed["answers_equal_share"],
        "positions": agreed["positions_equal_share"], "of_positions": agreed["positions"],
        "dense_answers": read_by_dense["answers_equal_share"],
        "dense_positions": read_by_dense["positions_equal_share"],
        "calibration_tokens": proof["calibration_tokens"],
        "ratio": (proof["perplexity"]["family"] / proof["perplexity"]["dense"]),
        "bytes": read[name_of(task)] / read["dense"],
    }


def speed(args, task, bundle):
    rows = command.run(args.facet, "bench", bundle, "-p", 0, "-n", 64, "-r", 7)["rows"]
    median = {row["family"]: row["tokens_per_second"]["median"] for row in rows}
    return {"speed": median[name_of(task)] / median["dense"],
            "tokens_per_second": median[name_of(task)]}


def measure(args, task, keep):
    built, asked = split(args, task)
    key = {"model": os.path.basename(args.model), "task": name_of(task), "keep": keep,
           "options": args.options, "tokens": args.tokens, "ctx": args.ctx,
           "build": os.path.basename(built), "ask": os.path.basename(asked)}
    found = args.rows.find(key)
    if found and ("speed" in found or not args.speed):
        return found
    bundle, made = build(args, task, keep, built)
    figures = {k: v for k, v in found.items() if k not in ("key", "facet")} if found else \
        quality(args, task, bundle, made, asked)
    if args.speed:
        figures.update(speed(args, task, bundle))
    if not args.keep_bundles:
        shutil.rmtree(bundle)
    return args.rows.add(key, figures)


def main():
    own, options = command.options_behind(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("facet")
    parser.add_argument("model")
    parser.add_argument("tasks", nargs="+", metavar="TASK.jsonl")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.75, 0.5, 0.33, 0.25])
    parser.add_argument("--work", required=True)
    parser.add_argument("--build", type=int, default=80, help="first prompts that build (80)")
    parser.add_argument("--ask", type=int, default=20, help="last prompts that are asked (20)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer (64)")
    parser.add_argument("--ctx", type=int, default=512, help="tokens of a prompt that build (512)")
    parser.add_argument("--limit", type=int, help="no more than N of either, for a quick look")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--rows")
    parser.add_argument("--keep-bundles", action="store_true")
    args = parser.parse_args(own)
    os.makedirs(args.work, exist_ok=True)
    args.options = options
    args.rows = command.Rows(args.rows or os.path.join(args.work, "rows.jsonl"), args.facet)
    command.table(["task", "keep", "answers equal", "positions equal", "ppl over dense",
                   "bytes a token over dense", "speed over dense"])
    enough = {"positions": {}, "dense_positions": {}}
    for task in args.tasks:
        for keep in args.keep:
            row = measure(args, task, keep)
            for reader, found in enough.items():
                if row[reader] >= ENOUGH:
                    found[task] = min(keep, found.get(task, 1))
            command.row(name_of(task), f"{keep:.0%}",
                        f"{row['answers']:.0%} / {row['dense_answers']:.0%}",
                        f"{row['positions']:.1%} / {row['dense_positions']:.1%}",
                        f"{row['ratio']:.3f}", f"{row['bytes']:.2f}",
                        f"{row['speed']:.2f}" if "speed" in row else "-")
    print(f"\nSmallest keep with {ENOUGH:.0%} of positions equal, read by family / by dense:")
    for task in args.tasks:
        print(f"- {name_of(task)}: " + " / ".join(
            f"{found[task]:.0%}" if task in found else "none of these"
            for found in enough.values()))


if __name__ == "__main__":
    main()
