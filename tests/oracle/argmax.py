#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Same highest-logit token as llama.cpp? By hand: wants llama-cpp-python and a bundle of the same model.

Usage: argmax.py LIBFACET.so BUNDLE.facet MODEL.gguf PROMPTS.jsonl... [--prompts 40] [-n 64] [-t 2]
For each prompt llama.cpp decodes greedily n tokens; both engines are then fed the same tokens one by
one (ours through the public C API, family dense), and the share of positions with the same
highest-logit token is printed, over the generated positions. Token ids of the prompts are compared too.
"""
import argparse
import ctypes
import json

import llama_cpp
import numpy as np


class Ours:
    def __init__(self, library, bundle, context, threads):
        self.lib = ctypes.CDLL(library)
        self.bundle = ctypes.c_void_p()
        self.session = ctypes.c_void_p()
        self.err = ctypes.create_string_buffer(1024)
        self.check(self.lib.facet_open(bundle.encode(), None, ctypes.byref(self.bundle), self.err))
        options = (ctypes.c_uint32 * 4)(context, threads, 0, 0)  # n_ctx, n_threads, prefill NULL
        self.check(self.lib.facet_session_new(self.bundle, b"dense", options,
                                              ctypes.byref(self.session), self.err))
        self.vocab = self.lib.facet_vocab(self.bundle)
        self.logits = np.zeros(self.vocab, np.float32)

    def check(self, status):
        if status != 0:
            raise SystemExit("facet: " + bytes(self.err[272:784]).split(b"\0")[0].decode())

    def tokenize(self, text, special):
        data = text.encode()
        ids = (ctypes.c_uint32 * (len(data) + 16))()
        count = ctypes.c_size_t()
        self.check(self.lib.facet_tokenize(self.bundle, data, ctypes.c_size_t(len(data)),
                                           ctypes.c_bool(special), ids, ctypes.c_size_t(len(ids)),
                                           ctypes.byref(count), self.err))
        return list(ids[:count.value])

    def reset(self):
        self.check(self.lib.facet_session_rewind(self.session, 0, self.err))

    def step(self, token):
        pointer = self.logits.ctypes.data_as(ctypes.c_void_p)
        self.check(self.lib.facet_session_step(self.session, token, pointer, self.err))
        return int(np.argmax(self.logits))


class Peer:
    def __init__(self, path, threads, context):
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), params)
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = options.n_batch = context
        options.n_threads = options.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(self.vocab)

    def tokenize(self, text, special):
        data = text.encode()
        ids = (llama_cpp.llama_token * (len(data) + 16))()
        n = llama_cpp.llama_tokenize(self.vocab, data, len(data), ids, len(ids), special, special)
        return list(ids[:n])

    def reset(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def step(self, token):
        array = (llama_cpp.llama_token * 1)(token)
        if llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(array, 1)) != 0:
            raise SystemExit("llama_decode failed")
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return int(np.argmax(np.ctypeslib.as_array(logits, (self.n_vocab,))))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runtime")
    parser.add_argument("bundle")
    parser.add_argument("model")
    parser.add_argument("prompts", nargs="+")
    parser.add_argument("--prompts", dest="count", type=int, default=40)
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("-t", type=int, default=2)
    args = parser.parse_args()
    texts = []
    for path in args.prompts:
        with open(path, encoding="utf-8") as file:
            rows = [json.loads(line)["prompt"] for line in file]
        texts += rows[:: max(1, len(rows) * len(args.prompts) // args.count)]
    texts = texts[:args.count]
    silence = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silence, None)
    peer = Peer(args.model, args.t, 1024)
    ours = Ours(args.runtime, args.bundle, 1024, args.t)
    same = total = same_ids = 0
    for text in texts:
        ids = peer.tokenize(text, True)
        same_ids += ids == ours.tokenize(text, True) and (
            peer.tokenize(text, False) == ours.tokenize(text, False))
        peer.reset()
        ours.reset()
        theirs = mine = 0
        for token in ids:
            theirs, mine = peer.step(token), ours.step(token)
        for _ in range(args.n):
            same += theirs == mine
            total += 1
            token = theirs
            theirs, mine = peer.step(token), ours.step(token)
    print(f"prompts {len(texts)}, equal token ids {same_ids}, positions {total}, "
          f"same highest-logit token {same / total:.4f}")


if __name__ == "__main__":
    main()
