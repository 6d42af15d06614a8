#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Tiny models of every architecture, block type and source format: the logits of calib/ against
forward.py. Usage: forward_check.py TEST_STREAM_DUMP SCRATCH_DIR"""

import json
import os
import subprocess
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [here, os.path.join(here, "..", "support")]

import gen_model  # noqa: E402
from forward import forward, losses, open_model  # noqa: E402
from ggml_types import TYPES  # noqa: E402

# Of the largest logit. Both sides use the same weights, one in float32 and one in float64.
TOLERANCE = 1e-5
WIDE = "--d 256 --f 512 --heads 8 --kv 2 --head-dim 32"
GGUF, HF = "--format gguf", "--format safetensors"


def cases():
    """(name, gen_model arguments, changes to config.json)."""
    for kind in TYPES:
        yield f"llama {kind}", f"{GGUF} --arch llama --type {kind} {WIDE} --tied", {}
    for arch in ("llama", "qwen2", "qwen3", "gemma3"):
        odd = "--d 40 --f 100 --heads 3 --kv 1"
        yield f"{arch} gguf odd shapes", f"{GGUF} --arch {arch} --type F32 {odd}", {}
        yield f"{arch} gguf mix", f"{GGUF} --arch {arch} --type mix {WIDE}", {}
        yield f"{arch} gguf v2", f"{GGUF} --arch {arch} --type F16 --gguf-version 2", {}
        yield f"{arch} directory", f"{HF} --arch {arch} --type F32", {}
        yield f"{arch} shards", f"{HF} --arch {arch} --type mix --sharded", {}
        yield f"{arch} tied", f"{HF} --arch {arch} --type BF16 --tied --head-dim 48", {}
        for source in (GGUF, HF):
            linear = f"{source} --arch {arch} --type F32 --rope-scaling linear"
            yield f"{arch} {source} linear rope", linear, {}
    for source in (GGUF, HF):
        llama3 = f"{source} --arch llama --type F32 --rope-scaling llama3 --rope-base 500000"
        yield f"llama 3 {source}", llama3 + " --head-dim 32 --rope-original 16", {}
    mistral = {"model_type": "mistral", "sliding_window": 9}
    yield "mistral, windowed", f"{HF} --arch llama --type BF16", mistral
    yield "mistral, no window", f"{HF} --arch llama --type F32", {**mistral, "sliding_window": None}
    scalar = {"query_pre_attn_scalar": 48, "sliding_window": 5}
    yield "gemma3, own query scale", f"{HF} --arch gemma3 --type F32", scalar


def make(path, arguments, changes, seed):
    gen_model.main([*arguments.split(), "--seed", str(seed), "-o", path])
    if changes:
        file = os.path.join(path, "config.json")
        with open(file, encoding="utf-8") as f:
            config = {**json.load(f), **changes}
        with open(file, "w", encoding="utf-8") as f:
            json.dump(config, f)


def check(dump, scratch, number, arguments, changes):
    """Largest difference of logits over the largest logit, and of the samples' nats."""
    path = os.path.join(scratch, f"model{number}" + (".gguf" if GGUF in arguments else ""))
    make(path, arguments, changes, number)
    model = open_model(path)
    rng = np.random.default_rng(number)
    samples = [rng.integers(0, len(model.get("embed")), n).tolist() for n in (1, 70, 33)]
    ids, out = os.path.join(scratch, "ids"), os.path.join(scratch, "logits")
    with open(ids, "w", encoding="ascii") as f:
        f.writelines(" ".join(map(str, sample)) + "\n" for sample in samples)
    printed = subprocess.run([dump, path, ids, out], check=True, capture_output=True, text=True)
    expected = [forward(model, sample) for sample in samples]
    nats = np.array([losses(logits, sample).sum() for logits, sample in zip(expected, samples)])
    expected = np.concatenate(expected)
    got = np.fromfile(out, np.float32).reshape(expected.shape)
    assert np.isfinite(got).all() and np.ptp(expected) > 1
    of_nats = np.abs(np.array([float(line) for line in printed.stdout.split()]) - nats).max()
    return np.abs(got - expected).max() / np.abs(expected).max(), of_nats


def main():
    dump, scratch = sys.argv[1:]
    worst, failed, count = 0.0, 0, 0
    for count, (name, arguments, changes) in enumerate(cases(), 1):
        try:
            difference, of_nats = check(dump, scratch, count, arguments, changes)
        except subprocess.CalledProcessError as e:
            print(f"{name}: {e.stderr.strip()}")
            failed += 1
            continue
        worst = max(worst, difference)
        bad = not (difference < TOLERANCE and of_nats < 1e-2)
        failed += bad
        verdict = " WRONG" if bad else ""
        print(f"{name}: logits {difference:.2e} of the largest, nats {of_nats:.2e}{verdict}")
    print(f"{count} models, {failed} wrong, worst difference {worst:.2e} of the largest logit")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
