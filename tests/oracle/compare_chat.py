#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares facet's chat ids with the model's own Jinja template, tokenised by llama.cpp. By hand.

usage: compare_chat.py DUMPER MODEL.gguf [TEMPLATE.jinja...]

DUMPER is the built test_tokens. Without templates the model's own is taken. Needs llama_cpp and
jinja2.
"""
import ctypes
import struct
import subprocess
import sys

import jinja2
import llama_cpp as L

TALKS = [
    [("user", "Hello, who are you?")],
    [("user", "  spaces around \n\n")],
    [("system", "You are terse."), ("user", "Hi"), ("assistant", "Hello there."), ("user", "1+1?")],
    [("user", "Hi"), ("assistant", "  Hello.\n"), ("user", "\tBye ")],
    [("system", " Be kind.\n"), ("user", "你好 👍🏽\n\ncode:\n    x = 1\n")],
]


def stop(message):
    raise jinja2.TemplateError(message)


def render(template, talk, bos, eos):
    env = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    env.globals["raise_exception"] = stop
    messages = [{"role": role, "content": content} for role, content in talk]
    return env.from_string(template).render(
        messages=messages, add_generation_prompt=True, bos_token=bos, eos_token=eos
    )


def main():
    dumper, path, files = sys.argv[1], sys.argv[2], sys.argv[3:]
    quiet = L.llama_log_callback(lambda level, text, data: None)
    L.llama_log_set(quiet, None)
    params = L.llama_model_default_params()
    params.vocab_only = True
    model = L.llama_model_load_from_file(path.encode(), params)
    vocab = L.llama_model_get_vocab(model)
    text_of = lambda i: L.llama_vocab_get_text(vocab, i).decode() if i >= 0 else ""
    bos, eos = text_of(L.llama_vocab_bos(vocab)), text_of(L.llama_vocab_eos(vocab))
    wrong = 0
    for file in files or ["-"]:
        if file == "-":
            template = L.llama_model_chat_template(model, None).decode()
        else:
            with open(file, encoding="utf-8") as f:
                template = f.read()
        for talk in TALKS:
            words = [w for message in talk for w in message]
            try:
                text = render(template, talk, bos, eos)
            except jinja2.TemplateError as e:
                print("%s: %d messages: the template refuses: %s" % (file, len(talk), e))
                continue
            data = text.encode()
            add = L.llama_vocab_get_add_bos(vocab) and not (bos and text.startswith(bos))
            buffer = (ctypes.c_int32 * (len(data) * 2 + 16))()
            n = L.llama_tokenize(vocab, data, len(data), buffer, len(buffer), add, True)
            command = [dumper, "chat", path, file] + words
            out = subprocess.run(command, check=True, capture_output=True)
            ids = list(struct.unpack("<%dI" % (len(out.stdout) // 4), out.stdout))
            same = ids == list(buffer[:n])
            wrong += not same
            facts = (file, out.stderr.decode().strip(), len(talk), n)
            print("%s: %s: %d messages, %d tokens:" % facts, "equal" if same else "DIFFERS")
            if not same:
                print("  text %r\n  want %s\n  got  %s" % (text, list(buffer[:n]), ids))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
