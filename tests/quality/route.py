#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does `facet run --family auto` find the family that a prompt belongs to?

Usage: route.py FACET BUNDLE NAME=FILE.jsonl ... [--skip 24]
NAME is a family of the bundle, FILE holds its prompts; the first --skip of them are left out, because
the bundle was built from them. Prints a markdown table and one line of JSON with the same figures. Rows:
where prompts come from; columns: how many went where, accuracy, mean distance, mean lead of the chosen
family over the next one.
"""
import argparse
import json

import command


def prompts(path, skip):
    with open(path, encoding="utf-8") as file:
        records = [json.loads(line) for line in file if line.strip()]
    return [record["prompt"] for record in records[skip:]]


def route(facet, bundle, prompt):
    return command.run(facet, "run", bundle, "--family", "auto", "-n", "0", "-p", prompt)["route"]


def measure(args, name, path):
    routes = [route(args.facet, args.bundle, prompt) for prompt in prompts(path, args.skip)]
    if not routes:
        raise SystemExit(f"{path}: no prompts behind the first {args.skip}; lower --skip")
    leads = []
    for found in routes:
        order = sorted(found["scores"].values(), reverse=True)
        leads.append(order[0] - order[1] if len(order) > 1 else 0.0)
    chosen = [found["chosen"] for found in routes]
    n = len(routes)
    return {"task": name, "prompts": n, "chosen": {f: chosen.count(f) for f in routes[0]["scores"]},
            "accuracy": chosen.count(name) / n,
            "distance": sum(found["distance"] for found in routes) / n, "lead": sum(leads) / n}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("facet")
    parser.add_argument("bundle")
    parser.add_argument("tasks", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--skip", type=int, default=24)
    args = parser.parse_args()
    rows = [measure(args, *task.split("=", 1)) for task in args.tasks]
    names = list(rows[0]["chosen"])
    print("| prompts of | " + " | ".join(names) + " | accuracy | distance | lead |")
    print("|---|" + "---|" * (len(names) + 3))
    for row in rows:
        counts = " | ".join(str(row["chosen"][name]) for name in names)
        print(f"| {row['task']} | {counts} | {row['accuracy']:.0%} | {row['distance']:.4f} | "
              f"{row['lead']:.4f} |")
    n = sum(row["prompts"] for row in rows)
    right = sum(row["chosen"].get(row["task"], 0) for row in rows)
    print(json.dumps({"prompts": n, "accuracy": right / n, "tasks": rows}))


if __name__ == "__main__":
    main()
