#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Dense perplexity of the runtime against the float32 computation on the dequantised weights.

Usage: dense.py BUILD_DIR MODEL TEXT... [--ctx 256]
BUILD_DIR holds `facet` and `test_stream_dump`. Windows are cut as `facet eval --ppl` cuts them.
"""
import argparse
import math
import os
import subprocess
import tempfile

import command


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("model")
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--ctx", type=int, default=256)
    args = parser.parse_args()
    facet = os.path.join(args.build, "facet")

    bos = command.run(facet, "tokenize", args.model, "--text", "", "--special")["ids"]
    print("| text | tokens | float32 ppl | facet ppl | ratio - 1 |")
    print("|---|---|---|---|---|")
    for text in args.texts:
        row = command.run(facet, "eval", args.model, "--family", "dense", "--ppl", text, "--ctx",
                          args.ctx)["results"][0]
        ids = command.run(facet, "tokenize", args.model, text)["ids"]
        width = args.ctx - len(bos)
        windows = [ids[i:i + width] for i in range(0, len(ids) - width + 1, width)] or [ids]
        with tempfile.NamedTemporaryFile("w", suffix=".ids") as file:
            for window in windows:
                file.write(" ".join(map(str, bos + window)) + "\n")
            file.flush()
            dump = [os.path.join(args.build, "test_stream_dump"), args.model, file.name, "-"]
            nats = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
        tokens = sum(len(bos) + len(w) - 1 for w in windows)
        assert tokens == row["tokens"], (tokens, row["tokens"])
        exact = math.exp(sum(map(float, nats.split())) / tokens)
        print(f"| {os.path.basename(text)} | {tokens} | {exact:.4f} | {row['ppl']:.4f} | "
              f"{row['ppl'] / exact - 1:+.4%} |", flush=True)


if __name__ == "__main__":
    main()
