#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Are the logits behind a prefill of n tokens the bits that n single steps give?

Usage: rows.py LIBFACET.so BUNDLE.facet
Through the public C API, for every family, with the bundle's best kernels, those of x86-64-v3 and the
portable ones.
"""
import ctypes
import sys

import numpy as np

COUNTS = (2, 3, 4, 5, 7, 8, 9, 16, 23, 63, 64, 65, 66, 90)
AUTO, GENERIC = 0, 2


class OpenOptions(ctypes.Structure):
    _fields_ = [("alloc", ctypes.c_void_p), ("log", ctypes.c_void_p), ("mode", ctypes.c_int),
                ("isa", ctypes.c_char_p), ("n_threads", ctypes.c_uint)]


class SessionOptions(ctypes.Structure):
    _fields_ = [("n_ctx", ctypes.c_uint32), ("n_threads", ctypes.c_uint),
                ("prefill", ctypes.c_char_p)]


def check(status):
    if status != 0:
        sys.exit(f"facet: status {status}")


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def rows(lib, bundle, family):
    """How many prefills were compared, and those that differ from the single steps."""
    session = ctypes.c_void_p()
    options = SessionOptions(128, 2, None)
    check(lib.facet_session_new(bundle, family, ctypes.byref(options), ctypes.byref(session), None))
    vocab = lib.facet_vocab(bundle)
    tokens = np.random.default_rng(1).integers(0, vocab, max(COUNTS)).astype(np.uint32)
    single = np.zeros((len(tokens), vocab), np.float32)
    for i, token in enumerate(tokens):
        check(lib.facet_session_step(session, ctypes.c_uint32(token), pointer(single[i]), None))
    row = np.zeros(vocab, np.float32)
    different = []
    for n in COUNTS:
        check(lib.facet_session_rewind(session, 0, None))
        check(lib.facet_session_prefill(session, pointer(tokens), ctypes.c_size_t(n), pointer(row),
                                        None))
        if row.tobytes() != single[n - 1].tobytes():
            different.append(f"{n} tokens by {np.abs(row - single[n - 1]).max():.3g}")
    lib.facet_session_free(session)
    return different


def main():
    lib = ctypes.CDLL(sys.argv[1])
    lib.facet_family_name.restype = ctypes.c_char_p
    lib.facet_session_free.restype = lib.facet_close.restype = None
    bad = 0
    for name, mode, isa in (("best", AUTO, None), ("x86-64-v3", AUTO, b"x86-64-v3"),
                            ("generic", GENERIC, None)):
        bundle = ctypes.c_void_p()
        options = OpenOptions(None, None, mode, isa, 2)
        check(lib.facet_open(sys.argv[2].encode(), ctypes.byref(options), ctypes.byref(bundle),
                             None))
        for i in range(lib.facet_family_count(bundle)):
            family = lib.facet_family_name(bundle, i)
            different = rows(lib, bundle, family)
            bad += len(different)
            same = len(COUNTS) - len(different)
            print(f"{sys.argv[2]} {name} {family.decode()}: {same} of {len(COUNTS)} prefills the same",
                  *different)
        lib.facet_close(bundle)
    sys.exit(bad != 0)


if __name__ == "__main__":
    main()
