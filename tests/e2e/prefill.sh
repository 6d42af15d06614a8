# SPDX-License-Identifier: Apache-2.0
# Families that are made to answer behind dense's reading of the prompt (compile --prefill dense):
# what the proof says is what eval measures so, they are worth more read so, and text without
# answers knows no difference.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs
"$PYTHON" "$SOURCE/tests/support/gen_model.py" --type F32 -o float.gguf || fail "gen_model"
"$PYTHON" - <<'END' || fail "task files"
import json
prompts = [{"prompt": json.loads(line)["prompt"]} for line in open("code.jsonl")]
for name, part in (("open", prompts), ("held", prompts[4::5])):  # what cluster holds out
    with open(name + ".jsonl", "w") as file:
        file.writelines(json.dumps(p) + "\n" for p in part)
END
"$FACET" predict float.gguf --task code=open.jsonl --continue 24 -q -o code.masks > quiet.out ||
    fail "predict"
"$FACET" cluster code.masks -q -o code.families > quiet.out || fail "cluster"
proof="d['proof']['families'][0]"
compile() { # NAME OPTIONS...
    "$FACET" compile float.gguf code.families -o $1.facet --json "${@:2}" > $1.json 2> err.txt ||
        fail "compile of $1: $(cat err.txt)"
}
agree() { # BUNDLE READER
    "$FACET" eval $1.facet --agree held.jsonl -n 24 --family code --prefill $2 --json |
        json "d['agreement'][0]['positions_equal_share']"
}

# ---- the proof and eval --------------------------------------------------------------------------
for how in none refit tune; do
    compile $how --keep 0.25 --compensate $how --prefill dense
    share=$(agree $how dense) || fail "eval of $how"
    check_json "$how: the proof and eval" "abs($proof['agree_positions'] - $share) < 1e-5" \
        < $how.json
    check_json "$how: prefill" "d['proof']['prefill'] == 'dense'" < $how.json
done
compile whole --keep 1 --prefill dense
check_json "everything" "$proof['agree_positions'] == 1" < whole.json
check_json "everything" "abs($proof['perplexity']['family'] / $proof['perplexity']['dense'] - 1) \
    < 1e-4" < whole.json
check_json "tuned" "$proof['loss_tuned'] <= $proof['loss_refit']" < tune.json

# ---- what it is made for -------------------------------------------------------------------------
# The same channels, refitted for either reader: read by dense, the one made for it loses less.
compile plain --keep 0.25
"$FACET" inspect plain.facet --json | check_json "no prefill" "'prefill' not in d['proof']"
"$PYTHON" - <<'END' || fail "made for dense's reading: $(cat plain.json refit.json)"
import json
plain, made, none = (json.load(open(name + ".json"))["proof"]["families"][0]["perplexity"]
                     for name in ("plain", "refit", "none"))
assert plain["dense"] == made["dense"] == none["dense"]
assert made["family"] < min(plain["family"], none["family"]), (plain, made, none)
END

# ---- text ----------------------------------------------------------------------------------------
for reader in family dense; do
    "$FACET" build float.gguf --task text=text.txt --keep 0.5 --mode generic --prefill $reader \
        -o $reader.facet --json > $reader.json || fail "text read by $reader"
done
cmp -s family.facet/families/text.bin dense.facet/families/text.bin ||
    fail "text knows who reads it"
same="{k: v for k, v in $proof.items()}"
[ "$(json "$same" < family.json)" = "$(json "$same" < dense.json)" ] || fail "proofs of text differ"

# A budget between layers, and a plan, take it as well.
"$FACET" plan float.gguf code.families --keeps 0.25 --mode generic --prefill dense --json \
    --budget global > plan.json || fail "plan"
check_json "plan" "d['rows'][0]['ppl_over_dense'] > 1" < plan.json
echo "prefill by dense: fine"
