#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a tiny random model, the same bytes for the same arguments: a GGUF file or a Hugging Face
directory. With a plain float type both formats hold the same function for the same seed.

    gen_model.py --format gguf --arch llama --type Q4_K --d 256 --f 512 --seed 1 -o tiny.gguf
    gen_model.py --format safetensors --arch gemma3 --type BF16 --sharded -o DIR
"""

import argparse
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import numpy as np

import tiny_vocab
from ggml_types import TYPES, dequantize, encode_floats, random_blocks  # noqa: F401
from gguf_file import read_gguf, read_safetensors, write_gguf, write_safetensors  # noqa: F401

# What llama.cpp's quantiser does when rows are no multiple of 256 columns.
K_FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
MIX = ["Q4_K", "Q6_K", "Q5_0", "Q8_0", "Q4_0", "Q5_K", "Q4_1", "F16", "Q5_1", "BF16"]
PLAIN = ("F32", "F16", "BF16")

LAYER_NAMES = {  # GGUF name: Hugging Face name
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "attn_q.bias": "self_attn.q_proj.bias",
    "attn_k.bias": "self_attn.k_proj.bias",
    "attn_v.bias": "self_attn.v_proj.bias",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
GEMMA_NAMES = {
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "ffn_norm.weight": "pre_feedforward_layernorm.weight",
    "post_ffw_norm.weight": "post_feedforward_layernorm.weight",
}
TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def fitting(kind, cols):
    """The type a matrix with this many columns gets when `kind` is asked for."""
    if cols % TYPES[kind][1] == 0:
        return kind
    kind = K_FALLBACK.get(kind, kind)
    return kind if cols % TYPES[kind][1] == 0 else "F32"


def llama3_factors(a):
    i = np.arange(a.head_dim // 2)
    freq = a.rope_base ** (-2.0 * i / a.head_dim)
    length = 2 * np.pi / freq
    smooth = np.clip((a.rope_original / length - 1.0) / (4.0 - 1.0), 0, 1)
    return (1 / ((1 - smooth) / 8.0 + smooth)).astype(np.float32)


def permute_rows(x, heads):
    """Rows of q or k from NEOX order (Hugging Face) to pairs (GGUF's llama)."""
    rest = x.shape[1:]
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *rest).swapaxes(1, 2).reshape(x.shape)


