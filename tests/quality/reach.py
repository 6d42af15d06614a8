#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Perplexity over dense of one family, over several calibrations drawn by seeds, as a table.

Usage: reach.py FACET TEXTS MODEL:TEXT:KEEP[,KEEP...]... --work DIR [--seeds 3] [--documents 160]
                [--ctx 256] [--held-bytes 100000] [--rows FILE] [--keep-bundles] [-- COMPILE OPTIONS]
TEXTS is a folder made by texts.py; bundles.py tells what is done with it. Seconds and peak memory
are of `facet compile`: median and highest of the seeds. What is measured is kept in FILE
(DIR/rows.jsonl) and not measured again.
"""
import os
import statistics

import bundles
import command


def tokens(rows):
    """What calibrated; with tuning, also how many tokens were trained on."""
    def most(name):
        return max(row[name] or 0 for row in rows)
    tuned = f" + {most('tune_tokens'):.0f} tuned" if most("tune_tokens") else ""
    return f"{most('calibration_tokens'):.0f}{tuned}"


def main():
    parser, own, options = bundles.arguments(__doc__, "+", 3)
    args = bundles.finish(parser.parse_args(own), options)
    command.table(["model", "text", "keep", "dense ppl", "over dense, each seed", "median",
                   "compile s", "peak MiB", "calibration tokens"])
    for model, kind, keep in bundles.specs(args):
        rows = [bundles.measure(args, model, kind, keep, seed, options)
                for seed in range(args.seeds)]
        ratios = [row["ratio"] for row in rows]
        command.row(os.path.basename(model), kind, f"{keep:.0%}", f"{rows[0]['dense']:.3f}",
                    " ".join(f"{ratio:.3f}" for ratio in ratios),
                    f"{statistics.median(ratios):.3f}",
                    f"{statistics.median(row['compile_seconds'] for row in rows):.0f}",
                    max(row["peak_mib"] for row in rows), tokens(rows))


if __name__ == "__main__":
    main()
