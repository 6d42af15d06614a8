# SPDX-License-Identifier: Apache-2.0
"""Small working tokenizers for generated models: byte-level BPE with ChatML, and a SentencePiece-like
vocabulary with byte fallback and Gemma's turns."""

TEXT = (
    "The river carries the boat past the old mill while the children count the birds on the wire. "
    "They said that there were nine, then eleven, and that the number would change before the end. "
    "def total(items): return sum(item.price for item in items) if items else 0 "
    "for (int i = 0; i < n; i++) { sum += values[i]; } return sum; "
    "Der Zug kommt an, und die Leute warten schon seit einer Stunde auf dem Bahnsteig. "
    '{"name": "mill", "count": 11, "open": true} '
)

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\\n' + "
    "message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"
)
SPLITS = {
    "qwen2": (
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+"
        "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
    ),
    "llama-bpe": (
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?"
        "[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
    ),
}


def byte_letters():
    """The printable letter that stands for each byte in byte-level BPE."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, spare = {}, 256
    for b in range(256):
        letters[b] = chr(b) if b in plain else chr(spare)
        spare += b not in plain
    return letters


def train_pairs(words, limit):
    """Greedy pair merges over words (lists of symbols), most frequent first, ties by name."""
    merges = []
    while len(merges) < limit:
        counts = {}
        for word in words:
            for pair in zip(word, word[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        counts = {pair: n for pair, n in counts.items() if n > 1}
        if not counts:
            break
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        for word in words:
            i = 0
            while i + 1 < len(word):
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = [best[0] + best[1]]
                i += 1
    return merges


def _words(text):
    return [" " + w for w in text.split(" ") if w]


def bpe(n_vocab, pre):
    """{tokens, types, merges, specials} of exactly n_vocab byte-level tokens (at least 259)."""
    letters = byte_letters()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    words = [[letters[b] for b in w.encode()] for w in _words(TEXT)]
    merges, tokens = [], [letters[b] for b in range(256)]
    for a, b in train_pairs(words, n_vocab - 256 - len(specials)):
        if a + b not in tokens:
            tokens.append(a + b)
            merges.append((a, b))
    first_special = n_vocab - len(specials)
    n_unused = first_special - len(tokens)
    types = [1] * len(tokens) + [5] * n_unused + [3] * len(specials)
    tokens += [f"[unused{i}]" for i in range(n_unused)] + specials
    ids = {"bos": first_special + 1, "eos": first_special + 2, "pad": first_special}
    return {"kind": "bpe", "pre": pre, "tokens": tokens, "types": types, "merges": merges, **ids}


def spm(n_vocab):
    """{tokens, types, scores} of exactly n_vocab pieces: Gemma's first ids, bytes, characters."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    types = [3, 3, 3, 2, 3, 3] + [6] * 256
    tokens += [f"<0x{b:02X}>" for b in range(256)]
    words = [list(w.replace(" ", "\u2581")) for w in _words(TEXT)]
    letters = sorted({c for w in words for c in w})
    merged = []
    for a, b in train_pairs([list(w) for w in words], n_vocab):
        if a + b not in merged:
            merged.append(a + b)
    pieces = (merged[: max(0, n_vocab - len(tokens) - len(letters))] + letters)[
        : n_vocab - len(tokens)
    ]
    n_unused = n_vocab - len(tokens) - len(pieces)
    scores = [0.0] * len(tokens) + [-float(i) for i in range(len(pieces))] + [0.0] * n_unused
    types += [1] * len(pieces) + [5] * n_unused
    tokens += pieces + [f"<unused{i}>" for i in range(n_unused)]
    return {
        "kind": "spm",
        "tokens": tokens,
        "types": types,
        "scores": scores,
        "bos": 2,
        "eos": 1,
        "pad": 0,
    }


def gguf_metadata(vocab):
    """Metadata entries of a vocabulary."""
    p = "tokenizer.ggml."
    out = [(p + "model", "str", "gpt2" if vocab["kind"] == "bpe" else "llama")]
    out.append((p + "pre", "str", vocab.get("pre", "default")))
    out.append((p + "tokens", "[str]", vocab["tokens"]))
    if vocab["kind"] == "spm":
        out.append((p + "scores", "[f32]", vocab["scores"]))
    out.append((p + "token_type", "[i32]", vocab["types"]))
    if vocab["kind"] == "bpe":
        out.append((p + "merges", "[str]", [" ".join(pair) for pair in vocab["merges"]]))
    out.append((p + "bos_token_id", "u32", vocab["bos"]))
    out.append((p + "eos_token_id", "u32", vocab["eos"]))
    out.append((p + "padding_token_id", "u32", vocab["pad"]))
    spm_like = vocab["kind"] == "spm"
    if spm_like:
        out.append((p + "unknown_token_id", "u32", 3))
        out.append((p + "add_space_prefix", "bool", False))
    out.append((p + "add_bos_token", "bool", spm_like))
    out.append(("tokenizer.chat_template", "str", GEMMA if spm_like else CHATML))
    return out


def _added(vocab):
    special = [i for i, kind in enumerate(vocab["types"]) if kind == 3]
    return [
        {
            "id": i,
            "content": vocab["tokens"][i],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i in special
    ]


def _bpe_json(vocab):
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    split = {
        "type": "Split",
        "pattern": {"Regex": SPLITS.get(vocab["pre"], SPLITS["qwen2"])},
        "behavior": "Isolated",
        "invert": False,
    }
    first = [split]
    if vocab["pre"] == "smollm":
        first = [{"type": "Digits", "individual_digits": True}]
    last = {**byte_level, "use_regex": vocab["pre"] == "smollm"}
    normal = [t for i, t in enumerate(vocab["tokens"]) if vocab["types"][i] != 3]
    return {
        "normalizer": {"type": "NFC"} if vocab["pre"] == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*first, last]},
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {t: i for i, t in enumerate(normal)},
            "merges": [" ".join(pair) for pair in vocab["merges"]],
        },
    }


def _spm_json(vocab):
    ids = {t: i for i, t in enumerate(vocab["tokens"])}
    merges = []
    for token, kind in zip(vocab["tokens"], vocab["types"]):
        if kind != 1:
            continue
        cuts = [(token[:i], token[i:]) for i in range(1, len(token))]
        merges += [[a, b] for a, b in cuts if a in ids and b in ids]
    return {
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": ids,
            "merges": merges,
        },
    }


def hf_files(vocab):
    """{file name: document} of a Hugging Face directory."""
    core = _bpe_json(vocab) if vocab["kind"] == "bpe" else _spm_json(vocab)
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(vocab),
        "post_processor": None,
        **core,
    }
    config = {
        "bos_token": vocab["tokens"][vocab["bos"]],
        "eos_token": vocab["tokens"][vocab["eos"]],
        "pad_token": vocab["tokens"][vocab["pad"]],
        "add_bos_token": vocab["kind"] == "spm",
        "chat_template": GEMMA if vocab["kind"] == "spm" else CHATML,
        "tokenizer_class": "GemmaTokenizer" if vocab["kind"] == "spm" else "GPT2Tokenizer",
    }
    if vocab["kind"] == "bpe" and vocab["pre"] == "qwen2":
        config["tokenizer_class"] = "Qwen2Tokenizer"
    return {"tokenizer.json": tokenizer, "tokenizer_config.json": config}
