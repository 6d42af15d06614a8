# SPDX-License-Identifier: Apache-2.0
# The whole way on a tiny model: build, inspect, run, eval, bench, verify; every JSON field of the
# contract is there.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs

build_bundle demo.facet --json --source sources > build.json || fail "build"
check_json "build" "d['output'] == 'demo.facet' and d['seconds'] > 0" < build.json
has_fields "build" "d['cache']" hits misses compiled rejected < build.json
check_json "build" "min(d['seconds_by_step'].values()) >= 0" < build.json
check_json "build" "[f['name'] for f in d['families']] == ['dense', 'code', 'math']" < build.json
ls sources/*.c > /dev/null || fail "--source wrote nothing"

# ---- inspect -------------------------------------------------------------------------------------
"$FACET" inspect model.gguf --json > model.json || fail "inspect model"
check_json "inspect model" "d['kind'] == 'model'" < model.json
has_fields "inspect model" d format arch name layers d_model d_ffn heads kv_heads head_dim vocab \
    context parameters tensors types file_bytes fingerprint shape bytes_per_token ffn_bytes_share \
    chat_template tokenizer < model.json
"$FACET" inspect demo.facet --json > bundle.json || fail "inspect bundle"
check_json "inspect bundle" "d['kind'] == 'bundle'" < bundle.json
has_fields "inspect bundle" d model arch families targets kernels weights_bytes layout compensate \
    proof < bundle.json
has_fields "inspect bundle" "d['families']" name keep channels_per_layer tiles_per_layer \
    runs_per_layer recall down_bits extra_bytes < bundle.json
check_json "inspect bundle" "all(len(f['tiles_per_layer']) == 3 for f in d['families'])" \
    < bundle.json
check_json "inspect bundle" "all(0 < f['recall'] <= 1 for f in d['families'])" < bundle.json
has_fields "inspect bundle" "d['kernels']" key target family bytes < bundle.json
"$FACET" inspect demo.facet > text.out || fail "inspect as text"
grep -q '^kind *bundle' text.out || fail "inspect as text says nothing"

# ---- run -----------------------------------------------------------------------------------------
for family in dense code math; do
    for threads in 1 2; do
        "$FACET" run demo.facet --family $family -p "One two three" -n 12 --json \
            --threads $threads > run$threads.json || fail "run"
    done
    has_fields "run" d text tokens family prompt_tokens generated_tokens stop prefill_seconds \
        decode_seconds decode_tokens_per_second < run1.json
    check_json "run" "d['family'] == '$family'" < run1.json
    check_json "run" "len(d['tokens']) == d['generated_tokens'] <= 12" < run1.json
    [ "$(json "d['tokens']" < run1.json)" = "$(json "d['tokens']" < run2.json)" ] ||
        fail "run: the number of threads changes tokens of $family"
done
ask="run demo.facet --family code -p x -n 8 --temp 1 --seed 7 --json"
"$FACET" $ask | json "d['tokens']" > a.out
"$FACET" $ask | json "d['tokens']" > b.out
cmp -s a.out b.out || fail "run: one seed, two answers"
printf 'first\nsecond\n' | "$FACET" run demo.facet --family dense -i -n 4 > talk.out ||
    fail "run -i"
[ -s talk.out ] || fail "run -i said nothing"
printf 'from a file' > prompt.txt
"$FACET" run demo.facet --family math -f prompt.txt --raw --prefill dense -n 4 > /dev/null ||
    fail "run -f"

# The family `dense` of a bundle and the model itself are one and the same.
"$FACET" run model.gguf -p "One two three" -n 12 --json | json "d['tokens']" > a.out
"$FACET" run demo.facet --family dense -p "One two three" -n 12 --json | json "d['tokens']" > b.out
cmp -s a.out b.out || fail "run: the model and the bundle's dense family differ"

# ---- eval ----------------------------------------------------------------------------------------
"$FACET" eval demo.facet --ppl text.txt --ctx 64 --family all --json > ppl.json || fail "eval --ppl"
check_json "eval" "[r['family'] for r in d['results']] == ['dense', 'code', 'math']" < ppl.json
has_fields "eval" "d['results']" family file tokens nll ppl seconds < ppl.json
check_json "eval" "all(r['tokens'] % 63 == 0 for r in d['results'])" < ppl.json
"$PYTHON" -c '
import json, math
for r in json.load(open("ppl.json"))["results"]:
    assert abs(math.exp(r["nll"]) / r["ppl"] - 1) < 1e-9
' || fail "eval: ppl is not exp(nll)"
"$FACET" eval model.gguf --ppl text.txt --ctx 64 --json > dense.json || fail "eval of a model"
[ "$(json "d['results'][0]['nll']" < ppl.json)" = "$(json "d['results'][0]['nll']" < dense.json)" \
    ] ||
    fail "eval: the model and the bundle's dense family differ"
"$FACET" eval demo.facet --family code --complete code.jsonl -o done.jsonl -n 6 --stop "}" \
    --json > done.json || fail "eval --complete"
[ "$(wc -l < done.jsonl)" -eq 30 ] || fail "eval --complete lost records"
"$PYTHON" -c '
import json
for a, b in zip(open("code.jsonl"), open("done.jsonl")):
    a, b = json.loads(a), json.loads(b)
    assert b["prompt"] == a["prompt"] and b["reference"] == a["completion"]
    assert isinstance(b["completion"], str) and "}" not in b["completion"]
' || fail "eval --complete wrote other records"

# ---- bench ---------------------------------------------------------------------------------------
"$FACET" bench demo.facet -p 16 -n 4 -r 2 --json > bench.json || fail "bench"
has_fields "bench" "d['machine']" cpu isa cores threads l3_bytes read_gb_per_s < bench.json
has_fields "bench" "d['rows']" model family variant test batch depth reps tokens_per_second \
    bytes_per_token packed_bytes_per_token gb_per_s of_bandwidth cached < bench.json
check_json "bench" "{r['test'] for r in d['rows']} == {'pp16', 'tg4', 'pp16+tg4'}" < bench.json
has_fields "bench" "[r['tokens_per_second'] for r in d['rows']]" median min max samples < bench.json
check_json "bench" "all(r['tokens_per_second']['min'] > 0 for r in d['rows'])" < bench.json
check_json "bench" "len(d['rows']) == 9 and all(r['cached'] for r in d['rows'])" < bench.json
"$FACET" bench demo.facet -p 16 -n 4 -r 2 --batch 3 --json > batch.json || fail "bench --batch"
check_json "bench --batch" "all(r['batch'] == 3 for r in d['rows'])" < batch.json
"$PYTHON" -c '
import json
one, three = ({(r["family"], r["test"]): r for r in json.load(open(name))["rows"]}
              for name in ("bench.json", "batch.json"))
assert one.keys() == three.keys()
for (family, test), row in three.items():
    alone = one[family, test]
    for field in ("bytes_per_token", "packed_bytes_per_token"):
        share = row[field] / alone[field]
        assert share == 1 if test == "pp16" else 1 / 3 < share < 0.7, (family, test, field, share)
' || fail "bench --batch: bytes of a token"
"$FACET" bench demo.facet -p 8 -n 0 -r 1 --family dense --format csv > bench.csv ||
    fail "bench --format csv"
[ "$(wc -l < bench.csv)" -eq 2 ] || fail "bench: a csv of other than two lines"

# ---- verify --------------------------------------------------------------------------------------
"$FACET" verify demo.facet --json > verify.json || fail "verify"
check_json "verify" "d['ok'] is True and d['files'] == len(d['checked'])" < verify.json
has_fields "verify" "d['kernels']" key target max_abs_error max_rel_error ok < verify.json
check_json "verify" "all(k['ok'] or k['skipped'] for k in d['kernels'])" < verify.json
cp -r demo.facet bad.facet
printf 'X' | dd of=bad.facet/weights.bin bs=1 seek=4096 conv=notrunc 2> /dev/null
status_is 4 "verify of a flipped byte" "$FACET" verify bad.facet --json
check_json "verify of a flipped byte" "d['ok'] is False" < out.txt
cp -r demo.facet cut.facet
truncate -s -1 cut.facet/weights.bin
status_is 3 "run of a truncated bundle" "$FACET" run cut.facet --family dense -p x
echo "build, inspect, run, eval, bench, verify: fine"
