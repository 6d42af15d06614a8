# SPDX-License-Identifier: Apache-2.0
"""Mask sets and families as another program reads and writes them: safetensors by hand."""
import json
import struct

import numpy

TYPES = {"I32": "<i4", "U8": "u1", "F32": "<f4"}


def load(path):
    """Metadata and tensors by name."""
    data = open(path, "rb").read()
    n, = struct.unpack("<Q", data[:8])
    head = json.loads(data[8:8 + n])
    meta, tensors = head.pop("__metadata__"), {}
    for name, t in head.items():
        begin, end = (8 + n + at for at in t["data_offsets"])
        tensors[name] = numpy.frombuffer(data[begin:end], TYPES[t["dtype"]]).reshape(t["shape"])
    return meta, tensors


def save(path, meta, tensors):
    head, body = {"__metadata__": meta}, b""
    for name, value in tensors.items():
        kind = next(k for k, v in TYPES.items() if numpy.dtype(v) == value.dtype)
        head[name] = {"dtype": kind, "shape": value.shape,
                      "data_offsets": [len(body), len(body) + value.nbytes]}
        body += value.tobytes()
    text = json.dumps(head).encode()
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + body)
