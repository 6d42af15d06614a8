# SPDX-License-Identifier: Apache-2.0
# Scores of tasks in the proof: --score and --score-least, commands that fail, signals.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs
tasks="--task code=code.jsonl --task math=math.jsonl"
"$FACET" predict model.gguf $tasks -q -o demo.masks > quiet.out || fail "predict"
"$FACET" cluster demo.masks -q -o demo.families > quiet.out || fail "cluster"
compile="compile model.gguf demo.families --mode generic"

# ---- the proof -----------------------------------------------------------------------------------
# Names of different lengths are scores that differ by family.
length='echo talk; echo "of $FACET_FAMILY" >&2; printf "%s\n\n \n" "${#FACET_FAMILY}.25 "'
asked='test -f "$FACET_BUNDLE/weights.bin" && cd / && test -f "$FACET_BUNDLE/manifest.json" &&
    echo -2e-3'
"$FACET" $compile -o demo.facet --json --score "all=$length" --score "math:own=$asked" \
    > demo.json 2> err.txt || fail "compile: $(cat err.txt)"
cat > want.py <<'END'
import json, sys
d = json.load(sys.stdin)
code, math = d["proof"]["families"]
row = {"name": "all", "command": sys.argv[1], "dense": 5.25, "family": 4.25}
assert code["scores"] == math["scores"][:1] == [row], (code, math)
assert math["scores"][1:] == [{**row, "name": "own", "command": sys.argv[2], "dense": -0.002,
                               "family": -0.002}]
assert "random" in math["perplexity"]
END
"$PYTHON" want.py "$length" "$asked" < demo.json || fail "proof"
"$FACET" inspect demo.facet --json | "$PYTHON" want.py "$length" "$asked" || fail "inspect --json"
[ "$(tr '\n' ' ' < err.txt)" = "of dense of code of math " ] || fail "errors: $(cat err.txt)"
"$FACET" inspect demo.facet > text.out || fail "inspect"
grep -q '^  code  *all  *5.25  *4.25  *0.8095  *echo talk' text.out || fail "inspect: no table"
grep -q '^  math  *own  *-0.002  *-0.002  *1  .* echo -2e-3$' text.out || fail "inspect: no line"
"$FACET" verify demo.facet -q > quiet.out || fail "verify"
"$FACET" build model.gguf $tasks --mode generic -o again.facet --score "all=$length" \
    --score "math:own=$asked" -q > quiet.out 2> err.txt || fail "build: $(cat err.txt)"
[ -s err.txt ] && fail "-q: $(cat err.txt)"
diff -r demo.facet again.facet || fail "compile and build of one score differ"
"$FACET" $compile -o plain.facet --no-proof --score "code:a=echo 1" --score "math:a=echo 2" \
    --json > plain.json || fail "without proof"
check_json "without proof" "[[s['family'] for s in f['scores']] for f in d['proof']['families']] \
    == [[1], [2]] and 'perplexity' not in d['proof']['families'][0]" < plain.json
"$FACET" inspect plain.facet > text.out || fail "inspect"
rm -rf again.facet plain.facet

# What the command reads is the bundle: a perplexity, its sign turned, is the proof's to be seen.
ppl="'$FACET' eval \"\$FACET_BUNDLE\" --family \"\$FACET_FAMILY\" --ppl text.txt --ctx 64 --json |
    '$PYTHON' -c 'import json, sys; print(-json.load(sys.stdin)[\"results\"][0][\"ppl\"])'"
"$FACET" $compile -o ppl.facet --no-proof --score "ppl=$ppl" --json > ppl.json || fail "eval"
"$FACET" eval ppl.facet --family all --ppl text.txt --ctx 64 --json > eval.json || fail "eval"
"$PYTHON" - <<'END' || fail "the score is not the bundle's: $(cat ppl.json eval.json)"
import json
dense, *families = [-r["ppl"] for r in json.load(open("eval.json"))["results"]]
for ppl, family in zip(families, json.load(open("ppl.json"))["proof"]["families"], strict=True):
    score = family["scores"][0]
    assert abs(score["dense"] / dense - 1) < 1e-4 and abs(score["family"] / ppl - 1) < 1e-4
END
rm -rf ppl.facet

# ---- commands that fail --------------------------------------------------------------------------
# bad COMMAND WORDS: one line that names the command and says why, nothing left.
bad() {
    status_is 1 "$1" "$FACET" $compile -o bad.facet --no-proof -q --score "x=$1"
    [ "$(wc -l < err.txt)" -eq 1 ] || fail "$1: not one line: $(cat err.txt)"
    grep -qF "facet: score x of dense ($1): $2" err.txt || fail "$1: $(cat err.txt)"
    nothing_left bad.facet
}
bad "echo 1; exit 7" "exit status 7; "
bad "no-such-command" "exit status 127; "
bad 'kill -9 $$' "ended by signal 9; "
bad "true" "it printed nothing; "
bad "echo; echo" "it printed nothing; "
bad "echo 1; echo done" 'its last line "done" is no finite number; '
bad "echo 1 2" 'its last line "1 2" is no finite number; '
bad "echo nan" 'its last line "nan" is no finite number; '
bad "echo 1e999" 'its last line "1e999" is no finite number; '
bad "yes | head -c 2000000" "it printed more than 1 MiB; "
status_is 1 "json" "$FACET" $compile -o bad.facet --no-proof --json --score 'x=exit 3'
check_json "json" "d['error']['code'] == 'failed' and 'exit status 3' in d['error']['message']" \
    < out.txt
