# SPDX-License-Identifier: Apache-2.0
"""Block types of GGUF in numpy: exact values and random blocks. Written from the format, apart from
model/dtype.c, so that the two check each other. Every product and sum is a float32 operation."""

import numpy as np

# name: (number in GGUF, elements of a block, bytes of a block)
TYPES = {
    "F32": (0, 1, 4),
    "F16": (1, 1, 2),
    "Q4_0": (2, 32, 18),
    "Q4_1": (3, 32, 20),
    "Q5_0": (6, 32, 22),
    "Q5_1": (7, 32, 24),
    "Q8_0": (8, 32, 34),
    "Q4_K": (12, 256, 144),
    "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210),
    "BF16": (30, 1, 2),
}
NAMES = {number: name for name, (number, _, _) in TYPES.items()}


def type_bytes(name, n):
    _, block, size = TYPES[name]
    assert n % block == 0, (name, n)
    return n // block * size


def to_bf16(x):
    """Float32 to the bits of BF16, rounded to nearest even."""
    u = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype("<u2")


def encode_floats(name, x):
    x = np.ascontiguousarray(x, np.float32)
    if name == "F32":
        return x.astype("<f4").tobytes()
    if name == "F16":
        return x.astype("<f2").tobytes()
    return to_bf16(x).tobytes()


# ---- exact values ------------------------------------------------------------------------------


def _half(blocks, at):
    return blocks[:, at : at + 2].copy().view("<f2").astype(np.float32)  # (n, 1)


def _nibbles(q):
    return np.concatenate([q & 15, q >> 4], axis=1).astype(np.int32)


def _fifth(high_bytes):
    high = high_bytes.copy().view("<u4")  # (n, 1)
    return ((high >> np.arange(32, dtype=np.uint32)) & 1).astype(np.int32) << 4


def _k_scales(packed):
    p = packed.astype(np.int32)
    scale = np.concatenate([p[:, 0:4] & 63, (p[:, 8:12] & 15) | ((p[:, 0:4] >> 6) << 4)], axis=1)
    low = np.concatenate([p[:, 4:8] & 63, (p[:, 8:12] >> 4) | ((p[:, 4:8] >> 6) << 4)], axis=1)
    return scale, low


def _k_nibbles(q):
    q = q.reshape(-1, 4, 1, 32)
    return np.concatenate([q & 15, q >> 4], axis=2).reshape(-1, 8, 32).astype(np.int32)


def _k_values(b, q):
    scale, low = _k_scales(b[:, 4:16])
    ds = _half(b, 0) * scale.astype(np.float32)  # (n, 8)
    dm = _half(b, 2) * low.astype(np.float32)
    return ds[:, :, None] * q.astype(np.float32) - dm[:, :, None]


def _q4_0(b):
    return (_nibbles(b[:, 2:]) - 8).astype(np.float32) * _half(b, 0)


def _q4_1(b):
    return _nibbles(b[:, 4:]).astype(np.float32) * _half(b, 0) + _half(b, 2)


def _q5_0(b):
    return ((_nibbles(b[:, 6:]) | _fifth(b[:, 2:6])) - 16).astype(np.float32) * _half(b, 0)


def _q5_1(b):
    q = _nibbles(b[:, 8:]) | _fifth(b[:, 4:8])
    return q.astype(np.float32) * _half(b, 0) + _half(b, 2)


def _q8_0(b):
    return b[:, 2:].view(np.int8).astype(np.float32) * _half(b, 0)


def _q4_k(b):
    return _k_values(b, _k_nibbles(b[:, 16:]))


def _q5_k(b):
    bit = (b[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[None, :, None]) & 1
    return _k_values(b, _k_nibbles(b[:, 48:]) | bit.astype(np.int32) << 4)


def _q6_k(b):
    n = len(b)
    low = b[:, :128].reshape(n, 2, 1, 2, 32)
    low = np.concatenate([low & 15, low >> 4], axis=2).reshape(n, 2, 4, 32).astype(np.int32)
    high = b[:, 128:192].reshape(n, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[None, None, :, None]
    q = (low | (high & 3).astype(np.int32) << 4) - 32
    scale = b[:, 192:208].copy().view(np.int8).astype(np.float32)
    ds = _half(b, 208) * scale  # (n, 16)
    return np.repeat(ds, 16, axis=1) * q.reshape(n, 256).astype(np.float32)


_DECODE = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}


def dequantize(name, data, n):
    """n values (float32) of the bytes of a tensor."""
    if name == "F32":
        return np.frombuffer(data, "<f4", n).astype(np.float32)
    if name == "F16":
        return np.frombuffer(data, "<f2", n).astype(np.float32)
    if name == "BF16":
        return (np.frombuffer(data, "<u2", n).astype(np.uint32) << 16).view(np.float32)
    _, block, size = TYPES[name]
    blocks = np.frombuffer(data, np.uint8, n // block * size).reshape(-1, size)
    return _DECODE[name](blocks).astype(np.float32).reshape(-1)[:n]


# ---- random blocks -----------------------------------------------------------------------------


def _put_half(blocks, at, values):
    blocks[:, at : at + 2] = values.astype("<f2").view(np.uint8).reshape(-1, 2)


def _pack_k_scales(scale, low):
    out = np.zeros((len(scale), 12), np.uint8)
    out[:, 0:4] = scale[:, :4] | (scale[:, 4:] >> 4) << 6
    out[:, 4:8] = low[:, :4] | (low[:, 4:] >> 4) << 6
    out[:, 8:12] = (scale[:, 4:] & 15) | (low[:, 4:] & 15) << 4
    return out


def random_blocks(rng, name, n, deviation):
    """Bytes of n random values of about this standard deviation and mean zero."""
    if name in ("F32", "F16", "BF16"):
        return encode_floats(name, rng.standard_normal(n).astype(np.float32) * deviation)
    _, block, size = TYPES[name]
    count = n // block
    b = rng.integers(0, 256, (count, size), np.uint8)
    spread = {"Q4_0": 4.6, "Q4_1": 4.6, "Q5_0": 9.2, "Q5_1": 9.2, "Q8_0": 74.0}
    wobble = rng.uniform(0.5, 1.5, count)
    if name in spread:
        d = deviation / spread[name] * wobble
        if name in ("Q4_1", "Q5_1"):
            _put_half(b, 2, -d * (7.5 if name == "Q4_1" else 15.5))
        else:
            d *= rng.choice([-1.0, 1.0], count)
        _put_half(b, 0, d)
    elif name == "Q6_K":
        scale = rng.integers(30, 128, (count, 16)) * rng.choice([-1, 1], (count, 16))
        b[:, 192:208] = scale.astype(np.int8).view(np.uint8)
        _put_half(b, 208, deviation / (18.5 * 80) * wobble)
    else:
        scale = rng.integers(20, 64, (count, 8))
        low = np.clip(scale + rng.integers(-3, 4, (count, 8)), 0, 63)
        b[:, 4:16] = _pack_k_scales(scale.astype(np.uint8), low.astype(np.uint8))
        d = deviation / ((4.6 if name == "Q4_K" else 9.2) * 42) * wobble
        _put_half(b, 0, d)
        _put_half(b, 2, d * (7.5 if name == "Q4_K" else 15.5))
    return b.tobytes()
