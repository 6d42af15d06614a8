# SPDX-License-Identifier: Apache-2.0
# eval --agree: a family that keeps everything agrees fully, one that keeps a quarter does not, and
# the share of equal answers is what comes out when each family really generates.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs
"$PYTHON" "$SOURCE/tests/support/gen_model.py" --type F32 -o float.gguf || fail "gen_model"
build() { # OUT KEEP
    "$FACET" build float.gguf --task code=code.jsonl --limit 8 --continue 0 --keep "$2" \
        --compensate none --no-proof -o "$1" -q > quiet.out || fail "build with keep $2"
}
build whole.facet 1
build most.facet 0.9
build quarter.facet 0.25
agree() { # BUNDLE OPTIONS...
    "$FACET" eval "$1" --agree code.jsonl --json "${@:2}" || fail "eval $1 --agree"
}

# ---- everything, a quarter -----------------------------------------------------------------------
agree whole.facet -n 16 > whole.json
has_fields "agree" d dense agreement < whole.json
has_fields "agree" "d['agreement']" family file prompts answers_equal answers_equal_share \
    positions positions_equal positions_equal_share seconds < whole.json
has_fields "agree" "d['dense']" answers ended tokens seconds < whole.json
check_json "agree" "[r['family'] for r in d['agreement']] == ['dense', 'code']" < whole.json
check_json "all channels" "all(r['answers_equal'] == r['prompts'] == 30 for r in d['agreement'])" \
    < whole.json
check_json "all channels" \
    "all(r['positions_equal'] == r['positions'] == d['dense']['tokens'] for r in d['agreement'])" \
    < whole.json
check_json "all channels" "30 <= d['dense']['tokens'] <= 30 * 16" < whole.json
agree quarter.facet -n 16 --family code > quarter.json
check_json "a quarter" "len(d['agreement']) == 1 and d['agreement'][0]['answers_equal'] < 30" \
    < quarter.json
check_json "a quarter" "d['agreement'][0]['positions_equal_share'] < 0.9" < quarter.json
check_json "a quarter" "abs(d['agreement'][0]['positions_equal_share'] - \
    d['agreement'][0]['positions_equal'] / d['agreement'][0]['positions']) < 1e-9" < quarter.json

# ---- the same from single runs, in which the family goes its own way -----------------------------
for prefill in family dense; do
    "$PYTHON" - "$FACET" $prefill <<'END' > runs.json || fail "single runs, prefill by $prefill"
import json, subprocess, sys

def answer(family, prompt):
    out = subprocess.run([sys.argv[1], "run", "most.facet", "--family", family, "--prefill",
                          sys.argv[2], "-n", "6", "--json", "-p", prompt],
                         capture_output=True, text=True, check=True).stdout
    made = json.loads(out)
    return made["tokens"], made["stop"], made["text"]

prompts = [json.loads(line)["prompt"] for line in open("code.jsonl")][:12]
pairs = [(answer("dense", p), answer("code", p)) for p in prompts]
ended = sum(dense[1] == "end" and len(dense[0]) < 6 for dense, _ in pairs)
print(json.dumps({"equal": sum(a == b for a, b in pairs), "ended": ended,
                  "tokens": sum(len(dense[0]) for dense, _ in pairs) + ended,
                  "texts": [own[2] for _, own in pairs]}))
END
    agree most.facet -n 6 --limit 12 --family code --prefill $prefill > most.json
    for field in equal ended tokens; do
        case $field in
        equal) expression="d['agreement'][0]['answers_equal']" ;;
        *) expression="d['dense']['$field']" ;;
        esac
        [ "$(json "d['$field']" < runs.json)" = "$(json "$expression" < most.json)" ] ||
            fail "single runs, prefill by $prefill: $field: $(cat runs.json most.json)"
    done
    check_json "some channels" "0 < d['agreement'][0]['answers_equal'] < 12" < most.json
    "$FACET" eval most.facet --complete code.jsonl -n 6 --limit 12 --family code \
        --prefill $prefill -o texts-$prefill.jsonl -q > quiet.out || fail "complete"
    "$PYTHON" -c '
import json, sys
lines = [json.loads(line)["completion"] for line in open(sys.argv[1])]
sys.exit(lines != json.load(open("runs.json"))["texts"])' texts-$prefill.jsonl ||
        fail "answers, prefill by $prefill"
done
cmp -s texts-family.jsonl texts-dense.jsonl && fail "who reads the prompt makes no difference"
status_is 2 "--prefill of a text" "$FACET" eval most.facet --ppl text.txt --prefill dense

# ---- text, context, the same again ---------------------------------------------------------------
"$FACET" eval quarter.facet --agree code.jsonl -n 4 > text.out 2> err.txt || fail "agree as text"
grep -q '^  family  *file  *prompts  *answers_equal' text.out || fail "agree as text: no table"
[ -s err.txt ] && fail "agree: progress without a terminal: $(cat err.txt)"
# A context that the longest prompt and a few tokens fill: answers end with it.
longest=$("$PYTHON" -c '
import json, subprocess, sys
ids = [json.loads(subprocess.run([sys.argv[1], "run", "float.gguf", "-n", "0", "--json", "-p",
                                  json.loads(line)["prompt"]], capture_output=True).stdout)
       for line in list(open("code.jsonl"))[:3]]
print(max(i["prompt_tokens"] for i in ids))' "$FACET") || fail "lengths of prompts"
agree whole.facet --limit 3 -n 400 --ctx $((longest + 2)) > short.json
check_json "a short context" "d['dense']['tokens'] < 3 * 400 and \
    d['agreement'][1]['answers_equal'] == 3" < short.json
status_is 3 "a prompt as long as the context" "$FACET" eval whole.facet --limit 3 \
    --agree code.jsonl --ctx "$longest" --json
check_json "a prompt as long as the context" \
    "d['error']['file'] == 'code.jsonl' and d['error']['offset'] in (1, 2, 3)" < out.txt
agree quarter.facet -n 16 --family code > again.json
strip='[{k: v for k, v in r.items() if k != "seconds"} for r in d["agreement"]]'
[ "$(json "$strip" < quarter.json)" = "$(json "$strip" < again.json)" ] || fail "two answers"
echo "agreement with dense: fine"
