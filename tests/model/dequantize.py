#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Prints dequantize.txt: for each block type, the hexadecimal bytes of random blocks and the bits of
their values, as numpy computes them. test_dtype.c compares; dequantize.sh checks that the file is
what this prints."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

import numpy as np

from ggml_types import TYPES, dequantize


def blocks(rng, name):
    _, block, size = TYPES[name]
    count = {1: 12, 32: 3}.get(block, 1)
    b = rng.integers(0, 256, (count, size), np.uint8)
    # Any quants and scales, but finite halves: one ordinary, one negative, one subnormal.
    halves = np.array([0.0123, -1.7, 3e-6], "<f2").view(np.uint8).reshape(-1, 2)
    places = {"Q4_1": [0, 2], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
    for i, at in enumerate(places.get(name, [0] if block > 1 else [])):
        for row in range(count):
            b[row, at : at + 2] = halves[(row + i) % 3]
    if name == "F16":
        b[:, 1] &= 0xBF  # no infinity, no NaN
    if name in ("F32", "BF16"):
        b[:, -1] &= 0xBF
    return b


def main():
    rng = np.random.default_rng(2026)
    for name, (_, block, size) in TYPES.items():
        b = blocks(rng, name)
        n = b.size // size * block
        bits = dequantize(name, b.tobytes(), n).view(np.uint32)
        print(name, b.tobytes().hex(), "".join(f"{v:08x}" for v in bits))


if __name__ == "__main__":
    main()