class Maker:
    """Collects (GGUF name, type, shape outermost first, bytes)."""

    def __init__(self, a):
        self.a, self.rng, self.tensors, self.count = a, np.random.default_rng(a.seed), [], 0

    def kind_of(self, cols):
        kind = self.a.type
        if kind == "mix":
            kind = MIX[self.count % len(MIX)]
            if self.a.format != "gguf":
                kind = PLAIN[self.count % 3]
        self.count += 1
        return fitting(kind, cols)

    def matrix(self, name, rows, cols, heads=0, deviation=None):
        kind = self.kind_of(cols)
        deviation = deviation or cols**-0.5
        data = random_blocks(self.rng, kind, rows * cols, deviation)
        if heads and self.a.arch == "llama" and self.a.format == "gguf" and kind in PLAIN:
            words = np.frombuffer(data, f"V{TYPES[kind][2]}").reshape(rows, cols)
            data = permute_rows(words, heads).tobytes()
        self.tensors.append((name, kind, (rows, cols), data))

    def vector(self, name, n, mean, spread):
        values = mean + spread * self.rng.standard_normal(n).astype(np.float32)
        kind = "F32"
        if self.a.format != "gguf":
            kind = self.a.type if self.a.type in PLAIN else "F32"
        self.tensors.append((name, kind, (n,), encode_floats(kind, values)))

    def layer(self, i):
        a, p = self.a, f"blk.{i}."
        gain = 0 if a.arch == "gemma3" and a.format != "gguf" else 1
        q, kv = a.heads * a.head_dim, a.kv * a.head_dim
        self.vector(p + "attn_norm.weight", a.d, gain, 0.1)
        self.matrix(p + "attn_q.weight", q, a.d, a.heads)
        self.matrix(p + "attn_k.weight", kv, a.d, a.kv)
        self.matrix(p + "attn_v.weight", kv, a.d)
        self.matrix(p + "attn_output.weight", a.d, q)
        if a.arch == "qwen2":
            for name, n in (("q", q), ("k", kv), ("v", kv)):
                self.vector(p + f"attn_{name}.bias", n, 0, 0.3)
        if a.arch in ("qwen3", "gemma3"):
            self.vector(p + "attn_q_norm.weight", a.head_dim, gain, 0.1)
            self.vector(p + "attn_k_norm.weight", a.head_dim, gain, 0.1)
        if a.arch == "gemma3":
            self.vector(p + "post_attention_norm.weight", a.d, gain, 0.1)
        self.vector(p + "ffn_norm.weight", a.d, gain, 0.1)
        self.matrix(p + "ffn_gate.weight", a.f, a.d)
        self.matrix(p + "ffn_up.weight", a.f, a.d)
        self.matrix(p + "ffn_down.weight", a.d, a.f)
        if a.arch == "gemma3":
            self.vector(p + "post_ffw_norm.weight", a.d, gain, 0.1)

    def whole(self):
        a = self.a
        gain = 0 if a.arch == "gemma3" and a.format != "gguf" else 1
        self.matrix("token_embd.weight", a.vocab, a.d)
        for i in range(a.layers):
            self.layer(i)
        self.vector("output_norm.weight", a.d, gain, 0.1)
        if not a.tied:
            self.matrix("output.weight", a.vocab, a.d)
        if a.rope_scaling == "llama3" and a.format == "gguf":
            data = encode_floats("F32", llama3_factors(a))
            self.tensors.append(("rope_freqs.weight", "F32", (a.head_dim // 2,), data))
        return self.tensors


def vocabulary(a):
    if a.arch == "gemma3":
        return tiny_vocab.spm(a.vocab)
    pre = "qwen2" if a.arch != "llama" else "smollm"
    return tiny_vocab.bpe(a.vocab, a.pre or pre)


def save_gguf(a, tensors):
    p = a.arch + "."
    meta = [
        ("general.architecture", "str", a.arch),
        ("general.name", "str", f"tiny {a.arch}"),
        ("general.alignment", "u32", 32),
        (p + "block_count", "u32", a.layers),
        (p + "context_length", "u32", a.ctx),
        (p + "embedding_length", "u32", a.d),
        (p + "feed_forward_length", "u32", a.f),
        (p + "attention.head_count", "u32", a.heads),
        (p + "attention.head_count_kv", "u32", a.kv),
        (p + "attention.key_length", "u32", a.head_dim),
        (p + "attention.value_length", "u32", a.head_dim),
        (p + "attention.layer_norm_rms_epsilon", "f32", 1e-6),
        (p + "rope.freq_base", "f32", a.rope_base),
        (p + "rope.dimension_count", "u32", a.head_dim),
        (p + "vocab_size", "u32", a.vocab),
    ]
    if a.arch == "gemma3":
        meta.append((p + "attention.sliding_window", "u32", a.window))
    if a.rope_scaling == "linear":
        meta.append((p + "rope.scaling.type", "str", "linear"))
        meta.append((p + "rope.scaling.factor", "f32", 4.0))
    meta += tiny_vocab.gguf_metadata(vocabulary(a))
    tensors = [(name, kind, tuple(reversed(shape)), data) for name, kind, shape, data in tensors]
    write_gguf(a.output, meta, tensors, a.gguf_version)


def hf_config(a):
    types = {"llama": "llama", "gemma3": "gemma3_text"}
    config = {
        "model_type": types.get(a.arch, a.arch),
        "_name_or_path": f"tiny {a.arch}",
        "hidden_size": a.d,
        "intermediate_size": a.f,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv,
        "head_dim": a.head_dim,
        "vocab_size": a.vocab,
        "max_position_embeddings": a.ctx,
        "rms_norm_eps": 1e-6,
        "rope_theta": a.rope_base,
        "rope_scaling": None,
        "tie_word_embeddings": a.tied,
        "hidden_act": "silu",
        "torch_dtype": "float32",
    }
    if a.arch == "gemma3":
        config["hidden_activation"] = config.pop("hidden_act").replace("silu", "gelu_pytorch_tanh")
        config["sliding_window"] = a.window
        config["rope_local_base_freq"] = 10000.0
        config["query_pre_attn_scalar"] = a.head_dim
    if a.rope_scaling == "linear":
        config["rope_scaling"] = {"rope_type": "linear", "factor": 4.0}
    if a.rope_scaling == "llama3":
        config["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": a.rope_original,
        }
    return config


def hf_name(arch, name):
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    _, layer, rest = name.split(".", 2)
    names = {**LAYER_NAMES, **GEMMA_NAMES} if arch == "gemma3" else LAYER_NAMES
    return f"model.layers.{layer}.{names[rest]}"


def save_directory(a, tensors):
    os.makedirs(a.output, exist_ok=True)
    tensors = [(hf_name(a.arch, name), kind, shape, data) for name, kind, shape, data in tensors]
    documents = {"config.json": hf_config(a), **tiny_vocab.hf_files(vocabulary(a))}
    if a.sharded:
        half = len(tensors) // 2
        shards = {
            "model-00001-of-00002.safetensors": tensors[:half],
            "model-00002-of-00002.safetensors": tensors[half:],
        }
        weight_map = {t[0]: shard for shard, part in shards.items() for t in part}
        total = sum(len(t[3]) for t in tensors)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        documents["model.safetensors.index.json"] = index
    else:
        shards = {"model.safetensors": tensors}
    for shard, part in shards.items():
        write_safetensors(os.path.join(a.output, shard), part, {"format": "pt"})
    for name, document in documents.items():
        with open(os.path.join(a.output, name), "w", encoding="utf-8") as f:
            json.dump(document, f, ensure_ascii=False, indent=1)


def arguments(argv):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--format", choices=["gguf", "safetensors"], default="gguf")
    p.add_argument("--arch", choices=["llama", "qwen2", "qwen3", "gemma3"], default="llama")
    p.add_argument("--type", choices=[*TYPES, "mix"], default="F32")
    p.add_argument("--gguf-version", type=int, choices=[2, 3], default=3)
    p.add_argument("--sharded", action="store_true")
    p.add_argument("--tied", action="store_true")
    p.add_argument("--rope-scaling", choices=["none", "linear", "llama3"], default="none")
    p.add_argument("--rope-base", type=float)
    p.add_argument("--rope-original", type=int, default=32, help="llama3: context before scaling")
    p.add_argument("--layers", type=int, help="default 3, gemma3 7")
    p.add_argument("--d", type=int, default=64)
    p.add_argument("--f", type=int, default=172)
    p.add_argument("--heads", type=int, default=4)
    p.add_argument("--kv", type=int, default=2)
    p.add_argument("--head-dim", type=int, default=16)
    p.add_argument("--vocab", type=int, default=512)
    p.add_argument("--ctx", type=int, default=512)
    p.add_argument("--window", type=int, default=16, help="gemma3: sliding window")
    p.add_argument("--pre", choices=["gpt-2", "qwen2", "smollm", "llama-bpe"])
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("-o", "--output", required=True)
    a = p.parse_args(argv)
    a.layers = a.layers or (7 if a.arch == "gemma3" else 3)
    a.tied = a.tied or a.arch == "gemma3"
    a.rope_base = a.rope_base or (1000000.0 if a.arch == "gemma3" else 10000.0)
    if a.format == "safetensors" and a.type not in (*PLAIN, "mix"):
        p.error(f"safetensors models have no type {a.type}")
    if a.vocab < 300:
        p.error("--vocab must be at least 300")
    return a


def main(argv=None):
    a = arguments(argv)
    tensors = Maker(a).whole()
    if a.format == "gguf":
        save_gguf(a, tensors)
    else:
        save_directory(a, tensors)


if __name__ == "__main__":
    main()
