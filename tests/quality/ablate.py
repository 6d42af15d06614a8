#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each part of the compiler brings: perplexity over dense, one part added at a time.

Usage: ablate.py FACET TEXTS MODEL:TEXT:KEEP[,KEEP...]... --work DIR [--columns NAME...] [--seeds 1]
                 [the options of reach.py] [-- COMPILE OPTIONS]
Every column has the same masks, text and keep; options behind -- go to all of them. A column holds
the median of the seeds, and the bits of a weight of the family's own down projection.
"""
import os
import statistics

import bundles
import command

HALF, ELIMINATE, GLOBAL = "--refit-target half", "--select eliminate", "--budget global"
EIGHT = "--down q8_0"
COLUMNS = {
    "none": f"--compensate none {EIGHT}",
    "bias": f"--compensate bias {EIGHT}",
    "oneshot": f"--refit-target oneshot {EIGHT}",
    "refit": f"--refit-target layer {EIGHT}",
    "residual": f"--refit-target residual {EIGHT}",
    "half": f"{HALF} {EIGHT}",
    "eliminate": f"{HALF} {ELIMINATE} {EIGHT}",
    "global": f"{HALF} {ELIMINATE} {GLOBAL} {EIGHT}",
    "types": f"{HALF} {ELIMINATE} {GLOBAL}",
    "tune": f"{HALF} {ELIMINATE} {GLOBAL} --compensate tune",
}
HEADINGS = {
    "oneshot": "refit, one shot", "refit": "refit, propagated", "residual": "residual targets",
    "half": "halfway targets", "eliminate": "+ elimination", "global": "+ global budget",
    "types": "+ chosen types", "tune": "+ tuning",
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
            ratio, bits = (statistics.median(row[what] for row in rows)
                           for what in ("ratio", "down_bits"))
            cells.append(f"{ratio:.3f} ({bits:.1f})")
        command.row(os.path.basename(model), kind, f"{keep:.0%}", f"{dense:.3f}", *cells)


if __name__ == "__main__":
    main()
