# SPDX-License-Identifier: Apache-2.0
# --refit-target best and --select best through the command: what was tried is told, the least loss
# wins, the same input makes the same bytes for any number of threads, and what comes out runs.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs
make_code_families
compiled() { # OUT OPTION...
    local out=$1
    shift
    "$FACET" compile model.gguf code.families --keep 0.5 "$@" -o "$out" --json
}
compiled one.facet --refit-target best --select best --threads 1 > one.json || fail "compile"
compiled two.facet --refit-target best --select best --threads 2 > two.json || fail "compile with two threads"
diff -r one.facet two.facet || fail "the number of threads shows"
family="d['proof']['families'][0]"
tried="$family['rehearsed']"
least="min($tried, key=$tried.get)"
check_json "choices" "list($tried) == ['half', 'residual', 'layer', 'eliminate']" < one.json
check_json "selection" "($family['select'] == 'eliminate') == ($least == 'eliminate')" < one.json
check_json "target" "all($tried[$family['refit_target']] <= $tried[t] for t in ('half', 'residual', 'layer'))" < one.json
check_json "time" "d['seconds_by_step']['choose'] > 0" < one.json
"$FACET" verify one.facet -q > quiet.out || fail "verify"
"$FACET" run one.facet --family code -n 4 -p "x" -q > quiet.out || fail "run"

# What was asked for is what is done, untried; channels then differ from those of statistics.
compiled plain.facet > plain.json || fail "compile"
compiled found.facet --select eliminate --refit-target layer > found.json || fail "compile by elimination"
check_json "untried" "'rehearsed' not in $family and $family['select'] == 'stats' and $family['refit_target'] == 'half'" < plain.json
check_json "as asked" "'rehearsed' not in $family and $family['select'] == 'eliminate' and $family['refit_target'] == 'layer'" < found.json
if diff -q plain.facet/weights.bin found.facet/weights.bin > quiet.out; then
    fail "elimination chose what statistics chose"
fi
# Shares of the layers are sought for what was chosen.
compiled shares.facet --refit-target best --budget global > shares.json || fail "compile with shares"
check_json "shares" "$family['budget_loss_chosen'] <= $family['budget_loss_uniform'] == $tried[$family['refit_target']]" < shares.json
# A down projection's type is chosen, or given.
compiled eight.facet --down q8_0 > eight.json || fail "compile with 8 bits"
check_json "8 bits" "$family['down_bits'] == 8.5 and $family['quantize_error'] > 0" < eight.json
check_json "chosen bits" "$family['down_bits'] != 8.5" < plain.json
"$FACET" run eight.facet --family code -n 4 -p "x" -q > quiet.out || fail "run with 8 bits"
