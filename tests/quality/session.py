# SPDX-License-Identifier: Apache-2.0
"""A bundle through the public C API: the loss of the second half of a window."""
import ctypes

import numpy as np


class Options(ctypes.Structure):
    _fields_ = [("n_ctx", ctypes.c_uint32), ("n_threads", ctypes.c_uint),
                ("prefill", ctypes.c_char_p), ("n_sequences", ctypes.c_uint32)]


class Bundle:
    def __init__(self, library, path):
        self.lib, self.err = ctypes.CDLL(library), ctypes.create_string_buffer(1024)
        self.bundle = ctypes.c_void_p()
        self.check(self.lib.facet_open(path.encode(), None, ctypes.byref(self.bundle), self.err))
        self.logits = np.zeros(self.lib.facet_vocab(self.bundle), np.float32)

    def check(self, status):
        if status != 0:
            raise SystemExit("facet: " + self.err[272:784].split(b"\0")[0].decode())

    def close(self):
        self.lib.facet_close.restype = None
        self.lib.facet_close(self.bundle)

    def nats(self, family, prefill, windows):
        """Sum over the second halves; the first halves are read as one prompt by `prefill`
        ("family" or "dense")."""
        session = ctypes.c_void_p()
        options = Options(max(map(len, windows)), 0, prefill.encode())
        self.check(self.lib.facet_session_new(self.bundle, family.encode(), ctypes.byref(options),
                                              ctypes.byref(session), self.err))
        total = sum(self.second_half(session, ids) for ids in windows)
        self.lib.facet_session_free.restype = None
        self.lib.facet_session_free(session)
        return total

    def second_half(self, session, ids):
        half = len(ids) // 2
        prompt = np.array(ids[:half], np.uint32)
        out = self.logits.ctypes.data_as(ctypes.c_void_p)
        self.check(self.lib.facet_session_rewind(session, 0, self.err))
        self.check(self.lib.facet_session_prefill(session, prompt.ctypes.data_as(ctypes.c_void_p),
                                                  ctypes.c_size_t(half), out, self.err))
        total = self.loss(ids[half])
        for token, following in zip(ids[half:], ids[half + 1:]):
            self.check(self.lib.facet_session_step(session, ctypes.c_uint32(token), out, self.err))
            total += self.loss(following)
        return total

    def loss(self, token):
        logits = self.logits.astype(np.float64)
        return np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[token]
