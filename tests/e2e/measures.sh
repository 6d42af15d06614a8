# SPDX-License-Identifier: Apache-2.0
# The measuring scripts of tests/quality on a tiny model: tables, figures that must be, nothing
# measured twice.
. "$FACET_SOURCE/tests/e2e/lib.bash"
"$PYTHON" "$SOURCE/tests/support/gen_model.py" --type F32 -o model.gguf || fail "gen_model"
mkdir texts tasks bin
"$PYTHON" "$SOURCE/tests/support/tasks.py" code 30 > texts/code.jsonl || fail "tasks"
"$PYTHON" "$SOURCE/tests/support/tasks.py" text 500 | fold -sw 70 > texts/code.held.txt
[ -s texts/code.held.txt ] || fail "tasks"
"$PYTHON" "$SOURCE/tests/support/tasks.py" math 30 | sed 's/, "completion.*/}/' > tasks/math.jsonl

# The scripts' facet: portable kernels, since compilers take most of the time, and a list of calls.
cat > bin/facet <<END
#!/bin/bash
echo "\$1" >> "$WORK/calls"
exec "$FACET" "\$@" --mode generic
END
chmod +x bin/facet
measure() { # SCRIPT ARGUMENTS...
    "$PYTHON" -B "$SOURCE/tests/quality/$1.py" bin/facet "${@:2}" > table.md 2> err.txt ||
        fail "$1: $(tail -3 err.txt)"
}
calls() {
    grep -cx "$1" calls
}
rows() { # EXPRESSION over the list of rows `d` of FILE
    "$PYTHON" -c 'import json, sys; print(json.dumps([json.loads(l) for l in sys.stdin]))' < "$2" |
        json "$1"
}
drawn="--work work --documents 12 --ctx 64 --held-bytes 1500"

# ---- reach: seeds draw documents, keeps share masks, an interrupted run goes on ------------------
measure reach texts model.gguf:code:0.5,1 $drawn --seeds 2 --rows reach.jsonl -- \
    --calibration-tokens 500
[ "$(grep -c '^| model.gguf | code ' table.md)" = 2 ] || fail "reach: $(cat table.md)"
grep -q '^| model.gguf | code | 100% | [0-9.]* | 1.00[0-9] 1.00[0-9] | 1.00' table.md ||
    fail "reach: every channel is not dense: $(cat table.md)"
[ "$(calls predict) $(calls compile) $(calls eval)" = "2 4 4" ] || fail "reach: calls"
check='[(r["key"]["keep"], r["key"]["seed"]) for r in d] == [(.5, 0), (.5, 1), (1, 0), (1, 1)]'
[ "$(rows "$check" reach.jsonl)" = True ] || fail "reach: rows"
check='d[0]["ratio"] != d[1]["ratio"] and all(0 < r["calibration_tokens"] <= 500 for r in d[:2])'
[ "$(rows "$check" reach.jsonl)" = True ] || fail "reach: figures"
check='all(r["scored_tokens"] % 63 == 0 and r["peak_mib"] > 0 for r in d)'
[ "$(rows "$check" reach.jsonl)" = True ] || fail "reach: figures"
ls work | grep -q 'facet$\|masks' && fail "reach: left: $(ls work)"
cp table.md whole.md
head -3 reach.jsonl > cut.jsonl
head -c 40 <(tail -1 reach.jsonl) >> cut.jsonl # a line that was being written
measure reach texts model.gguf:code:0.5,1 $drawn --seeds 2 --rows cut.jsonl -- \
    --calibration-tokens 500
[ "$(calls predict) $(calls compile)" = "2 5" ] || fail "reach: measured again"
[ "$(cut -d'|' -f1-7,10 table.md)" = "$(cut -d'|' -f1-7,10 whole.md)" ] ||
    fail "reach: another table: $(cat table.md whole.md)"

# ---- ablate, tokens: the same masks with other options -------------------------------------------
measure ablate texts model.gguf:code:0.5 $drawn --columns none bias residual -- \
    --calibration-tokens 400
grep -q '^| model.gguf | code | 50% | [0-9.]* |\( [0-9.]* (8.5) |\)\{3\}$' table.md ||
    fail "ablate: $(cat table.md)"
measure tokens texts model.gguf:code:0.5 $drawn --methods refit --tokens 100 300
grep -q '^| model.gguf | code | 50% | 300 | [0-9.]* | (300) ' table.md ||
    fail "tokens: $(cat table.md)"
