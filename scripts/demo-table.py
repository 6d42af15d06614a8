#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demo's table: perplexities from the bundle's proof, speeds from the bench.

Usage: demo-table.py INSPECT.json BENCH.json
"""
import json
import sys

inspect = json.load(open(sys.argv[1], encoding="utf-8"))
bench = json.load(open(sys.argv[2], encoding="utf-8"))
speed = {r["family"]: r for r in bench["rows"] if r["test"].startswith("tg")}
dense = speed["dense"]
proof = {f["name"]: f for f in inspect["proof"]["families"]}

print(f"{'family':8} {'keep':>5} | {'ppl dense':>9} {'family':>8} {'wrong':>8} {'random':>9} | "
      f"{'tok/s':>7} {'dense':>7} {'times':>6} | {'MB/token':>8} {'dense':>7}")
for family in inspect["families"]:
    name = family["name"]
    if name == "dense":
        continue
    p, s = proof[name]["perplexity"], speed[name]
    wrong = list(p["others"].values())
    now, full = s["tokens_per_second"]["median"], dense["tokens_per_second"]["median"]
    print(f"{name:8} {family['keep']:5.2f} | {p['dense']:9.3f} {p['family']:8.3f} "
          f"{min(wrong) if wrong else float('nan'):8.3f} {p['random']:9.3f} | "
          f"{now:7.1f} {full:7.1f} {now / full:6.2f} | {s['bytes_per_token'] / 1e6:8.1f} "
          f"{dense['bytes_per_token'] / 1e6:7.1f}")
print("wrong: the best of the other families; perplexities on held-out text of the task")
