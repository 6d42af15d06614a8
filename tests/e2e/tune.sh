# SPDX-License-Identifier: Apache-2.0
# --compensate tune through the command: the proof tells what was learned, the same input makes the
# same bytes for any number of threads, and what comes out runs, with vectors of its own.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs
make_code_families
# What the refit has not seen is left to learn from.
tuned() { # OUT OPTION...
    local out=$1
    shift
    "$FACET" compile model.gguf code.families --keep 0.5 --calibration-tokens 128 --compensate tune "$@" -o "$out" --json
}
tuned one.facet --tune-tokens 4096 --threads 1 > one.json || fail "compile"
tuned two.facet --tune-tokens 4096 --threads 2 > two.json || fail "compile with two threads"
diff -r one.facet two.facet || fail "the number of threads shows"
family="d['proof']['families'][0]"
check_json "tuned" "0 < $family['tune_tokens'] <= 4096" < one.json
check_json "tuned" "$family['loss_tuned'] < $family['loss_refit']" < one.json
check_json "tuned" "d['compensate'] == 'tune' and d['seconds_by_step']['tune'] > 0" < one.json
"$FACET" inspect one.facet --json > inspect.json || fail "inspect"
check_json "own vectors" "d['families'][1]['own_vectors'] == ['attn_norm', 'ffn_norm', 'out_norm']" < inspect.json
check_json "dense shares" "d['families'][0]['own_vectors'] == []" < inspect.json
"$FACET" inspect one.facet | grep -q attn_norm || fail "inspect for people names no own vectors"
"$FACET" verify one.facet -q > quiet.out || fail "verify"
"$FACET" run one.facet --family code -n 4 -p "x" -q > quiet.out || fail "run"

# A refit says nothing of it.
"$FACET" compile model.gguf code.families --keep 0.5 --calibration-tokens 128 -o refit.facet --json > refit.json ||
    fail "compile with a refit"
check_json "not tuned" "'loss_tuned' not in $family" < refit.json
"$FACET" inspect refit.facet --json > inspect.json || fail "inspect a refit"
check_json "shares all" "d['families'][1]['own_vectors'] == []" < inspect.json
if diff -q one.facet/families/code.bin refit.facet/families/code.bin > quiet.out; then
    fail "tuning changed nothing"
fi
