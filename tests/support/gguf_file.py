# SPDX-License-Identifier: Apache-2.0
"""GGUF and safetensors files: read and written apart from model/, for tests."""

import json
import struct

from ggml_types import NAMES, TYPES, type_bytes

# metadata type: (number, struct letter)
SCALARS = {
    "u8": (0, "B"),
    "i8": (1, "b"),
    "u16": (2, "H"),
    "i16": (3, "h"),
    "u32": (4, "I"),
    "i32": (5, "i"),
    "f32": (6, "f"),
    "bool": (7, "?"),
    "u64": (10, "Q"),
    "i64": (11, "q"),
    "f64": (12, "d"),
}
LETTERS = {number: letter for number, letter in SCALARS.values()}
STRING, ARRAY = 8, 9


def _string(s):
    b = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(b)) + b


def _value(kind, value):
    if kind == "str":
        return struct.pack("<I", STRING) + _string(value)
    if kind == "[str]":
        head = struct.pack("<IIQ", ARRAY, STRING, len(value))
        return head + b"".join(_string(v) for v in value)
    if kind.startswith("["):
        number, letter = SCALARS[kind[1:-1]]
        return struct.pack("<IIQ", ARRAY, number, len(value)) + struct.pack(
            f"<{len(value)}{letter}", *value
        )
    number, letter = SCALARS[kind]
    return struct.pack("<I" + letter, number, value)


def gguf_bytes(metadata, tensors, version=3, alignment=32):
    """metadata: [(key, kind, value)]; tensors: [(name, type, dims, bytes)], dims[0] contiguous."""
    out = [struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(metadata))]
    out += [_string(key) + _value(kind, value) for key, kind, value in metadata]
    at = 0
    for name, kind, dims, data in tensors:
        out.append(_string(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims))
        out.append(struct.pack("<IQ", TYPES[kind][0], at))
        at += (len(data) + alignment - 1) // alignment * alignment
    head = b"".join(out)
    parts = [head, bytes(-len(head) % alignment)]
    for _, _, _, data in tensors:
        parts += [data, bytes(-len(data) % alignment)]
    return b"".join(parts)


def write_gguf(path, metadata, tensors, version=3):
    with open(path, "wb") as f:
        f.write(gguf_bytes(metadata, tensors, version))


class _Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, letters):
        values = struct.unpack_from("<" + letters, self.data, self.at)
        self.at += struct.calcsize("<" + letters)
        return values if len(values) > 1 else values[0]

    def string(self):
        n = self.take("Q")
        self.at += n
        return self.data[self.at - n : self.at]

    def value(self, kind):
        if kind == STRING:
            return self.string().decode("utf-8", "surrogateescape")
        if kind != ARRAY:
            return self.take(LETTERS[kind])
        element, n = self.take("IQ")
        if element == STRING:
            return [self.value(STRING) for _ in range(n)]
        values = struct.unpack_from(f"<{n}{LETTERS[element]}", self.data, self.at)
        self.at += struct.calcsize(f"<{n}{LETTERS[element]}")
        return list(values)


def read_gguf(path):
    """(metadata {key: value}, tensors {name: (type, dims, bytes)}), dims[0] contiguous."""
    with open(path, "rb") as f:
        data = f.read()
    c = _Cursor(data)
    magic, version, n_tensors, n_entries = c.take("4sIQQ")
    assert magic == b"GGUF" and version in (2, 3), (magic, version)
    metadata = {}
    for _ in range(n_entries):
        key = c.string().decode()
        metadata[key] = c.value(c.take("I"))
    infos = []
    for _ in range(n_tensors):
        name = c.string().decode()
        n_dims = c.take("I")
        dims = [c.take("Q") for _ in range(n_dims)]
        kind, offset = c.take("IQ")
        infos.append((name, NAMES[kind], dims, offset))
    alignment = metadata.get("general.alignment", 32)
    start = (c.at + alignment - 1) // alignment * alignment
    tensors = {}
    for name, kind, dims, offset in infos:
        n = 1
        for dim in dims:
            n *= dim
        at = start + offset
        tensors[name] = (kind, dims, data[at : at + type_bytes(kind, n)])
    return metadata, tensors


def write_safetensors(path, tensors, metadata=None):
    """tensors: [(name, dtype, shape, bytes)], outermost size first."""
    header, at = {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for name, kind, shape, data in tensors:
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, _, _, data in tensors:
            f.write(data)


def read_safetensors(path):
    """(metadata, tensors {name: (dtype, shape, bytes)})."""
    with open(path, "rb") as f:
        data = f.read()
    (n,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + n])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, info in header.items():
        begin, end = info["data_offsets"]
        tensors[name] = (info["dtype"], info["shape"], data[8 + n + begin : 8 + n + end])
    return metadata, tensors
