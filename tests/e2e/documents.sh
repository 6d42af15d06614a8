# SPDX-License-Identifier: Apache-2.0
# Held-out samples are whole documents: a record, or a .txt file whatever its number of windows. A
# task may have several files; a single one is cut into two blocks, and that is said once.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs

for i in 1 2 3 4 5 6; do
    "$PYTHON" "$SOURCE/tests/support/tasks.py" text $((100 + 40 * i)) > part$i.txt || fail "tasks"
done
tasks=()
for i in 1 2 3 4 5 6; do tasks+=(--task text=part$i.txt); done
"$FACET" predict model.gguf "${tasks[@]}" --task code=code.jsonl --ctx 32 -o files.masks --json \
    > masks.json || fail "predict of several files"
check_json "several files of one task" "set(d['labels']) == {'text', 'code'}" < masks.json
check_json "several files of one task" "d['documents'] == 36 < d['samples'] - 10" < masks.json
"$FACET" cluster files.masks -o files.families --json > families.json 2> cluster.err ||
    fail "cluster"
[ ! -s cluster.err ] || fail "cluster warns: $(cat cluster.err)"
check_json "documents of families" \
    "[(f['name'], f['documents']) for f in d['families']] == [('text', 6), ('code', 30)]" \
    < families.json

# As another program reads the files: the fifth file is held out, whole, and no other.
export PYTHONPATH=$SOURCE/tests/support
"$PYTHON" - <<'END' || fail "what is held out"
from samples_file import load
t = load("files.families")[1]
documents, held, assign = t["documents"], t["held"], t["assign"]
assert sorted(set(documents[assign == 0])) == list(range(6))
assert set(documents[(assign == 0) & (held == 1)]) == {4}
assert held[documents == 4].all() and (documents == 4).sum() > 3
assert (documents[assign == 1] == range(6, 36)).all()
assert list(held[assign == 1]) == [i % 5 == 4 for i in range(30)]
END

# One file: its last fifth, in one block, and one line that says so.
"$FACET" predict model.gguf --task text=text.txt --task code=code.jsonl --ctx 32 -o one.masks -q \
    > out.txt || fail "predict of one file"
"$FACET" cluster one.masks -o one.families > out.txt 2> cluster.err || fail "cluster of one file"
[ "$(grep -c 'warning: 1 of 2 families (text) have one document' cluster.err)" -eq 1 ] ||
    fail "one file: $(cat cluster.err)"
"$PYTHON" - <<'END' || fail "what is held out of one file"
from samples_file import load
t = load("one.families")[1]
held = t["held"][t["assign"] == 0]
n = len(held) // 5
assert n > 1 and list(held) == [0] * (len(held) - n) + [1] * n
END
"$FACET" compile model.gguf one.families -o one.facet -q --mode generic > out.txt ||
    fail "compile"
"$FACET" build model.gguf --task text=text.txt --task code=code.jsonl --ctx 32 \
    -o built.facet -q --mode generic > out.txt || fail "build"
diff -r one.facet built.facet || fail "the steps and build differ"

# A mask set without the tensor: every sample its own document.
"$PYTHON" - <<'END' || fail "mask set of another program"
from samples_file import load, save
meta, t = load("one.masks")
save("plain.masks", meta, {k: t[k] for k in ("scores", "tokens", "lengths")})
END
"$FACET" inspect plain.masks --json | check_json "inspect" "d['documents'] == d['samples']"
"$FACET" cluster plain.masks -o plain.families -q > out.txt || fail "cluster without documents"
"$PYTHON" - <<'END' || fail "what is held out without documents"
from samples_file import load
t = load("plain.families")[1]
assert "documents" not in t
for k in (0, 1):
    held = t["held"][t["assign"] == k]
    assert list(held) == [i % 5 == 4 for i in range(len(held))]
END
echo "documents: held out whole, or one cut into blocks"
