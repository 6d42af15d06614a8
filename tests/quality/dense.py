#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Dense perplexity of the runtime against the float32 computation on the dequantised weights.

Usage: dense.py BUILD_DIR MODEL TEXT... [--ctx 256]
BUILD_DIR holds `facet` and `test_stream_dump`. Windows are cut as `facet eval --ppl` cuts them.
"""
import argparse
import json
import math
import os
import subprocess
import tempfile


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("model")
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--ctx", type=int, default=256)
    args = parser.parse_args()
    facet = os.path.join(args.build, "facet")

    def run(*words):
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    bos = json.loads(run(facet, "tokenize", args.model, "--text", "", "--special", "--json"))["ids"]
    print("| text | tokens | float32 ppl | facet ppl | ratio - 1 |")
    print("|---|---|---|---|---|")
    for text in args.texts:
        row = json.loads(run(facet, "eval", args.model, "--family", "dense", "--ppl", text, "--ctx",
                             str(args.ctx), "--json", "-q"))["results"][0]
        ids = json.loads(run(facet, "tokenize", args.model, text, "--json"))["ids"]
        width = args.ctx - len(bos)
        windows = [ids[i:i + width] for i in range(0, len(ids) - width + 1, width)] or [ids]
        with tempfile.NamedTemporaryFile("w", suffix=".ids") as file:
            for window in windows:
                file.write(" ".join(map(str, bos + window)) + "\n")
            file.flush()
            nats = run(os.path.join(args.build, "test_stream_dump"), args.model, file.name, "-")
        tokens = sum(len(bos) + len(w) - 1 for w in windows)
        assert tokens == row["tokens"], (tokens, row["tokens"])
        exact = math.exp(sum(map(float, nats.split())) / tokens)
        print(f"| {os.path.basename(text)} | {tokens} | {exact:.4f} | {row['ppl']:.4f} | "
              f"{row['ppl'] / exact - 1:+.4%} |", flush=True)


if __name__ == "__main__":
    main()
