# SPDX-License-Identifier: Apache-2.0
# Mixed use: one family for several tasks, families nested in one another, the proof as a table, and
# a conversation that dense begins and a family goes on with.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs

# One name, two files: one family of both, calibrated and judged on both.
"$FACET" build model.gguf --task work=code.jsonl --task work=math.jsonl --task other=text.txt \
    --ctx 64 --mode generic -o work.facet -q --json > work.json || fail "build"
check_json "one family of two tasks" \
    "[f['name'] for f in d['families']] == ['dense', 'work', 'other']" < work.json
check_json "one family of two tasks" "d['families'][1]['samples'] > 30" < work.json
"$FACET" eval work.facet --family work --complete math.jsonl -n 2 -o math.out.jsonl -q ||
    fail "eval of one task"
"$FACET" eval work.facet --family work --complete code.jsonl -n 2 -o code.out.jsonl -q ||
    fail "eval of the other task"

# A family that drops nothing lies in every other one that drops nothing; dense is not named.
build_bundle all.facet --keep 1 --mode generic --json > all.json || fail "build with keep 1"
check_json "nested families" \
    "[f['nested_in'] for f in d['families']] == [[], ['math'], ['code']]" < all.json
"$FACET" inspect all.facet > all.out || fail "inspect"
grep -q nested_in all.out || fail "inspect does not tell what is nested"
grep -q 'family *calibration_tokens *held_tokens *ppl_dense *own *worst_other *random' all.out ||
    fail "inspect shows no table of the proof: $(cat all.out)"

# A conversation that dense begins and a family goes on with, in both forms of prefill. What a
# switch means to the numbers is tests/oracle/test_switch.c.
for prefill in dense family; do
    printf 'one two three\nfour five\nsix\n' | "$FACET" run work.facet --prefill $prefill -i -n 6 \
        > talk.out 2> talk.err || fail "a conversation, --prefill $prefill: $(cat talk.err)"
    [ "$(wc -l < talk.out)" -ge 3 ] || fail "a conversation: $(cat talk.out)"
done
echo "mixed use: fine"
