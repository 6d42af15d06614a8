#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An independent forward pass in numpy, float64, one sample at a time, as plain as
the papers put it. It reads GGUF files (blocks through tests/support/ggml_types.py) and Hugging
Face directories on its own, so that a misread fact in model/ or calib/ shows as a difference.

Usage: forward.py MODEL IDS...        prints the nats of every id but the first, and their mean
       forward.py MODEL IDS... -o OUT.npy        also writes the logits (ids, vocabulary)
"""

import argparse
import glob
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from ggml_types import dequantize  # noqa: E402
from gguf_file import read_gguf  # noqa: E402

# Our name of a tensor: (GGUF, Hugging Face, Hugging Face for gemma3 where it differs).
NAMES = {
    "embed": ("token_embd.weight", "model.embed_tokens.weight", None),
    "norm": ("output_norm.weight", "model.norm.weight", None),
    "head": ("output.weight", "lm_head.weight", None),
    "factors": ("rope_freqs.weight", None, None),
}
LAYER_NAMES = {
    "attn_norm": ("attn_norm.weight", "input_layernorm.weight", None),
    "q": ("attn_q.weight", "self_attn.q_proj.weight", None),
    "k": ("attn_k.weight", "self_attn.k_proj.weight", None),
    "v": ("attn_v.weight", "self_attn.v_proj.weight", None),
    "o": ("attn_output.weight", "self_attn.o_proj.weight", None),
    "q_bias": ("attn_q.bias", "self_attn.q_proj.bias", None),
    "k_bias": ("attn_k.bias", "self_attn.k_proj.bias", None),
    "v_bias": ("attn_v.bias", "self_attn.v_proj.bias", None),
    "o_bias": ("attn_output.bias", "self_attn.o_proj.bias", None),
    "q_norm": ("attn_q_norm.weight", "self_attn.q_norm.weight", None),
    "k_norm": ("attn_k_norm.weight", "self_attn.k_norm.weight", None),
    "attn_post": ("post_attention_norm.weight", None, "post_attention_layernorm.weight"),
    "ffn_norm": ("ffn_norm.weight", "post_attention_layernorm.weight",
                 "pre_feedforward_layernorm.weight"),
    "gate": ("ffn_gate.weight", "mlp.gate_proj.weight", None),
    "up": ("ffn_up.weight", "mlp.up_proj.weight", None),
    "down": ("ffn_down.weight", "mlp.down_proj.weight", None),
    "ffn_post": ("post_ffw_norm.weight", None, "post_feedforward_layernorm.weight"),
}


class GgufModel:
    def __init__(self, path):
        self.meta, self.tensors = read_gguf(path)
        self.arch = self.meta["general.architecture"]
        head_dim = self.fact("embedding_length") // self.fact("attention.head_count")
        self.layers = self.fact("block_count")
        self.heads = self.fact("attention.head_count")
        self.kv_heads = self.fact("attention.head_count_kv", self.heads)
        self.head_dim = self.fact("attention.key_length", head_dim)
        self.rope_dims = self.fact("rope.dimension_count", self.head_dim)
        self.eps = self.fact("attention.layer_norm_rms_epsilon")
        gemma = self.arch == "gemma3"
        self.base = self.fact("rope.freq_base", 1000000.0 if gemma else 10000.0)
        self.local_base = 10000.0
        self.window = self.fact("attention.sliding_window", 0) if gemma else 0
        self.interleaved = self.arch == "llama"
        self.gain = 0.0  # the converter has added Gemma's one
        self.attn_scale = self.head_dim**-0.5
        linear = self.fact("rope.scaling.type", "none") == "linear"
        self.linear = self.fact("rope.scaling.factor", 1.0) if linear else 1.0
        self.llama3 = None

    def fact(self, name, default=None):
        value = self.meta.get(f"{self.arch}.{name}", default)
        assert value is not None, name
        return value

    def get(self, name, layer=None):
        name = NAMES[name][0] if layer is None else f"blk.{layer}.{LAYER_NAMES[name][0]}"
        if name not in self.tensors:
            return None
        kind, dims, data = self.tensors[name]
        return dequantize(kind, data, int(np.prod(dims))).reshape(dims[::-1]).astype(np.float64)


class DirectoryModel:
    def __init__(self, path):
        with open(os.path.join(path, "config.json"), encoding="utf-8") as f:
            c = json.load(f)
        self.tensors = {}
        for file in sorted(glob.glob(os.path.join(path, "*.safetensors"))):
            self.map_file(file)
        self.arch = "gemma3" if c["model_type"].startswith("gemma3") else c["model_type"]
        gemma = self.arch == "gemma3"
        self.layers, self.heads = c["num_hidden_layers"], c["num_attention_heads"]
        self.kv_heads = c.get("num_key_value_heads", self.heads)
        self.head_dim = c.get("head_dim") or c["hidden_size"] // self.heads
        self.rope_dims, self.eps, self.base = self.head_dim, c["rms_norm_eps"], c["rope_theta"]
        self.local_base = c.get("rope_local_base_freq", self.base)
        self.window = (c.get("sliding_window") or 0) if self.arch in ("gemma3", "mistral") else 0
        self.interleaved = False
        self.gain = 1.0 if gemma else 0.0
        self.attn_scale = (c["query_pre_attn_scalar"] if gemma else self.head_dim) ** -0.5
        scaling = c.get("rope_scaling") or {}
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        self.linear = scaling["factor"] if kind == "linear" else 1.0
        self.llama3 = scaling if kind == "llama3" else None

    def map_file(self, file):
        with open(file, "rb") as f:
            data = f.read()
        n = int.from_bytes(data[:8], "little")
        for name, info in json.loads(data[8 : 8 + n]).items():
            if name == "__metadata__":
                continue
            begin, end = info["data_offsets"]
            self.tensors[name] = (info["dtype"], info["shape"], data[8 + n + begin : 8 + n + end])

    def get(self, name, layer=None):
        table = NAMES if layer is None else LAYER_NAMES
        _, usual, gemma = table[name]
        name = gemma if self.arch == "gemma3" and gemma else usual
        if name and layer is not None:
            name = f"model.layers.{layer}.{name}"
        if name not in self.tensors:
            return None
        kind, shape, data = self.tensors[name]
        if kind == "BF16":
            values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(data, {"F32": "<f4", "F16": "<f2"}[kind])
        return values.astype(np.float64).reshape(shape)


def open_model(path):
    return DirectoryModel(path) if os.path.isdir(path) else GgufModel(path)


def rms_norm(x, gain, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * gain


def frequencies(m, local):
    i = np.arange(m.rope_dims // 2)
    freq = (m.local_base if local else m.base) ** (-2.0 * i / m.rope_dims)
    if not local:
        freq = freq / m.linear
    factors = m.get("factors")
    if factors is not None:
        freq = freq / factors
    if m.llama3:
        s = m.llama3
        turns = s["original_max_position_embeddings"] * freq / (2 * np.pi)
        low, high = s["low_freq_factor"], s["high_freq_factor"]
        blend = (turns - low) / (high - low)
        between = (1 - blend) * freq / s["factor"] + blend * freq
        freq = np.where(turns < low, freq / s["factor"], np.where(turns > high, freq, between))
    return freq


def rotate(m, x, local):
    """x (tokens, heads, head_dim)."""
    angle = np.arange(len(x))[:, None, None] * frequencies(m, local)
    c, s, half = np.cos(angle), np.sin(angle), m.rope_dims // 2
    out = x.copy()
    first = np.s_[..., 0 : m.rope_dims : 2] if m.interleaved else np.s_[..., :half]
    second = np.s_[..., 1 : m.rope_dims : 2] if m.interleaved else np.s_[..., half : m.rope_dims]
    out[first] = x[first] * c - x[second] * s
    out[second] = x[first] * s + x[second] * c
    return out


def project(m, x, name, layer, heads):
    y = x @ m.get(name, layer).T
    bias = m.get(name + "_bias", layer)
    return (y if bias is None else y + bias).reshape(len(x), heads, m.head_dim)


def is_local(m, layer):
    if not m.window:
        return False
    return (layer + 1) % 6 != 0 if m.arch == "gemma3" else True


def attention(m, x, layer):
    local, n = is_local(m, layer), len(x)
    q = project(m, x, "q", layer, m.heads)
    k = project(m, x, "k", layer, m.kv_heads)
    v = project(m, x, "v", layer, m.kv_heads)
    if m.get("q_norm", layer) is not None:
        q = rms_norm(q, m.get("q_norm", layer) + m.gain, m.eps)
        k = rms_norm(k, m.get("k_norm", layer) + m.gain, m.eps)
    q, k = rotate(m, q, local), rotate(m, k, local)
    k, v = (np.repeat(a, m.heads // m.kv_heads, axis=1) for a in (k, v))
    scores = np.einsum("ihd,jhd->hij", q, k) * m.attn_scale
    age = np.arange(n)[:, None] - np.arange(n)[None, :]
    seen = (age >= 0) & (age < m.window if local else True)
    scores = np.where(seen, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    out = np.einsum("hij,jhd->ihd", weights, v).reshape(n, -1) @ m.get("o", layer).T
    bias = m.get("o_bias", layer)
    return out if bias is None else out + bias


def ffn(m, x, layer):
    gate, up = x @ m.get("gate", layer).T, x @ m.get("up", layer).T
    if m.arch == "gemma3":
        act = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
    else:
        act = gate / (1 + np.exp(-gate))
    return (act * up) @ m.get("down", layer).T


def forward(m, ids):
    """Logits (ids, vocabulary) of one sequence."""
    embed = m.get("embed")
    x = embed[ids]
    if m.arch == "gemma3":
        x = x * np.sqrt(x.shape[1])
    for layer in range(m.layers):
        blocks = ((attention, "attn_norm", "attn_post"), (ffn, "ffn_norm", "ffn_post"))
        for block, norm, post in blocks:
            y = block(m, rms_norm(x, m.get(norm, layer) + m.gain, m.eps), layer)
            if m.get(post, layer) is not None:
                y = rms_norm(y, m.get(post, layer) + m.gain, m.eps)
            x = x + y
    head = m.get("head")
    return rms_norm(x, m.get("norm") + m.gain, m.eps) @ (embed if head is None else head).T


def losses(logits, ids):
    """Nats of every id but the first."""
    top = logits.max(-1, keepdims=True)
    log_sum = (top + np.log(np.exp(logits - top).sum(-1, keepdims=True)))[:, 0]
    rows = np.arange(len(ids) - 1)
    return log_sum[:-1] - logits[rows, np.asarray(ids[1:], int)]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("model")
    p.add_argument("ids", type=int, nargs="+")
    p.add_argument("-o", "--output")
    a = p.parse_args()
    logits = forward(open_model(a.model), a.ids)
    nats = losses(logits, a.ids)
    for one, value in zip(a.ids[1:], nats):
        print(one, f"{value:.9g}")
    print("mean", f"{nats.mean():.9g}")
    if a.output:
        np.save(a.output, logits)


if __name__ == "__main__":
    main()
