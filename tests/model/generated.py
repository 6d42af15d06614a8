#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes generated models of every architecture, type and format in a folder, with what
test_generated.c compares: `list` has a line "path shape rotary tied" for each model, PATH.sums a line
"tensor type sum" for each tensor (the sum of the bits of its values)."""

import glob
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

import numpy as np

import gen_model
from ggml_types import TYPES, dequantize

ARCHES = ["llama", "qwen2", "qwen3", "gemma3"]
K_SIZES = ["--d", "256", "--f", "512", "--layers", "1", "--vocab", "300"]


def cases():
    for arch in ARCHES:
        for kind in ("F32", "F16", "BF16"):
            yield f"{arch}-{kind}.gguf", ["--arch", arch, "--type", kind]
            hf = ["--format", "safetensors", "--arch", arch, "--type", kind]
            yield f"{arch}-{kind}-hf", hf
        yield f"{arch}-mix.gguf", ["--arch", arch, "--type", "mix", *K_SIZES]
        yield f"{arch}-mix-hf", ["--format", "safetensors", "--arch", arch, "--type", "mix"]
    for kind in TYPES:
        yield f"type-{kind}.gguf", ["--type", kind, *K_SIZES]
    yield "fallback.gguf", ["--type", "Q6_K", "--d", "96", "--f", "160", "--gguf-version", "2"]
    yield "tied.gguf", ["--tied"]
    yield "tied-hf", ["--format", "safetensors", "--tied", "--sharded"]
    yield "sharded-hf", ["--format", "safetensors", "--arch", "qwen3", "--sharded"]
    for scaling in ("linear", "llama3"):
        yield f"{scaling}.gguf", ["--rope-scaling", scaling]
        yield f"{scaling}-hf", ["--rope-scaling", scaling, "--format", "safetensors"]


def sums_of(path):
    if path.endswith(".gguf"):
        tensors = gen_model.read_gguf(path)[1]
    else:
        tensors = {}
        for shard in sorted(glob.glob(os.path.join(path, "*.safetensors"))):
            tensors.update(gen_model.read_safetensors(shard)[1])
    for name in sorted(tensors):
        kind, dims, data = tensors[name]
        bits = dequantize(kind, data, int(np.prod(dims))).view(np.uint32)
        yield f"{name} {kind} {int(bits.sum(dtype=np.uint64))}\n"


def main(folder):
    lines = []
    for i, (name, options) in enumerate(cases()):
        path = os.path.join(folder, name)
        argv = [*options, "--seed", str(i), "-o", path]
        a = gen_model.arguments(argv)
        gen_model.main(argv)
        with open(path + ".sums", "w", encoding="utf-8") as f:
            f.writelines(sums_of(path))
        normal = a.arch == "llama" and a.format == "gguf"
        shape = f"{a.arch}:{a.layers}:{a.d}:{a.f}:{a.vocab}"
        lines.append(f"{path} {shape} {'normal' if normal else 'neox'} {int(a.tied)}\n")
    with open(os.path.join(folder, "list"), "w", encoding="utf-8") as f:
        f.writelines(lines)


if __name__ == "__main__":
    main(sys.argv[1])
