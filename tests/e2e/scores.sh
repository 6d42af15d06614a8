# SPDX-License-Identifier: Apache-2.0
# tests/quality/humaneval.py and gsm8k.py, whole, on a tiny model: tables, a line a problem, answers
# that are found again, wrong inputs in one line.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs
"$FACET" build model.gguf --task code=code.jsonl --limit 6 --continue 0 --no-proof \
    --compensate none -o demo.facet -q > quiet.out || fail "build"
"$PYTHON" - <<'END' || fail "problems"
import gzip, json
with gzip.open("he.jsonl.gz", "wt") as file:
    for i in range(3):
        file.write(json.dumps({"task_id": f"T/{i}", "prompt": f"def f{i}(x):\n",
                               "entry_point": f"f{i}",
                               "test": f"def check(f):\n    assert f({i}) == 1\n"}) + "\n")
with open("gsm.jsonl", "w") as file:
    for i in range(12):
        file.write(json.dumps({"question": f"{i} and {i}?", "answer": f"#### {2 * i}"}) + "\n")
END
score() { # SCRIPT DATA OPTIONS...
    "$PYTHON" -B "$SOURCE/tests/quality/$1.py" "$FACET" demo.facet "$2" --out out -n 6 "${@:3}"
}
lines() { # FILE COUNT
    [ "$(wc -l < "$1")" -eq "$2" ] || fail "$1: not $2 lines"
}

score humaneval he.jsonl.gz --limit 2 > he.out 2> he.err || fail "humaneval: $(cat he.err)"
grep -q '^| dense | 2 | 0 | 0.0% |' he.out || fail "humaneval: $(cat he.out)"
grep -q '^| code | 2 |' he.out || fail "humaneval: no family: $(cat he.out)"
lines out/humaneval.results.jsonl 4
lines out/humaneval-code.jsonl 2

score gsm8k gsm.jsonl --limit 10 > gsm.out 2> gsm.err || fail "gsm8k: $(cat gsm.err)"
grep -q '^| dense | 10 |' gsm.out || fail "gsm8k: $(cat gsm.out)"
grep -q 'dense: 10 of 10 answers' gsm.err || fail "gsm8k: progress: $(cat gsm.err)"
"$PYTHON" -c '
import json
rows = [json.loads(line) for line in open("out/gsm8k.results.jsonl")]
assert [r["id"] for r in rows if r["family"] == "code"] == [str(i) for i in range(2, 12)]
assert all(r["expected"] == str(2 * int(r["id"])) for r in rows)
' || fail "gsm8k: results"

# The same again: nothing is asked, the files are the same bytes; another length is asked anew.
cp -r out before
score gsm8k gsm.jsonl --limit 10 > again.out 2> again.err || fail "gsm8k again"
cmp -s gsm.out again.out || fail "gsm8k again: another table"
[ -s again.err ] && fail "gsm8k again: asked: $(cat again.err)"
score humaneval he.jsonl.gz --limit 2 > again.out 2> again.err || fail "humaneval again"
diff -r before out || fail "the same again: other files"
score gsm8k gsm.jsonl --limit 10 --family code -n 5 > short.out 2> short.err || fail "gsm8k -n 5"
grep -q 'code: 10 of 10' short.err || fail "gsm8k -n 5: not asked"
lines out/gsm8k.results.jsonl 20

# The share alone, of the family in the environment, as facet build --score asks for it: no folder.
"$PYTHON" - <<'END' || fail "a problem that is always solved"
import gzip, json
with gzip.open("easy.jsonl.gz", "wt") as file:
    for i, test in enumerate(("pass", "pass", "assert False", "pass")):
        file.write(json.dumps({"task_id": f"T/{i}", "entry_point": "f",
                               "prompt": "def f(x):\n    \"\"\"One.\"\"\"\n",
                               "test": f"def f(x):\n    pass\ndef check(f):\n    {test}\n"}) + "\n")
END
ls -A > before.ls
alone() { # FAMILY SCRIPT DATA OPTIONS...
    FACET_BUNDLE=$WORK/demo.facet FACET_FAMILY=$1 TMPDIR=$WORK "$PYTHON" -B \
        "$SOURCE/tests/quality/$2.py" "$FACET" "$3" --score-only -n 6 "${@:4}" 2> alone.err
}
[ "$(alone code gsm8k gsm.jsonl)" = 0 ] || fail "gsm8k --score-only: $(cat alone.err)"
got=$(alone dense humaneval easy.jsonl.gz) || fail "humaneval --score-only: $(cat alone.err)"
case $got in 0 | 0.25 | 0.5 | 0.75) ;; *) fail "humaneval --score-only: $got" ;; esac
rm alone.err && ls -A | cmp -s - before.ls || fail "--score-only: left behind: $(ls -A)"
status_is 2 "no family" alone "" gsm8k gsm.jsonl
status_is 2 "no bundle" "$PYTHON" -B "$SOURCE/tests/quality/gsm8k.py" "$FACET" gsm.jsonl

# What is wrong is said in one line.
for words in "humaneval he.jsonl.gz --family nobody" "gsm8k he.missing" "gsm8k code.jsonl" \
    "humaneval gsm.jsonl" "humaneval model.gguf"; do
    # shellcheck disable=SC2086
    score $words > bad.out 2> bad.err && fail "$words: accepted"
    [ "$(wc -l < bad.err)" -eq 1 ] || fail "$words: not one line: $(cat bad.err)"
done
status_is 2 "--limit 0" score gsm8k gsm.jsonl --limit 0
status_is 2 "no data" "$PYTHON" -B "$SOURCE/tests/quality/gsm8k.py" "$FACET" demo.facet

# ---- halves: every problem is answered once, by the family that the others calibrated -----------
"$PYTHON" - <<'END' || fail "problems"
import json
with open("ten.jsonl", "w") as file:
    for i in range(10):
        file.write(json.dumps({"task_id": f"T/{i}", "prompt": f"def f{i}(x):\n",
                               "entry_point": f"f{i}",
                               "test": f"def check(f):\n    assert f({i}) == 1\n"}) + "\n")
END
halves() {
    "$PYTHON" -B "$SOURCE/tests/quality/halves.py" "$FACET" model.gguf ten.jsonl --work halves -n 6 \
        --keep 0.5 -- --no-proof --compensate bias > $1 2> halves.err ||
        fail "halves: $(cat halves.err)"
}
halves halves.out
grep -q '^| dense | 10 | ' halves.out && grep -q '^| 0.5 | 10 | ' halves.out ||
    fail "halves: $(cat halves.out)"
"$PYTHON" - <<'END' || fail "halves: who answered what"
import json
def ids(path, key):
    return {json.loads(line)[key] for line in open(path)}
for k in 0, 1:
    asked = ids(f"halves/keep0.5-{k}/humaneval.results.jsonl", "task_id")
    assert asked == {f"T/{i}" for i in range(10) if i % 2 != k}, asked
    prompts = ids(f"halves/calibrates{k}.jsonl", "prompt")
    assert len(prompts) == 5
    assert all(any(f"f{i}(x)" in p for p in prompts) for i in range(10) if i % 2 == k)
END
halves again.out
cmp -s halves.out again.out || fail "halves again: another table"
grep -q ' answers, ' halves.err && fail "halves again: asked: $(cat halves.err)"
echo "task scores: fine"
