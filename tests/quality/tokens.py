#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Quality against calibration tokens: perplexity over dense of a refit and of tuning.

Usage: tokens.py FACET TEXTS MODEL:TEXT:KEEP[,KEEP...]... --work DIR [--tokens 1000 3000 10000 ...]
                 [--methods refit tune] [the options of reach.py] [-- COMPILE OPTIONS]
N tokens are at most what a refit is solved on, and at most what tuning trains on behind a refit on
N tokens, repetitions counted. Draw enough documents (--documents): the columns in brackets tell how
many tokens there really were. A cell holds the median of the seeds.
"""
import os
import statistics

import bundles
import command


def options_of(method, n):
    tune = ["--tune-tokens", str(n)] if method == "tune" else []
    return ["--compensate", method, "--calibration-tokens", str(n), *tune]


def main():
    parser, own, options = bundles.arguments(__doc__, "+", 1)
    parser.add_argument("--tokens", type=int, nargs="+",
                        default=[1000, 3000, 10000, 30000, 100000])
    parser.add_argument("--methods", nargs="+", choices=["refit", "tune"],
                        default=["refit", "tune"])
    args = bundles.finish(parser.parse_args(own), options)
    command.table(["model", "text", "keep", "tokens",
                   *(heading for method in args.methods
                     for heading in (method, f"({method}: tokens)", f"{method}: compile s"))])
    for model, kind, keep in bundles.specs(args):
        for n in args.tokens:
            cells = []
            for method in args.methods:
                rows = [bundles.measure(args, model, kind, keep, seed,
                                        options_of(method, n) + options)
                        for seed in range(args.seeds)]
                name = "tune_tokens" if method == "tune" else "calibration_tokens"
                cells += [f"{statistics.median(row['ratio'] for row in rows):.3f}",
                          f"({rows[0][name] or 0:.0f})",
                          f"{statistics.median(row['compile_seconds'] for row in rows):.0f}"]
            command.row(os.path.basename(model), kind, f"{keep:.0%}", n, *cells)


if __name__ == "__main__":
    main()
