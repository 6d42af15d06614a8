#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each part of the compiler brings: perplexity over dense, one part added at a time.

Usage: ablate.py FACET TEXTS MODEL:TEXT:KEEP[,KEEP...]... --work DIR [--columns NAME...] [--seeds 1]
                 [the options of reach.py] [-- COMPILE OPTIONS]
Every column has the same masks, text and keep; options behind -- go to all of them. A column holds
the median of the seeds. Types of the down projection are chosen in every column.
"""
import os
import statistics

import bundles
import command

COLUMNS = {
    "none": "--compensate none",
    "bias": "--compensate bias",
    "oneshot": "--refit-target oneshot",
    "refit": "--refit-target layer",
    "residual": "--refit-target residual",
    "half": "--refit-target half",
    "eliminate": "--refit-target half --select eliminate",
    "global": "--refit-target half --select eliminate --budget global",
    "tune": "--refit-target half --select eliminate --budget global --compensate tune",
}
HEADINGS = {
    "oneshot": "refit, one shot", "refit": "refit, propagated", "residual": "residual targets",
    "half": "halfway targets", "eliminate": "+ elimination", "global": "+ global budget",
    "tune": "+ tuning",
}


def main():
    parser, own, options = bundles.arguments(__doc__, "+", 1)
    parser.add_argument("--columns", nargs="+", choices=list(COLUMNS), default=list(COLUMNS),
                        metavar="NAME", help=", ".join(COLUMNS))
    args = bundles.finish(parser.parse_args(own), options)
    command.table(["model", "text", "keep", "dense ppl",
                   *(HEADINGS.get(name, name) for name in args.columns)])
    for model, kind, keep in bundles.specs(args):
        cells, dense = [], None
        for name in args.columns:
            rows = [bundles.measure(args, model, kind, keep, seed, COLUMNS[name].split() + options)
                    for seed in range(args.seeds)]
            dense = rows[0]["dense"]
            cells.append(f"{statistics.median(row['ratio'] for row in rows):.3f}")
        command.row(os.path.basename(model), kind, f"{keep:.0%}", f"{dense:.3f}", *cells)


if __name__ == "__main__":
    main()
