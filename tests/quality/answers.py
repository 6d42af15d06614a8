# SPDX-License-Identifier: Apache-2.0
"""Greedy answers of families to a list of prompts, kept in a folder and made once.

OUT/TASK-FAMILY.jsonl holds a line an answer, with what it was made by: the bundle (a digest of
its manifest, which names the checksum of every file), the length allowed and the texts that stop.
An answer made by anything else is made again. `facet eval --complete` writes whole files, so
prompts go to it in portions: an interrupted run loses one portion.
"""
import argparse
import atexit
import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import command

PORTION = 64  # two batches of `facet eval --complete`


def positive(text):
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def arguments(description, data, tokens, limit=None):
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("facet", help="the facet command")
    parser.add_argument("bundle", nargs="?", help="a bundle, or a model ($FACET_BUNDLE)")
    parser.add_argument("data", help=data)
    parser.add_argument("--family", nargs="+", help="families to score (all)")
    parser.add_argument("--limit", type=positive, default=limit, help="problems at most")
    parser.add_argument("--out", help="folder of answers and results (scores; with --score-only a "
                        "temporary one)")
    parser.add_argument("--score-only", action="store_true",
                        help="print one share and nothing else: of $FACET_FAMILY where --family "
                        "names none, as facet build --score wants it")
    parser.add_argument("-n", "--tokens", type=positive, default=tokens,
                        help=f"tokens of an answer at most ({tokens})")
    parser.add_argument("--prefill", choices=["family", "dense"], default="family",
                        help="who reads the problem (family)")
    parser.add_argument("--threads", type=positive, help="threads of facet")
    return parser


def family_arguments(description, data, tokens, prefill, limit=None):
    """Of a script that makes families and scores them: a parser, its words and facet compile's."""
    own, options = command.options_behind(sys.argv[1:])
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("facet", help="the facet command")
    parser.add_argument("model")
    parser.add_argument("data", help=data)
    parser.add_argument("--work", required=True, help="folder of everything that is made")
    parser.add_argument("--keep", nargs="+", default=["0.75", "0.5"])
    parser.add_argument("--prefill", choices=["family", "dense"], default=prefill,
                        help=f"who reads the problems ({prefill})")
    parser.add_argument("--limit", type=positive, default=limit, help="problems asked at most")
    parser.add_argument("-n", "--tokens", type=positive, default=tokens,
                        help=f"tokens of an answer at most ({tokens})")
    return parser, own, options


def bundle_of(args, families, keep, options):
    """The bundle of a family set at a keep, made where it is not there."""
    bundle = os.path.join(args.work, f"keep{keep}.facet")
    if not os.path.exists(bundle):
        command.run(args.facet, "compile", args.model, families, "--keep", keep, "--prefill",
                    args.prefill, "-o", bundle, *options)
    return bundle


def parse(parser):
    """The arguments; what facet build --score says in the environment stands for those not given."""
    args = parser.parse_args()
    args.bundle = args.bundle or os.environ.get("FACET_BUNDLE")
    if not args.bundle:
        parser.error("name a bundle or set FACET_BUNDLE")
    if args.score_only and not args.family and os.environ.get("FACET_FAMILY"):
        args.family = [os.environ["FACET_FAMILY"]]
    if args.score_only and len(args.family or ()) != 1:
        parser.error("--score-only: name one family or set FACET_FAMILY")
    if args.score_only and not args.out:
        args.out = tempfile.mkdtemp(prefix="scores-")
        atexit.register(shutil.rmtree, args.out, ignore_errors=True)
        # As an interrupt, an end from outside unwinds and removes the folder.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    args.out = args.out or "scores"
    os.makedirs(args.out, exist_ok=True)
    return args


def facet(args, *words):
    threads = ["--threads", str(args.threads)] if args.threads else []
    return command.run(args.facet, *words, *threads)


def families(args):
    if args.family:
        return args.family
    listed = facet(args, "inspect", args.bundle).get("families")
    return [family["name"] for family in listed] if listed else ["dense"]