[ "$(calls predict)" = 2 ] || fail "masks were made again"

# ---- narrow: what is asked never builds ----------------------------------------------------------
measure narrow model.gguf tasks/math.jsonl --work narrow --limit 10 --keep 0.25 1 --tokens 6 \
    --ctx 64 -- --compensate none
grep -q '^| math | 100% | 100% / 100% | 100.0% / 100.0% | 1.000 ' table.md || fail "narrow: $(cat table.md)"
grep -q '^- math: 100% / 100%$' table.md || fail "narrow: $(cat table.md)"
check='d[0]["positions"] < d[0]["dense_positions"] < .95 and d[0]["bytes"] < d[1]["bytes"] and "speed" not in d[0]'
[ "$(rows "$check" narrow/rows.jsonl)" = True ] || fail "narrow: $(cat narrow/rows.jsonl)"
[ "$(cat narrow/math-*.jsonl | grep -c prompt)" = 20 ] || fail "narrow: prompts"
[ -z "$(grep -h prompt narrow/math-*.jsonl | sort | uniq -d)" ] || fail "narrow: asked what builds"
calls compile > before
measure narrow model.gguf tasks/math.jsonl --work narrow --limit 10 --keep 0.25 1 --tokens 6 \
    --ctx 64 -- --compensate none
calls compile | diff before - || fail "narrow: measured again"

# ---- gsm8k_families: what is asked never builds; with every channel a family answers as dense ----
for i in $(seq 16); do
    echo "{\"question\": \"What is $i and $i?\", \"answer\": \"They are $((2 * i)).\n#### $((2 * i))\"}"
done > gsm8k.jsonl
measure gsm8k_families model.gguf gsm8k.jsonl --wrong texts/code.jsonl --work gsm8k --build 10 \
    --limit 6 -n 6 --keep 0.25 1 -- --compensate none
[ "$(cut -d'|' -f2-4 table.md | tr -d ' ' | tail -5 | tr '\n' ' ')" = \
    "|dense|6 0.25|right|6 0.25|wrong|6 1|right|6 1|wrong|6 " ] || fail "gsm8k: $(cat table.md)"
[ "$(grep -c 'What is' gsm8k/right.jsonl)" = 10 ] || fail "gsm8k: prompts"
answered() {
    grep -o '"completion": "[^"]*"' "gsm8k/$1"
}
answered dense/gsm8k-dense.jsonl > dense.txt
[ "$(grep -c . dense.txt)" = 6 ] || fail "gsm8k: dense"
answered keep1/gsm8k-right.jsonl | cmp - dense.txt || fail "gsm8k: every channel is not dense"
answered keep0.25/gsm8k-right.jsonl | cmp -s - dense.txt && fail "gsm8k: a quarter is dense"

# ---- peers: with every channel each way is dense, in both engines --------------------------------
if [ ! -e "$FACET_BUILD/libfacet.so" ] || [ ! -e "$FACET_BUILD/test_griffin" ] ||
    grep -q '^FACET_SANITIZE:STRING=..*' "$FACET_BUILD/CMakeCache.txt"; then
    echo "measures: fine; peers: not tried, python cannot load this libfacet"
    exit 0
fi
ln -s "$FACET_BUILD/libfacet.so" "$FACET_BUILD/test_griffin" bin
measure peers texts model.gguf:code:0.5,1 $drawn --windows 3 -- --compensate none
grep -q '^| model.gguf | code | 100% | [0-9.]* |\( 1.000 |\)\{7\}$' table.md ||
    fail "peers: every channel is not dense: $(cat table.md)"
grep -q '^Scored: 96 tokens' table.md || fail "peers: $(cat table.md)"
check='[r["dense"] for r in d if "windows" in r["key"]]'
check="(lambda p: len(p) == 4 and max(p) / min(p) < 1.001)($check)"
[ "$(rows "$check" work/rows.jsonl)" = True ] || fail "peers: dense in two engines: $(cat table.md)"
check='[r for r in d if "static_tokens" in r["key"] and r["key"]["keep"] == .5][0]'
check="len({$check[m] for m in ('griffin', 'glass', 'magnitude', 'energy', 'stats')}) == 5"
[ "$(rows "$check" work/rows.jsonl)" = True ] || fail "peers: two methods are the same"
echo "measures: fine"