# A family's turn comes after dense's.
status_is 1 "of a family" "$FACET" $compile -o bad.facet --no-proof \
    --score 'x=test $FACET_FAMILY != math && echo 1'
grep -q '^facet: score x of math (.*): exit status 1; ' err.txt || fail "family: $(cat err.txt)"
nothing_left bad.facet

# ---- limits --------------------------------------------------------------------------------------
# The score is the share of channels that is kept, noted down with whose it is.
cat > keep.py <<'END'
import json, os
families = json.load(open(os.environ["FACET_BUNDLE"] + "/manifest.json"))["families"]
keep, = [f["keep"] for f in families if f["name"] == os.environ["FACET_FAMILY"]]
print(os.environ["FACET_FAMILY"], keep, file=open("asked.txt", "a"))
print(keep)
END
limited="$compile -o least.facet --no-proof --compensate none"
status_is 4 "too bad" "$FACET" $limited --keep 0.5 --score "k='$PYTHON' keep.py" \
    --score-least k=0.6 -q
grep -q '^facet: family code: at keep 0.5 its score k is 0.5 times .*asks for 0.6; .*--force$' \
    err.txt || fail "too bad: $(cat err.txt)"
[ "$(wc -l < err.txt)" -eq 1 ] || fail "too bad: not one line: $(cat err.txt)"
nothing_left least.facet
"$FACET" $limited --keep 0.5 --score "k='$PYTHON' keep.py" --score-least k=0.6 --force --json \
    > forced.json 2> err.txt || fail "by force: $(cat err.txt)"
[ "$(grep -c '^facet: warning: family .*--score-least' err.txt)" -eq 2 ] ||
    fail "by force: $(cat err.txt)"
check_json "by force" "d['quality'] == {'tried': [], 'score_least': {'k': 0.6}, 'keep': 0.5}" \
    < forced.json
rm -rf least.facet asked.txt
"$FACET" $limited --score "k='$PYTHON' keep.py" --score-least k=0.6 --json > least.json ||
    fail "the smallest keep"
check_json "the smallest keep" "d['quality']['keep'] == d['families'][1]['keep'] == 0.66 and \
    [t['keep'] for t in d['quality']['tried']] == [.25, .33, .5]" < least.json
[ "$(grep -c dense asked.txt)" -eq 1 ] || fail "dense was asked again: $(cat asked.txt)"
rm -rf least.facet
status_is 4 "dense without a score" "$FACET" $limited --score "k=echo 0" --score-least k=0.5 -q
grep -q "^facet: family code: dense's score k is 0, .*--force$" err.txt || fail "$(cat err.txt)"
nothing_left least.facet
"$FACET" $limited --score "k=echo 0" --score-least k=0.5 --force --keep 1 -q > quiet.out ||
    fail "dense without a score, by force"

# ---- signals -------------------------------------------------------------------------------------
# A process has ended, though nobody may have waited for it; one that is killed takes its moment.
is_over() {
    local tries state
    for tries in 1 2 3 4 5 6 7 8 9 10; do
        state=$(sed -e 's/.*) //' -e 's/ .*//' "/proc/$1/stat" 2> /dev/null)
        case $state in '' | Z | X) return 0 ;; esac
        sleep 0.1
    done
    return 1
}
# interrupt SIGNAL COMMAND: sent when the command has begun; its processes are gone afterwards.
interrupt() {
    rm -f begun
    "$FACET" $compile -o signal.facet --no-proof -q --score "x=$2" > out.txt 2> err.txt &
    local facet=$! tries=0 got
    while [ ! -s begun ] && [ $tries -lt 600 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    kill -"$1" $facet
    wait $facet
    got=$?
    [ $got -eq $((128 + $(kill -l "$1"))) ] || fail "status $got after $1: $(cat err.txt)"
    [ "$(wc -l < err.txt)" -eq 1 ] || fail "after $1: $(cat err.txt)"
    for pid in $(cat begun); do
        is_over "$pid" || fail "$1: process $pid of the command goes on"
    done
    nothing_left signal.facet
}
# A background job of a script ignores SIGINT; facet sets its own handler.
interrupt INT 'touch made.here; trap "rm made.here; exit 1" TERM; sleep 60 & echo $$ $! > begun; wait'
[ -e made.here ] && fail "the command could not remove its own"
interrupt TERM 'trap "" TERM; sleep 60 & echo $$ $! > begun; while :; do sleep 60; done'
echo "scores: in the proof, judged, ended"
