# SPDX-License-Identifier: Apache-2.0
# predict, cluster and compile make what build makes; the same input makes the same bytes; a second
# build compiles nothing, nor does another process that asks for the same model.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs

"$FACET" predict model.gguf --task code=code.jsonl --task math=math.jsonl -o demo.masks --json \
    > masks.json ||
    fail "predict"
has_fields "predict" d kind output seconds samples layers channels keep labels shape model overlap \
    nearest_label_accuracy < masks.json
check_json "predict" "d['labels'] == {'code': 30, 'math': 30}" < masks.json
has_fields "predict" "d['overlap']" within between < masks.json
"$FACET" cluster demo.masks -o demo.families --json > families.json || fail "cluster"
has_fields "cluster" d kind output seconds families layers channels overlap silhouette \
    < families.json
check_json "cluster" "[f['name'] for f in d['families']] == ['code', 'math']" < families.json
"$FACET" compile model.gguf demo.families -o steps.facet -q --json > compile.json || fail "compile"
check_json "compile" "d['cache']['compiled'] > 0" < compile.json

build_bundle build.facet --json > build.json || fail "build"
check_json "build" "d['cache']['compiled'] == 0 and d['cache']['hits'] > 0" < build.json
diff -r steps.facet build.facet || fail "the three steps and build differ"

# A cold cache elsewhere: the same bytes.
build_bundle again.facet --cache "$WORK/other" --json > again.json ||
    fail "build with another cache"
check_json "build with another cache" "d['cache']['compiled'] > 0" < again.json
diff -r build.facet again.facet || fail "two builds of the same input differ"

# Other seeds and predictors run; auto finds some number of families.
"$FACET" predict model.gguf --task code.jsonl --task math.jsonl --predictor energy --limit 8 \
    -o plain.masks -q > quiet.out ||
    fail "predict without names"
"$FACET" cluster plain.masks -o auto.families --json > auto.json || fail "cluster by itself"
check_json "cluster by itself" \
    "1 <= len(d['families']) <= 16 and any(p['chosen'] for p in d['curve'])" < auto.json
"$FACET" cluster plain.masks -o three.families --families 3 --seed 5 --json > three.json ||
    fail "cluster into 3"
check_json "cluster into 3" "len(d['families']) == 3" < three.json
for predictor in glass random; do
    "$FACET" predict model.gguf --task code=code.jsonl --predictor $predictor --limit 4 \
        --keep 0.25 --raw -o $predictor.masks -q > quiet.out ||
        fail "predict $predictor"
done
"$FACET" predict model.gguf --task text=text.txt --ctx 32 -o text.masks --json > text.json ||
    fail "predict of a text"
check_json "predict of a text" "d['samples'] > 3 and d['tokens'] == 32 * d['samples']" < text.json

# Prompts without completion are continued by the model itself; the dense bundle comes from the
# cache.
"$PYTHON" -c '
import json
for line in open("code.jsonl"):
    print(json.dumps({"prompt": json.loads(line)["prompt"]}))' | head -4 > open.jsonl
"$FACET" predict model.gguf --task open=open.jsonl --continue 8 -o open8.masks --json \
    > open8.json || fail "continue"
"$FACET" predict model.gguf --task open=open.jsonl --continue 0 -o open0.masks --json \
    > open0.json || fail "no continue"
[ "$(json "d['tokens']" < open8.json)" -gt "$(json "d['tokens']" < open0.json)" ] ||
    fail "nothing was continued"
"$FACET" cache stats --json > before.json || fail "cache stats"
"$FACET" run model.gguf -p x -n 2 -q > /dev/null || fail "run of a model"
"$FACET" cache stats --json > after.json || fail "cache stats"
[ "$(json "d['compiled']" < before.json)" = "$(json "d['compiled']" < after.json)" ] ||
    fail "a second process compiled the dense model again"
has_fields "cache stats" d path entries bytes limit_bytes hits misses compiled quarantined evicted \
    < after.json

# Cold processes on one key all succeed and agree.
for i in 1 2 3 4; do
    "$FACET" run model.gguf -p race -n 4 --cache "$WORK/race" --json > race$i.json 2> race$i.err &
done
wait
for i in 1 2 3 4; do
    [ "$(json "d['tokens']" < race$i.json)" = "$(json "d['tokens']" < race1.json)" ] ||
        fail "cold processes: $(cat race$i.err)"
done

# Maintenance of the cache.
"$FACET" cache list --json > list.json || fail "cache list"
key=$(json "d['entries'][0]['key']" < list.json)
other=$(json "d['entries'][1]['key']" < list.json)
"$FACET" cache explain "$key" "$other" > explain.out || fail "cache explain"
[ -s explain.out ] || fail "cache explain says nothing"
"$FACET" cache verify --json > verify.json || fail "cache verify"
check_json "cache verify" "d['ok'] and d['bad'] == 0 and d['good'] > 1" < verify.json
[ "$("$FACET" cache path)" = "$WORK/cache" ] || fail "cache path"
"$FACET" cache trim --limit 1K --json > trim.json || fail "cache trim"
"$FACET" cache clear > /dev/null || fail "cache clear"
"$FACET" cache stats --json | check_json "cache clear" "d['entries'] == 0"
echo "steps, determinism, counters, cache: fine"
