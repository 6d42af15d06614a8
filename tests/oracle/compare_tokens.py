#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares facet's token ids, pieces and end tokens with llama.cpp's. Run by hand.

usage: compare_tokens.py DUMPER MODEL.gguf... [--bytes N] [--seed S] [--golden TEXT] [--json DIR]

DUMPER is the built test_tokens. Needs the package llama_cpp (its low-level API).
The corpus: many scripts, emoji, white space, digits, control characters, invalid UTF-8, random
Unicode, look-alikes of special tokens, C headers and Python sources of this machine; each text with
and without BOS and special tokens.
"""
import argparse
import ctypes
import glob
import random
import re
import struct
import subprocess
import sys
import tempfile

import llama_cpp as L

SCRIPTS = {
    "arabic": "السلام عليكم ورحمة الله، كيف حالك اليوم؟ ١٢٣٤٥ عام ٢٠٢٤م",
    "hindi": "नमस्ते दुनिया, आप कैसे हैं? क्षत्रिय १२३ ज्ञान हिन्दी में।",
    "bengali": "আমি বাংলায় গান গাই। ১২৩৪",
    "tamil": "தமிழ் மொழி மிகவும் பழமையானது. ௧௨௩",
    "chinese": "你好，世界！今天天气怎么样？二〇二四年，第３章。𠀀𠀁𪜶",
    "japanese": "こんにちは世界。カタカナとひらがな、漢字（かんじ）。ｶﾞｷﾞ ー々〆",
    "korean": "안녕하세요 세계! 한국어 텍스트입니다. ㄱㄴㄷ 각",
    "thai": "สวัสดีชาวโลก ภาษาไทยไม่มีการเว้นวรรค ๑๒๓",
    "russian": "Привет, мир! Съешь же ещё этих мягких французских булок, да выпей чаю. №5",
    "greek": "Γειά σου Κόσμε! Ὀδυσσεύς ἄνδρα μοι ἔννεπε, Μοῦσα",
    "hebrew": "שלום עולם! בְּרֵאשִׁית בָּרָא אֱלֹהִים 123",
    "georgian": "გამარჯობა მსოფლიო ᲒᲐᲛ",
    "armenian": "Բարեւ աշխարհ։ Ողջույն",
    "amharic": "ሰላም ልዑል ፩፪፫",
    "khmer": "សួស្តី​ពិភពលោក ១២៣",
    "tibetan": "བཀྲ་ཤིས་བདེ་ལེགས། ༡༢༣",
    "vietnamese": "Xin chào thế giới! Tiếng Việt có nhiều dấu: ặ ẵ ễ ộ",
    "german": "Größe, Übermut und Straßenbahnschilder; weiß's der Kuckuck?",
    "french": "L'été s'achève; c'est déjà l'automne. « Voilà ! » dit-il. œuvre",
    "turkish": "İstanbul'da ILIK ılık şeker. DİL'İN",
    "polish": "Zażółć gęślą jaźń. Łódź",
    "emoji": "👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ❤️ ☃︎ 1️⃣ 🫠🫨 🧑🏿‍🚀 😀😃",
    "maths": "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, ∑ᵢ₌₁ⁿ xᵢ² ≤ ∫₀^∞ e^{-x}dx ½ ¾ ² ³ ⁴ Ⅷ ⅷ ① ㊿ ℵ",
    "decomposed": "e\u0301 a\u0308 n\u0303 \u1e9b\u0323 \ufb01 \u212b \u2126",
    "contractions": "I'm you're he's WE'LL they'VE she'd don't 'S'T'RE'VE'M'LL'D 'ſ it’s o'clock"
    " ''s 's's",
    "punctuation": "!?.,;:-_(){}[]<>/\\|@#$%^&*+=~`\"' ... --- === ** // /* */ #include"
    " <a.h> $1,000.50",
    "marks": "▁ ▁▁ a▁b ▁▁▁x \ufeffbom \ufffd \u200b\u200c\u200d\u2060 a\u00adb",
    "digits": "0 1 12 123 1234 12345 123456 1234567 3.14159 1e-10 0xdeadBEEF 1,234,567"
    " ①② ௧௨ ½3 ²5 x1y2 2024-01-31",
}
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", "\u00a0", "\u2003", "\u3000"]
SPACES += ["\u0085"]
SPACES += ["\u2028", "\u2029", "\u202f", "\u1680", "\u180e", "\u200b", "\v", "\f", "\x1c", "\x1f"]
SPACES += [" \n", "\n ", "\t\t", "    "]
PLANES = [(0, 0x80), (0, 0x80), (0x80, 0x800), (0x800, 0xd800), (0xe000, 0x10000)]
PLANES += [(0x10000, 0x20000), (0x1e000, 0x20000), (0x11000, 0x12000), (0x2e000, 0x32400)]
PLANES += [(0xe0000, 0xe0200), (0, 0x110000)]
BAD = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xe2\x28", b"\xf0\x9f", b"\x80", b"\xc3"]
BAD += [b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xed\xbf\xbf", b"\xf4\x8f\xbf\xbf"]


def random_text(rng, n):
    out = []
    while len(out) < n:
        low, high = rng.choice(PLANES)
        for _ in range(rng.randint(1, 8)):
            c = rng.randrange(low, high)
            if not 0xd800 <= c < 0xe000:
                out.append(chr(c))
        if rng.random() < 0.3:
            out.append(rng.choice(SPACES))
    return "".join(out)


def white_text(rng, n):
    words = ["a", "word", "B", "1", "99", "'s", "!", "...", "é", "你", "{", "}", "=", "\\n"]
    out = []
    for _ in range(n):
        out.append(rng.choice(SPACES) * rng.randint(1, 6))
        if rng.random() < 0.7:
            out.append(rng.choice(words))
    return "".join(out)


def broken(rng, data):
    data = bytearray(data)
    for _ in range(max(1, len(data) // 20)):
        i = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[i] = rng.randrange(256)
        elif kind == 1:
            del data[i:i + rng.randint(1, 3)]
        elif kind == 2:
            data[i:i] = rng.choice(BAD)
        else:
            data[i:i + 1] = b"\x00"
        if not data:
            data = bytearray(b"x")
    return bytes(data)


# llama.cpp aborts on what decodes to more than U+10FFFF.
BEYOND = re.compile(rb"(\xf4[\x90-\xbf]|[\xf5-\xf7][\x80-\xbf])[\x80-\xbf]{2}")


def special_text(rng, specials, n):
    out = []
    for _ in range(n):
        text = rng.choice(specials)
        kind = rng.randrange(6)
        if kind == 0:
            text = text[:rng.randint(1, max(1, len(text) - 1))]
        elif kind == 1:
            text = text[rng.randint(0, len(text) - 1):]
        elif kind == 2:
            text = text.replace(b"|", b"\xef\xbd\x9c").replace(b"<", b"< ")
        out.append(text)
        out.append(rng.choice([b"", b"", b" ", b"\n", b"user", b"\n\n", b"x ", "é".encode()]))
    return b"".join(out)


def files(rng, limit):
    paths = sorted(glob.glob("/usr/include/**/*.h", recursive=True))
    paths += sorted(glob.glob("/usr/lib/python3*/**/*.py", recursive=True))
    rng.shuffle(paths)
    total = 0
    for path in paths:
        if total >= limit:
            return
        with open(path, "rb") as f:
            data = f.read(16384)
        total += len(data)
        yield data


def corpus(rng, specials, limit):
    texts = [b"", b" ", b"  ", b"\n", b"a", b"\x00", b"\xff"]
    texts += [t.encode() for t in SCRIPTS.values()]
    texts += [c.encode() for c in SPACES]
    for text in SCRIPTS.values():
        texts.append(("%s %s\n" % (text, text[::-1])).encode() * 3)
        texts.append(text.replace(" ", "  ").upper().encode())
        texts += [(" " + text).encode(), (text + "\n\n").encode(), broken(rng, text.encode() * 4)]
    texts += [c.encode() * n for c in "a1 \n\t.é你👍▁" for n in (2, 3, 7, 31, 32, 33, 100, 1000)]
    texts += [bytes([b]) for b in range(256)] + [b"x" + bytes([b]) + b" y" for b in range(256)]
    share = limit // 8
    texts += [random_text(rng, 500).encode() for _ in range(share // 1500)]
    texts += [white_text(rng, 300).encode() for _ in range(share // 2000)]
    texts += [special_text(rng, specials, 100) for _ in range(share // 1500)]
    texts += [broken(rng, random_text(rng, 300).encode()) for _ in range(share // 1000)]
    texts += [broken(rng, special_text(rng, specials, 50)) for _ in range(share // 2000)]
    texts += [bytes(rng.randrange(256) for _ in range(500)) for _ in range(share // 4000)]
    mixed = list(SCRIPTS.values())
    for _ in range(share // 1500):
        parts = [rng.choice(mixed)[rng.randint(0, 9):] + rng.choice(SPACES) for _ in range(20)]
        texts.append("".join(parts).encode())
    texts += list(files(rng, limit // 2))
    return [t for t in texts if not BEYOND.search(t)]


class Oracle:
    def __init__(self, path):
        params = L.llama_model_default_params()
        params.vocab_only = True
        self.model = L.llama_model_load_from_file(path.encode(), params)
        self.vocab = L.llama_model_get_vocab(self.model)
        self.n = L.llama_vocab_n_tokens(self.vocab)

    def encode(self, text, bos, special):
        buffer = (ctypes.c_int32 * (len(text) * 3 + 16))()
        n = L.llama_tokenize(self.vocab, text, len(text), buffer, len(buffer), bos, special)
        return list(buffer[:n])

    def piece(self, token, special):
        buffer = ctypes.create_string_buffer(4096)
        n = L.llama_token_to_piece(self.vocab, token, buffer, 4096, 0, special)
        return buffer.raw[:n]

    def specials(self):
        marked = L.LLAMA_TOKEN_ATTR_CONTROL | L.LLAMA_TOKEN_ATTR_USER_DEFINED
        marked |= L.LLAMA_TOKEN_ATTR_UNKNOWN
        return [L.llama_vocab_get_text(self.vocab, i) for i in range(self.n)
                if L.llama_vocab_get_attr(self.vocab, i) & marked]


def compare_texts(dumper, path, oracle, texts):
    records = [(flags, t) for t in texts for flags in range(4)]
    with tempfile.NamedTemporaryFile() as f:
        for flags, text in records:
            f.write(struct.pack("<II", flags, len(text)) + text)
        f.flush()
        command = [dumper, "dump", path, f.name]
        out = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    at = tokens = wrong = 0
    for flags, text in records:
        count, = struct.unpack_from("<I", out, at)
        ids = list(struct.unpack_from("<%dI" % count, out, at + 4))
        at += 4 + 4 * count
        tokens += count
        want = oracle.encode(text, bool(flags & 1), bool(flags & 2))
        if ids != want:
            wrong += 1
            if wrong <= 5:
                i = 0
                while i < min(len(ids), len(want)) and ids[i] == want[i]:
                    i += 1
                print("  differs, flags %d, token %d of %d:" % (flags, i, len(want)))
                print("  facet %s llama.cpp %s\n  %r" % (ids[i:i + 6], want[i:i + 6], text[:300]))
    return len(records), tokens, wrong


def compare_vocabulary(dumper, path, oracle):
    out = subprocess.run([dumper, "vocab", path], stdout=subprocess.PIPE, check=True).stdout
    n, add_bos = struct.unpack_from("<II", out, 0)
    at = 8
    wrong = int(n != oracle.n or bool(add_bos) != bool(L.llama_vocab_get_add_bos(oracle.vocab)))
    for token in range(n):
        end, plain, special = struct.unpack_from("<III", out, at)
        at += 12
        pieces = out[at:at + plain], out[at + plain:at + plain + special]
        at += plain + special
        want = oracle.piece(token, False), oracle.piece(token, True)
        if pieces != want or bool(end) != bool(L.llama_vocab_is_eog(oracle.vocab, token)):
            wrong += 1
            if wrong <= 5:
                print("  token %d: facet %r end %d, llama.cpp %r" % (token, pieces, end, want))
    return n, wrong


def golden(path, oracle, text):
    for flags in range(4):
        ids = oracle.encode(text, bool(flags & 1), bool(flags & 2))
        h = 0xcbf29ce484222325
        for byte in struct.pack("<%dI" % len(ids), *ids):
            h = (h ^ byte) * 0x100000001b3 % 2**64
        print("%s %d %d %016x" % (path.rsplit("/", 1)[-1], flags, len(ids), h))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dumper")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--bytes", type=int, default=2000000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--golden")
    parser.add_argument("--json")
    args = parser.parse_args()
    quiet = L.llama_log_callback(lambda level, text, data: None)
    L.llama_log_set(quiet, None)
    failed = 0
    for path in args.models:
        oracle = Oracle(path)
        if args.golden:
            with open(args.golden, "rb") as f:
                golden(path, oracle, f.read())
            continue
        rng = random.Random(args.seed)
        texts = corpus(rng, oracle.specials(), args.bytes)
        n = wrong_tokens = 0
        if args.json:
            texts = [t for t in texts if t == t.decode(errors="ignore").encode()]
        else:
            n, wrong_tokens = compare_vocabulary(args.dumper, path, oracle)
        records, tokens, wrong = compare_texts(args.dumper, args.json or path, oracle, texts)
        facts = (path, len(texts), sum(map(len, texts)), tokens, wrong, records, wrong_tokens, n)
        print("%s: %d texts x 4 ways, %d bytes, %d tokens: %d of %d differ; "
              "%d of %d pieces or ends differ" % facts, flush=True)
        failed += wrong + wrong_tokens
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
