# SPDX-License-Identifier: Apache-2.0
"""One family of one text, calibrated on documents that a seed draws, built and measured.

    TEXTS/KIND.jsonl --seed--> KIND.txt --predict, cluster--> families --compile--> bundle
    TEXTS/KIND.held.txt ------------------------------------------eval --ppl--> perplexities

The documents, in the seed's order and a line apart, are one raw text, so that its windows are those
that `facet eval --ppl` cuts. The model runs once for all keeps and options of a seed.
"""
import argparse
import json
import os
import random
import shutil
import sys

import command


def arguments(description, rows, seeds):
    """rows: the words for what is measured (a usage line); seeds: how many by default."""
    own, options = command.options_behind(sys.argv[1:])
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("facet", help="the facet command")
    parser.add_argument("texts", help="folder made by texts.py --documents N")
    parser.add_argument("what", nargs=rows, metavar="MODEL:TEXT:KEEP[,KEEP...]")
    parser.add_argument("--work", required=True, help="folder for masks, families and bundles")
    parser.add_argument("--seeds", type=int, default=seeds, help=f"calibrations ({seeds})")
    parser.add_argument("--documents", type=int, default=160, help="drawn to calibrate (160)")
    parser.add_argument("--ctx", type=int, default=256, help="tokens of a window (256)")
    parser.add_argument("--held-bytes", type=int, default=100000,
                        help="held-out text is cut behind the last line within them (100000)")
    parser.add_argument("--rows", help="file of results (WORK/rows.jsonl)")
    parser.add_argument("--keep-bundles", action="store_true")
    return parser, own, options


def finish(parsed, options):
    os.makedirs(parsed.work, exist_ok=True)
    parsed.options = options
    parsed.rows = command.Rows(parsed.rows or os.path.join(parsed.work, "rows.jsonl"), parsed.facet)
    return parsed


def specs(args):
    """(model, text, keep) of every MODEL:TEXT:KEEP[,KEEP...]."""
    for what in args.what:
        try:
            model, kind, keeps = what.rsplit(":", 2)
            keeps = [float(keep) for keep in keeps.split(",")]
        except ValueError:
            raise SystemExit(f"{what}: write MODEL:TEXT:KEEP, several keeps with commas") from None
        yield from ((model, kind, keep) for keep in keeps)


def draw(args, kind, seed):
    """The documents of a seed as one text."""
    path = os.path.join(args.texts, kind + ".jsonl")
    with open(path, encoding="utf-8") as file:
        records = [json.loads(line) for line in file if line.strip()]
    if len(records) < args.documents:
        print(f"{path}: {len(records)} documents, so every seed takes all", file=sys.stderr)
    drawn = random.Random(seed).sample(records, min(args.documents, len(records)))
    return "\n".join(r["prompt"] + r.get("completion", "") for r in drawn)


def held(args, kind):
    with open(os.path.join(args.texts, kind + ".held.txt"), "rb") as file:
        text = file.read(args.held_bytes + 1)
    if len(text) > args.held_bytes:
        text = text[:text.rfind(b"\n", 0, args.held_bytes) + 1] or text[:args.held_bytes]
    return text.decode("utf-8", "ignore")


def write(args, name, text):
    """A file of this text in WORK; its name tells the text, so files of old texts are not taken."""
    path = os.path.join(args.work, f"{name}-{command.digest(text)}.txt")
    if not os.path.exists(path):
        with open(path + ".new", "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.replace(path + ".new", path)
    return path


def families(args, model, kind, seed):
    """The families file of a seed, made once; its masks are large and go."""
    text = draw(args, kind, seed)
    name = f"{os.path.basename(model)}-{kind}-{args.ctx}-{command.digest(text)}"
    path = os.path.join(args.work, name + ".families")
    if not os.path.exists(path):
        masks = os.path.join(args.work, name + ".masks")
        command.run(args.facet, "predict", model, "--task", f"{kind}={write(args, kind, text)}",
                    "--ctx", args.ctx, "-o", masks, "--force")
        command.run(args.facet, "cluster", masks, "-o", path, "--families", "label")
        os.remove(masks)
    return path


def build(args, model, kind, keep, seed, options):
    """Path of the bundle and the figures of its compile."""
    path = os.path.join(args.work, "{}-{}-{}.facet".format(
        os.path.basename(model), kind, command.digest(json.dumps([keep, seed, options]))))
    made, seconds, peak = command.measured(
        args.facet, "compile", model, families(args, model, kind, seed), "--keep", keep, "-o", path,
        "--force", "--no-proof", *options)
    facts = {name: made["proof"]["families"][0].get(name) for name in (
        "calibration_tokens", "tune_tokens", "down_bits", "layer_error", "loss_refit", "loss_tuned")}
    return path, {"compile_seconds": round(seconds, 1), "peak_mib": round(peak), **facts}


def key(args, model, kind, keep, seed, options):
    return {"model": os.path.basename(model), "text": kind, "keep": keep, "seed": seed,
            "ctx": args.ctx, "options": options, "held": command.digest(held(args, kind)),
            "calibration": command.digest(draw(args, kind, seed))}


def measure(args, model, kind, keep, seed, options):
    """The row of one bundle: perplexities on held-out text, time, memory. Made once."""
    what = key(args, model, kind, keep, seed, options)
    found = args.rows.find(what)
    if found:
        return found
    bundle, figures = build(args, model, kind, keep, seed, options)
    scored = command.run(args.facet, "eval", bundle, "--family", "all", "--ctx", args.ctx,
                         "--ppl", write(args, kind + ".held", held(args, kind)))["results"]
    ppl = {result["family"]: result["ppl"] for result in scored}
    if not args.keep_bundles:
        shutil.rmtree(bundle)
    return args.rows.add(what, {"dense": ppl["dense"], "family": ppl[kind],
                                "ratio": ppl[kind] / ppl["dense"],
                                "scored_tokens": scored[0]["tokens"], **figures})
