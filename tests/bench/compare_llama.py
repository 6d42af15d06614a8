#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decoding and prefill against llama.cpp: same file, same threads, interleaved, medians.

Usage: compare_llama.py FACET MODEL.gguf [--bundle B.facet --families dense NAME ...] [-t 2] [-p 256] [-n 64]
                        [-r 5]
Wants llama-cpp-python 0.3.36 built from source (pip install --no-binary :all: llama-cpp-python==0.3.36).
Prints llama.cpp's own system information first, so that anyone can see that the peer uses the vector
unit of this CPU; each repetition runs the peer (mmap on, flash attention off and on) and then ours.
"""
import argparse
import ctypes
import json
import statistics
import subprocess
import time

import llama_cpp


class Peer:
    def __init__(self, path, threads, flash, context):
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), params)
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = context
        options.n_batch = context
        options.n_ubatch = 512
        options.n_threads = threads
        options.n_threads_batch = threads
        options.flash_attn_type = 1 if flash else 0
        self.context = llama_cpp.llama_init_from_model(self.model, options)

    def decode(self, tokens):
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        batch = llama_cpp.llama_batch_get_one(array, len(tokens))
        if llama_cpp.llama_decode(self.context, batch) != 0:
            raise SystemExit("llama_decode failed")

    def times(self, n_prompt, n_generate):
        """Tokens per second of a prompt and of decoding one token after another."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        start = time.perf_counter()
        self.decode([100 + i % 500 for i in range(n_prompt)])
        middle = time.perf_counter()
        for i in range(n_generate):
            self.decode([200 + i])
        end = time.perf_counter()
        return n_prompt / (middle - start), n_generate / (end - middle)


def ours(args, target):
    command = [args.facet, "bench", target, "--threads", str(args.t), "-p", str(args.p), "-n",
               str(args.n), "-r", "1", "--json", "-q"]
    if args.bundle:
        command += ["--family", "all"]
    document = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {(row["family"], row["test"]): row["tokens_per_second"]["median"]
            for row in document["rows"]}, document["machine"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("facet")
    parser.add_argument("model")
    parser.add_argument("--bundle")
    parser.add_argument("-t", type=int, default=2)
    parser.add_argument("-p", type=int, default=256)
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("-r", type=int, default=5)
    args = parser.parse_args()
    llama_cpp.llama_log_set(ctypes.cast(None, llama_cpp.llama_log_callback), None)
    print("llama.cpp:", llama_cpp.llama_print_system_info().decode())
    peers = {f: Peer(args.model, args.t, f, args.p + args.n + 64) for f in (False, True)}
    samples = {}
    machine = {}
    for peer in peers.values():
        peer.times(args.p, 8)
    for _ in range(args.r):
        for flash, peer in peers.items():
            prompt, decode = peer.times(args.p, args.n)
            samples.setdefault(("llama.cpp fa" if flash else "llama.cpp", f"pp{args.p}"), []).append(prompt)
            samples.setdefault(("llama.cpp fa" if flash else "llama.cpp", f"tg{args.n}"), []).append(decode)
        rows, machine = ours(args, args.bundle or args.model)
        for key, value in rows.items():
            samples.setdefault(key, []).append(value)
    print("machine:", json.dumps(machine))
    medians = {key: statistics.median(values) for key, values in samples.items()}
    best = {test: max(medians[(name, test)] for name in ("llama.cpp", "llama.cpp fa"))
            for test in (f"pp{args.p}", f"tg{args.n}")}
    print("| who | test | tokens/s (median of %d) | min | max | times llama.cpp |" % args.r)
    print("|---|---|---|---|---|---|")
    for (who, test), value in medians.items():
        ratio = value / best[test] if test in best else float("nan")
        print(f"| {who} | {test} | {value:.1f} | {min(samples[(who, test)]):.1f} | "
              f"{max(samples[(who, test)]):.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