def digest(args):
    manifest = os.path.join(args.bundle, "manifest.json")
    if not os.path.isfile(manifest):
        return facet(args, "inspect", args.bundle)["fingerprint"]
    with open(manifest, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:32]


def read_lines(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_problems(path, *fields):
    """The records of a published file, packed or not; each must have the fields as text."""
    try:
        with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as file:
            problems = [json.loads(line) for line in file if line.strip()]
    except (OSError, EOFError, ValueError) as error:
        raise SystemExit(f"{path}: {error}; name the published file") from None
    for i, problem in enumerate(problems, 1):
        found = problem if isinstance(problem, dict) else {}
        if not all(isinstance(found.get(field), str) for field in fields):
            raise SystemExit(f"{path}: record {i} lacks one of {', '.join(fields)}; name the "
                             "published file")
    return problems


def write_lines(path, records):
    """Whole or not at all."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    os.replace(path + ".new", path)


def complete(args, family, stops, records):
    """One portion. Returns the completions and how many tokens they are."""
    asked = os.path.join(args.out, f".asked-{os.getpid()}.jsonl")
    answered = os.path.join(args.out, f".answered-{os.getpid()}.jsonl")
    try:
        write_lines(asked, records)
        made = facet(args, "eval", args.bundle, "--family", family, "--complete", asked, "-o",
                     answered, "-n", str(args.tokens), "--prefill", args.prefill,
                     *(w for s in stops for w in ("--stop", s)))
        return [r["completion"] for r in read_lines(answered)], made["generated_tokens"]
    finally:
        for path in (asked, answered):
            if os.path.exists(path):
                os.remove(path)


def collect(args, task, family, prompts, stops=()):
    """{id: completion} of the family for prompts {id: text}; what is there is not made again."""
    path = os.path.join(args.out, f"{task}-{family}.jsonl")
    made_by = {"bundle": digest(args), "tokens": args.tokens, "stops": list(stops),
               "prefill": args.prefill}
    kept = {}
    for record in read_lines(path):
        if record["made_by"] == made_by and prompts.get(record["id"]) == record["prompt"]:
            kept[record["id"]] = record
    missing = [i for i in prompts if i not in kept]
    begin, tokens = time.monotonic(), 0
    for first in range(0, len(missing), PORTION):
        records = [{"id": i, "prompt": prompts[i]} for i in missing[first:first + PORTION]]
        completions, count = complete(args, family, stops, records)
        for record, completion in zip(records, completions, strict=True):
            kept[record["id"]] = {**record, "completion": completion, "made_by": made_by}
        write_lines(path, kept.values())
        tokens += count
        done, seconds = first + len(records), time.monotonic() - begin
        print(f"{task}: {family}: {len(kept)} of {len(prompts)} answers, {seconds / done:.1f} s "
              f"and {tokens / done:.0f} tokens an answer", file=sys.stderr, flush=True)
    return {i: kept[i]["completion"] for i in prompts}


def score(args, task, bundle, data, family, out, *words):
    """The lines, one a problem, that the script of a task writes for a family; answers are kept in
    `out`. args: facet, prefill, tokens."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{task}.py")
    subprocess.run([sys.executable, script, args.facet, bundle, data, "--family", family,
                    "--prefill", args.prefill, "--tokens", str(args.tokens), "--out", out,
                    *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    lines = read_lines(os.path.join(out, f"{task}.results.jsonl"))
    return [line for line in lines if line["family"] == family]


def report(args, task, columns, rows, results):
    """The table of rows (family, problems, right ones, ...) and a line a problem and family in
    OUT/TASK.results.jsonl; with --score-only the share of the one row alone."""
    if args.score_only:
        print(f"{rows[0][2] / rows[0][1]:.6g}")
        return
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    path = os.path.join(args.out, f"{task}.results.jsonl")
    scored = {row["family"] for row in results}
    write_lines(path, [r for r in read_lines(path) if r["family"] not in scored] + results)
