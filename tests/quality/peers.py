#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Families beside published training-free choices of channels, on the same tokens, as a table.

Usage: peers.py FACET TEXTS MODEL:TEXT:KEEP[,KEEP...]... --work DIR [--windows 24] [--seeds 1]
                [--static-tokens 16384] [the options of reach.py] [-- COMPILE OPTIONS]
FACET lies in its build folder, beside test_griffin (the methods: our own, float32, no compensation,
single channels) and libfacet.so (the families: as they are shipped, tiles and rounding included).
Of every window of held-out text the first half is a prompt and the second half is scored, its first
token included. Perplexity over that of dense on the same tokens and the same engine, median of the
seeds. The prompt is read by dense but for the last column, in which the family reads it.
"""
import math
import os
import shutil
import statistics
import subprocess

import bundles
import command
from session import Bundle

METHODS = ("griffin", "glass", "magnitude", "energy", "stats")
HEADINGS = ("GRIFFIN", "GLASS", "static magnitude", "static energy", "static statistic",
            "family behind a dense prompt", "family")


def windows(args, model, path, most):
    """Token ids of a text, cut as `facet eval --ppl` cuts."""
    bos = command.run(args.facet, "tokenize", model, "--text", "", "--special")["ids"]
    ids, width = command.run(args.facet, "tokenize", model, path)["ids"], args.ctx - len(bos)
    cut = [bos + ids[i:i + width] for i in range(0, len(ids) - width + 1, width)] or [bos + ids]
    return cut[::max(1, len(cut) // most)][:most]


def write(args, name, samples):
    text = "".join(" ".join(map(str, ids)) + "\n" for ids in samples)
    return bundles.write(args, name, text)


def methods(args, model, keep, asked, calibration):
    """Perplexity over dense of each method."""
    tool = os.path.join(os.path.dirname(args.facet), "test_griffin")
    done = subprocess.run([tool, model, write(args, "windows", asked),
                           write(args, "calibration", calibration), str(keep), *METHODS],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr.strip() or f"{tool}: status {done.returncode}")
    lines = [line.split() for line in done.stdout.splitlines()]
    nats = {name: float(total) / int(n) for name, n, total in lines}
    return {"dense": math.exp(nats["dense"]),
            **{name: math.exp(nats[name] - nats["dense"]) for name in METHODS}}


def family(args, model, kind, keep, seed, asked):
    """Perplexity over dense of a family that reads the prompt itself, or leaves it to dense."""
    path, figures = bundles.build(args, model, kind, keep, seed, args.options)
    bundle = Bundle(os.path.join(os.path.dirname(args.facet), "libfacet.so"), path)
    n = sum(len(ids) - len(ids) // 2 for ids in asked)
    dense = bundle.nats("dense", "dense", asked)
    ratios = {f"family, {prefill}": math.exp((bundle.nats(kind, prefill, asked) - dense) / n)
              for prefill in ("dense", "family")}
    bundle.close()
    if not args.keep_bundles:
        shutil.rmtree(path)
    return {**ratios, "dense": math.exp(dense / n), "scored_tokens": n, **figures}


def measure(args, model, kind, keep, seed):
    held = bundles.write(args, kind + ".held", bundles.held(args, kind))
    drawn = bundles.write(args, kind, bundles.draw(args, kind, seed))
    what = {**bundles.key(args, model, kind, keep, seed, []), "windows": args.windows}
    static = {**what, "static_tokens": args.static_tokens}
    asked = windows(args, model, held, args.windows)
    found = args.rows.find(static) or args.rows.add(static, methods(
        args, model, keep, asked, windows(args, model, drawn, args.static_tokens // args.ctx)))
    what["options"] = args.options
    own = args.rows.find(what) or args.rows.add(what, family(args, model, kind, keep, seed, asked))
    return [found[name] for name in METHODS] + [own["family, dense"], own["family, family"]], own


def main():
    parser, own, options = bundles.arguments(__doc__, "+", 1)
    parser.add_argument("--windows", type=int, default=24, help="of held-out text at most (24)")
    parser.add_argument("--static-tokens", type=int, default=16384,
                        help="for the prior of GLASS, the statistic and the energy (16384)")
    args = bundles.finish(parser.parse_args(own), options)
    command.table(["model", "text", "keep", "dense ppl", *HEADINGS])
    for model, kind, keep in bundles.specs(args):
        measured = [measure(args, model, kind, keep, seed) for seed in range(args.seeds)]
        medians = [statistics.median(column) for column in zip(*(cells for cells, _ in measured))]
        facts = measured[0][1]
        command.row(os.path.basename(model), kind, f"{keep:.0%}", f"{facts['dense']:.3f}",
                    *(f"{ratio:.3f}" for ratio in medians))
    print(f"\nScored: {facts['scored_tokens']} tokens, the second halves of windows of {args.ctx} "
          f"tokens. Families: facet compile {' '.join(options) or '(defaults)'}, "
          f"{facts['calibration_tokens']:.0f} calibration tokens.")


if __name__ == "__main__":
    main()
