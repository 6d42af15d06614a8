#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""AdamW in numpy: a table of starts, gradients and results for test_adam.c, and the rates of a
schedule. Usage: adam.py FILE"""

import sys

import numpy as np

# beta1, beta2, epsilon, decay, clip, relative
SETTINGS = [
    (0.9, 0.99, 1e-8, 0.0, 0.0, 0),
    (0.9, 0.95, 1e-8, 0.1, 1.0, 0),
    (0.8, 0.999, 1e-3, 0.01, 0.5, 1),
]
N, STEPS, RATE = 12, 5, 0.02


def adam(setting, matrix, bias, grads):
    """Values after every step; each of grads is (matrix, bias)."""
    b1, b2, eps, decay, clip, relative = setting
    values = [matrix.copy(), bias.copy()]
    scale = np.sqrt(np.mean(matrix**2)) if relative else 1.0
    m = [np.zeros_like(v) for v in values]
    s = [np.zeros_like(v) for v in values]
    for t, grad in enumerate(grads, 1):
        norm = np.sqrt(sum((g**2).sum() for g in grad))
        shrink = min(1.0, clip / norm) if clip > 0 else 1.0
        for i, g in enumerate(grad):
            g = g * shrink
            m[i] = b1 * m[i] + (1 - b1) * g
            s[i] = b2 * s[i] + (1 - b2) * g * g
            step = (m[i] / (1 - b1**t)) / (np.sqrt(s[i] / (1 - b2**t)) + eps)
            kept = 1 - RATE * decay if i == 0 else 1.0
            values[i] = kept * values[i] - RATE * scale * step
    return np.concatenate([values[0].ravel(), values[1].ravel()])


def main():
    rng = np.random.default_rng(4)
    with open(sys.argv[1], "w") as out:
        for setting in SETTINGS:
            matrix, bias = rng.normal(0, 0.3, N), rng.normal(0, 1, N)
            grads = [(rng.normal(0, 1, N), rng.normal(0, 0.01, N)) for _ in range(STEPS)]
            rows = [setting, matrix, bias, *(g for pair in grads for g in pair)]
            rows.append(adam(setting, matrix, bias, grads))
            for row in rows:
                out.write(" ".join(repr(float(x)) for x in row) + "\n")


if __name__ == "__main__":
    main()
