# SPDX-License-Identifier: Apache-2.0
"""test_griffin against the same methods written in numpy on top of forward.py, float64.

Usage: griffin_check.py TOOL SCRATCH_DIRECTORY
"""
import os
import subprocess
import sys

import numpy as np

import forward
from forward import open_model, rms_norm

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import gen_model  # noqa: E402

METHODS = ("griffin", "glass", "stats", "energy", "magnitude")
MODELS = ("--arch llama --type F32 --f 100", "--arch gemma3 --type F32 --f 90 --layers 3",
          "--arch qwen2 --type Q8_0 --d 64 --f 128")


def z_of(m, x, layer):
    """act(x Wg) * (x Wu), by letting forward's own FFN multiply with the identity."""
    class Plain:
        arch = m.arch

        @staticmethod
        def get(name, at):
            return np.eye(m.get("gate", at).shape[0]) if name == "down" else m.get(name, at)
    return forward.ffn(Plain, x, layer)


def run(m, ids, kept=None, n_dense=0, seen=None):
    """Logits; tokens from n_dense on keep the channels kept[layer]; seen collects z by layers."""
    embed = m.get("embed")
    x = embed[ids] * (np.sqrt(embed.shape[1]) if m.arch == "gemma3" else 1)
    for layer in range(m.layers):
        y = forward.attention(m, rms_norm(x, m.get("attn_norm", layer) + m.gain, m.eps), layer)
        x = x + post(m, y, "attn_post", layer)
        z = z_of(m, rms_norm(x, m.get("ffn_norm", layer) + m.gain, m.eps), layer)
        if seen is not None:
            seen.append(z)
        if kept is not None:
            z[n_dense:, ~kept[layer]] = 0
        x = x + post(m, z @ m.get("down", layer).T, "ffn_post", layer)
    head = m.get("head")
    return rms_norm(x, m.get("norm") + m.gain, m.eps) @ (embed if head is None else head).T


def post(m, y, name, layer):
    gain = m.get(name, layer)
    return y if gain is None else rms_norm(y, gain + m.gain, m.eps)


def activations(m, ids):
    seen = []
    run(m, ids, seen=seen)
    return np.array(seen)  # (layers, tokens, channels)


def statistic(m, ids):
    """Squares of GRIFFIN's s, (layers, channels)."""
    z = activations(m, ids)
    return ((z / np.linalg.norm(z, axis=2, keepdims=True)) ** 2).sum(1)


def ranks(values):
    return values.argsort(-1).argsort(-1) + 1.0


def norms(m, layer):
    rows = (np.linalg.norm(m.get(name, layer), axis=1) for name in ("gate", "up"))
    return np.prod([*rows, np.linalg.norm(m.get("down", layer), axis=0)], axis=0)


def scores(m, method, prompts, calibration):
    """(layers, channels) for every prompt."""
    if method == "griffin":
        return [statistic(m, ids) for ids in prompts]
    if method == "glass":
        everyone = calibration + prompts
        prior = np.mean([statistic(m, ids) / len(ids) for ids in everyone], axis=0)
        return [ranks(statistic(m, ids)) + ranks(prior) for ids in prompts]
    if method == "stats":
        one = sum(statistic(m, ids) for ids in calibration)
    elif method == "energy":
        down = np.array([(m.get("down", layer) ** 2).sum(0) for layer in range(m.layers)])
        one = sum((activations(m, ids) ** 2).sum(1) for ids in calibration) * down
    else:
        one = np.array([norms(m, layer) for layer in range(m.layers)])
    return [one] * len(prompts)


def expected(m, method, keep, windows, calibration):
    """Nats of the second halves."""
    prompts = [ids[:len(ids) // 2] for ids in windows]
    total = 0.0
    for ids, prompt, score in zip(windows, prompts, scores(m, method, prompts, calibration)):
        kept = np.zeros(score.shape, bool)
        best = np.argsort(-score, axis=1, kind="stable")[:, :int(keep * score.shape[1])]
        np.put_along_axis(kept, best, True, axis=1)
        logits = run(m, ids, kept, len(prompt))
        total += forward.losses(logits, ids)[len(prompt) - 1:].sum()
    return total


def write(path, samples):
    with open(path, "w", encoding="ascii") as file:
        file.writelines(" ".join(map(str, sample)) + "\n" for sample in samples)


def tool(command, *words):
    done = subprocess.run([command, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return {name: (int(n), float(nats)) for name, n, nats in lines}


def check(command, scratch, number, arguments):
    path, ids, calibration = (os.path.join(scratch, f"{n}{number}") for n in ("m", "ids", "cal"))
    path += ".gguf"
    gen_model.main([*arguments.split(), "--seed", str(number), "-o", path])
    m, rng = open_model(path), np.random.default_rng(number)
    windows = [rng.integers(0, 300, n).tolist() for n in (40, 7, 150, 2)]
    texts = [rng.integers(0, 300, n).tolist() for n in (90, 33)]
    write(ids, windows)
    write(calibration, texts)
    scored = sum(len(w) - len(w) // 2 for w in windows)
    worst = 0.0
    for keep in (0.5, 0.2):
        got = tool(command, path, ids, calibration, str(keep), *METHODS)
        for method in METHODS:
            want = expected(m, method, keep, windows, texts)
            assert got[method][0] == scored
            assert abs(got[method][1] - got["dense"][1]) > 0.1, "the choice changes nothing"
            worst = max(worst, abs(got[method][1] - want))
        assert len({nats for _, nats in got.values()}) == len(METHODS) + 1, "two are the same"
    dense = expected(m, "magnitude", 1, windows, texts)
    for method, (_, nats) in tool(command, path, ids, calibration, "1", *METHODS).items():
        assert abs(nats - dense) < 1e-2, f"{method} with every channel is not dense"
    assert worst < 1e-2, f"{arguments}: {worst} nats from numpy"
    print(f"{arguments}: {worst:.2e} nats from numpy at most")


def refusals(command, scratch):
    model, ids = os.path.join(scratch, "m0.gguf"), os.path.join(scratch, "ids0")
    one = os.path.join(scratch, "one")
    write(one, [[5]])
    for words, said in (((model, ids, "-", "0.5", "glass"), "needs calibration"),
                        ((model, ids, "-", "0.5", "grifin"), "is no method"),
                        ((model, ids, "-", "1.5", "griffin"), "KEEP 1.5"),
                        ((model, one, "-", "0.5", "griffin"), "one token")):
        done = subprocess.run([command, *words], capture_output=True, text=True)
        assert done.returncode not in (0, 77) and said in done.stderr, (words, done.stderr)


def main():
    command, scratch = sys.argv[1:]
    for number, arguments in enumerate(MODELS):
        check(command, scratch, number, arguments)
    refusals(command, scratch)


if __name__ == "__main__":
    main()
