#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each part of the compiler brings: perplexity over dense, one part added at a time.

Usage: ablate.py FACET TEXTS MODEL:TEXT:KEEP[,KEEP...]... --work DIR [--columns NAME...] [--seeds 1]
                 [the options of reach.py] [-- COMPILE OPTIONS]
Every column has the same masks, text and keep; options behind -- go to all of them. A column holds
the median of the seeds. A refit that does not propagate (each layer fitted on the dense model's own
inputs) is no option of facet, so it has no column.
"""
import os
import statistics

import bundles
import command

COLUMNS = {
    "none": "--compensate none --budget uniform",
    "bias": "--compensate bias --budget uniform",
    "refit": "--compensate refit --refit-target layer --budget uniform",
    "residual": "--compensate refit --refit-target residual --budget uniform",
    "half": "--compensate refit --refit-target half --budget uniform",
    "select": "--compensate refit --refit-target best --select best --budget uniform",
    "global": "--compensate refit --refit-target half --budget global",
    "tune": "--compensate tune --refit-target half --budget global",
    "tune-uniform": "--compensate tune --refit-target half --budget uniform",
}
HEADINGS = {
    "refit": "refit, propagated, layer targets", "residual": "residual targets",
    "half": "halfway between", "select": "best target and selection",
    "global": "+ global budget", "tune": "+ tune",
    "tune-uniform": "tune, uniform budget",
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
