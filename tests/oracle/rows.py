#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Are the logits behind a prefill of n tokens the bits that n single steps give, and those of
several sequences that share a step the bits that each gets alone?

Usage: rows.py LIBFACET.so BUNDLE.facet
Through the public C API, for every family, with the bundle's best kernels, those of x86-64-v3 and the
portable ones.
"""
import ctypes
import sys

import numpy as np

COUNTS = (2, 3, 4, 5, 7, 8, 9, 16, 23, 63, 64, 65, 66, 90)
BATCHES = (1, 2, 3, 7, 16, 64)
BATCH_STEPS = 4
AUTO, GENERIC = 0, 2


class OpenOptions(ctypes.Structure):
    _fields_ = [("alloc", ctypes.c_void_p), ("log", ctypes.c_void_p), ("mode", ctypes.c_int),
                ("isa", ctypes.c_char_p), ("n_threads", ctypes.c_uint)]


class SessionOptions(ctypes.Structure):
    _fields_ = [("n_ctx", ctypes.c_uint32), ("n_threads", ctypes.c_uint),
                ("prefill", ctypes.c_char_p), ("n_sequences", ctypes.c_uint32)]


def check(status):
    if status != 0:
        sys.exit(f"facet: status {status}")


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def new_session(lib, bundle, family, threads, sequences):
    session = ctypes.c_void_p()
    options = SessionOptions(128, threads, None, sequences)
    check(lib.facet_session_new(bundle, family, ctypes.byref(options), ctypes.byref(session), None))
    return session


def batch(lib, session, n, tokens, single):
    """Steps of n sequences, begun at different places of the same text: the largest difference,
    or None for the same bits."""
    places = np.arange(n) * 5 % 60 + 1
    logits = np.zeros((n, single.shape[1]), np.float32)
    order = np.arange(n, dtype=np.uint32)[::-1].copy()
    for i, place in enumerate(places):
        check(lib.facet_session_select(session, i, None))
        check(lib.facet_session_rewind(session, 0, None))
        check(lib.facet_session_prefill(session, pointer(tokens), ctypes.c_size_t(place), None,
                                        None))
    for step in range(BATCH_STEPS):
        at = places[order] + step
        following = tokens[at]
        check(lib.facet_session_step_batch(session, n, pointer(order), pointer(following),
                                           pointer(logits), None))
        if logits.tobytes() != single[at].tobytes():
            return np.abs(logits - single[at]).max()
    return None


def rows(lib, bundle, family):
    """The prefills and the batches that differ from the single steps."""
    session = new_session(lib, bundle, family, 2, 1)
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
    for threads in (1, 2, 3):
        session = new_session(lib, bundle, family, threads, max(BATCHES))
        for n in BATCHES:
            worst = batch(lib, session, n, tokens, single)
            if worst is not None:
                different.append(f"{n} sequences on {threads} threads by {worst:.3g}")
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
            total = len(COUNTS) + 3 * len(BATCHES)
            print(f"{sys.argv[2]} {name} {family.decode()}: {total - len(different)} of {total} "
                  "prefills and batches the same", *different)
        lib.facet_close(bundle)
    sys.exit(bad != 0)


if __name__ == "__main__":
    main()
