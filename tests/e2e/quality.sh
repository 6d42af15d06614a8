# SPDX-License-Identifier: Apache-2.0
# --quality: the smallest keep that is good enough, or a refusal that leaves nothing; --force.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs
tasks="--task code=code.jsonl --task math=math.jsonl"
"$FACET" predict model.gguf $tasks -q -o demo.masks > quiet.out || fail "predict"
"$FACET" cluster demo.masks -q -o demo.families > quiet.out || fail "cluster"
keeps="[.25, .33, .5, .66, .75, .9]"

# What the keeps are worth, from which the limits below are chosen.
"$FACET" plan model.gguf demo.families --keeps 0.25,0.33,0.5,0.66,0.75,0.9 --mode generic --json \
    > plan.json || fail "plan"
worst="(lambda keep: max(r['ppl_over_dense'] for r in d['rows'] if r['keep'] == keep))"
check_json "the tiny model" "$worst(.25) > 1.02 and min(map($worst, $keeps)) < 1.02" < plan.json

# ---- an explicit keep ----------------------------------------------------------------------------
limit=$(json "round($worst(.25) - 0.005, 4)" < plan.json)
status_is 4 "too bad" "$FACET" compile model.gguf demo.families -o demo.facet --mode generic \
    --keep 0.25 --quality $limit --json
check_json "too bad" "d['error']['code'] == 'quality'" < out.txt
grep -q "^facet: family [a-z]*: at keep 0.25 .*--quality allows $limit; .*--force" err.txt ||
    fail "too bad: $(cat err.txt)"
[ "$(wc -l < err.txt)" -eq 1 ] || fail "too bad: not one line"
nothing_left demo.facet
limit=$(json "round($worst(.25) + 0.005, 4)" < plan.json)
"$FACET" compile model.gguf demo.families -o demo.facet --mode generic --keep 0.25 \
    --quality $limit --json > good.json || fail "good enough"
check_json "good enough" "d['quality'] == {'tried': [], 'limit': $limit, 'keep': 0.25}" < good.json
"$FACET" compile model.gguf demo.families -o plain.facet --mode generic --keep 0.25 -q \
    > quiet.out || fail "compile"
diff -r demo.facet plain.facet || fail "quality changes the bundle"

# Replacing and publishing a worse one: --force, and a warning.
"$FACET" compile model.gguf demo.families -o demo.facet --mode generic --keep 0.25 \
    --quality 1.0001 --force > out.txt 2> err.txt || fail "force"
grep -q '^facet: warning: family .*--quality' err.txt || fail "force: $(cat err.txt)"

# ---- the smallest keep ---------------------------------------------------------------------------
# Between the worth of 25 % and of the best keep: some are too small, one is large enough.
limit=$(json "round((min(map($worst, $keeps)) + $worst(.25)) / 2, 4)" < plan.json)
want=$(json "min(k for k in $keeps if $worst(k) <= $limit)" < plan.json)
"$FACET" build model.gguf $tasks -o small.facet --mode generic --quality $limit --json \
    > small.json 2> err.txt || fail "the smallest keep: $(cat err.txt)"
check_json "the smallest keep" "d['quality']['keep'] == $want == d['families'][1]['keep'] > 0.25" \
    < small.json
check_json "the smallest keep" \
    "[t['keep'] for t in d['quality']['tried']] == [k for k in $keeps if k < $want]" < small.json
check_json "the smallest keep: a whole proof" \
    "all('random' in f['perplexity'] for f in d['proof']['families'])" < small.json
"$FACET" build model.gguf $tasks -o said.facet --mode generic --quality $limit > out.txt \
    2> err.txt || fail "the smallest keep in words"
grep -q '^facet: family [a-z]*: at keep 0.25 ' err.txt || fail "tried keeps: $(cat err.txt)"
diff -r small.facet said.facet || fail "two builds of one quality differ"

# None is good enough: nobody is less perplexed by the dense model's own greedy text than itself.
"$PYTHON" -c '
import json
for line in open("code.jsonl"):
    print(json.dumps({"prompt": json.loads(line)["prompt"]}))' | head -10 > own.jsonl
own="--task own=own.jsonl --continue 64 --compensate none --mode generic"
"$FACET" plan model.gguf $own --json --keeps 0.25,0.33,0.5,0.66,0.75,0.9 > own.json ||
    fail "plan of own text"
check_json "own text" "min(map($worst, $keeps)) > 1.0002" < own.json
status_is 4 "none" "$FACET" build model.gguf $own --quality 1.0001 -o own.facet -q
grep -q 'at keep 0.9 ' err.txt || fail "none: $(cat err.txt)"
nothing_left own.facet
"$FACET" build model.gguf $own --quality 1.0001 -o own.facet --force --json > own.json \
    2> err.txt || fail "none, by force: $(cat err.txt)"
check_json "none, by force" "d['families'][1]['keep'] == 0.9" < own.json

# ---- families that cannot be judged --------------------------------------------------------------
head -1 math.jsonl > single.jsonl
single="--task code=code.jsonl --task single=single.jsonl --mode generic --compensate none"
for keep in "" "--keep 0.5"; do
    status_is 4 "nothing held out" "$FACET" build model.gguf $single $keep --quality 2 \
        -o single.facet -q
    grep -q '^facet: family single: .*cannot be judged' err.txt || fail "unjudged: $(cat err.txt)"
    nothing_left single.facet
done
"$FACET" build model.gguf $single --keep 0.5 --quality 2 -o single.facet --force > out.txt \
    2> err.txt || fail "nothing held out, by force: $(cat err.txt)"
grep -q '^facet: warning: family single: .*cannot be judged' err.txt ||
    fail "unjudged, by force: $(cat err.txt)"
echo "quality: chosen, refused, forced"
