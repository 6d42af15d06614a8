# SPDX-License-Identifier: Apache-2.0
# facet plan: the rows are what build would make, from tasks, masks or families; nothing stays
# behind, nor after a signal.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs
export TMPDIR=$WORK/tmp
mkdir "$TMPDIR"
tasks="--task code=code.jsonl --task math=math.jsonl"
fields="keep k grouping family ppl_dense ppl ppl_over_dense bytes_per_token bytes_over_dense
    speed_over_dense compile_seconds disk_bytes"

nothing_in_tmp() {
    [ -z "$(ls -A "$TMPDIR")" ] || fail "$1: left in TMPDIR: $(ls -A "$TMPDIR")"
}

# ---- the rows ------------------------------------------------------------------------------------
"$FACET" plan model.gguf $tasks --mode generic --json > plan.json || fail "plan"
has_fields "plan" d kind model rows seconds < plan.json
has_fields "plan" "d['rows']" $fields < plan.json
check_json "plan" "d['kind'] == 'plan' and len(d['rows']) == 6 * (1 + 2)" < plan.json
check_json "plan: keeps" \
    "[r['keep'] for r in d['rows'] if r['k'] == 1] == [0.25, 0.33, 0.5, 0.66, 0.75, 1]" < plan.json
check_json "plan: families" \
    "[r['family'] for r in d['rows'] if r['grouping'] == 'label'] == ['code', 'math'] * 6" \
    < plan.json
check_json "plan: bytes rise with the keep" "all(a['bytes_per_token'] <= b['bytes_per_token'] \
    for a in d['rows'] for b in d['rows'] if a['keep'] <= b['keep'])" < plan.json
check_json "plan: speed" "all(abs(r['speed_over_dense'] * r['bytes_over_dense'] - 1) < 2e-3 \
    and 0.5 < r['ppl_over_dense'] < 2 and r['compile_seconds'] > 0 for r in d['rows'])" < plan.json
nothing_in_tmp "plan"

# build makes what the plan says.
build_bundle demo.facet --mode generic --keep 0.33 --json > build.json || fail "build"
"$PYTHON" - <<'END' || fail "plan and build differ"
import json
built = json.load(open("build.json"))
rows = [r for r in json.load(open("plan.json"))["rows"] if r["keep"] == 0.33 and r["k"] == 2]
families, proofs = built["families"][1:], built["proof"]["families"]
assert len(rows) == len(families) == len(proofs) == 2
dense = built["families"][0]["bytes_per_token"]
for row, family, proof in zip(rows, families, proofs):
    assert row["family"] == family["name"]
    assert row["bytes_per_token"] == family["bytes_per_token"]
    assert abs(row["bytes_over_dense"] - family["bytes_per_token"] / dense) < 1e-4
    assert row["disk_bytes"] == family["extra_bytes"]
    ppl = proof["perplexity"]
    assert abs(row["ppl_over_dense"] - ppl["family"] / ppl["dense"]) < 1e-4
    assert abs(row["ppl"] / ppl["family"] - 1) < 1e-4
END

# ---- other inputs --------------------------------------------------------------------------------
"$FACET" predict model.gguf $tasks -q -o demo.masks > quiet.out || fail "predict"
"$FACET" cluster demo.masks -q -o demo.families > quiet.out || fail "cluster"
same="[{k: v for k, v in r.items() if k not in ('compile_seconds', 'grouping')} \
    for r in d['rows'] if r['keep'] == 0.5 and r['k'] == 2]"
json "$same" < plan.json > want.out
[ "$(json "len($same)" < plan.json)" -eq 2 ] || fail "no rows to compare with"
"$FACET" plan model.gguf demo.masks --families label --keeps 0.5 --mode generic --json \
    > masks.json || fail "plan of masks"
json "$same" < masks.json | cmp -s - want.out || fail "plan of tasks and of masks differ"
"$FACET" plan model.gguf demo.families --keeps 0.5 --mode generic --json > families.json ||
    fail "plan of families"
json "$same" < families.json | cmp -s - want.out || fail "plan of tasks and of families differ"
check_json "plan of families" "len(d['rows']) == 2" < families.json
# One task is one family, in whatever grouping.
"$FACET" plan model.gguf --task code=code.jsonl --keeps 0.25 --mode generic > one.out ||
    fail "plan of one task"
[ "$(grep -c '^  0.25  1 ' one.out)" -eq 1 ] || fail "plan of one task: $(cat one.out)"
"$FACET" plan model.gguf demo.masks --families 3,1 --keeps 1,0.25 --mode generic --json > k.json ||
    fail "plan of three clusters"
check_json "plan of three clusters" "[(r['k'], r['keep']) for r in d['rows']] \
    == [(3, 1)] * 3 + [(3, .25)] * 3 + [(1, 1), (1, .25)]" < k.json
# From one family to one a task, and the smallest keep of each grouping that is good enough.
"$FACET" plan model.gguf $tasks --task text=text.txt --keeps 0.5,1,0.25 --mode generic --json \
    --quality 1.01 > three.json || fail "plan of three tasks"
"$PYTHON" - <<'END' || fail "plan of three tasks: $(cat three.json)"
import json
d = json.load(open("three.json"))
assert [(g["grouping"], g["k"]) for g in d["smallest"]] == [("1", 1), ("2", 2), ("label", 3)]
for g in d["smallest"]:
    keeps = [keep for keep in (0.25, 0.5, 1) if all(
        r["enough"] for r in d["rows"] if (r["grouping"], r["keep"]) == (g["grouping"], keep))]
    assert keeps and g["keep"] == keeps[0], (g, keeps)
END
"$FACET" plan model.gguf demo.families --keeps 0.25 --mode generic --quality 1.0001 \
    --compensate none > none.out || fail "plan of a limit"
sed -n '/^smallest:/,$p' none.out | grep -q '^  given  *2  *-$' || fail "a limit: $(cat none.out)"
# Kernels take disk as well.
"$FACET" plan model.gguf demo.families --keeps 0.5 --json > baked.json || fail "plan with kernels"
files=$(json "d['rows'][0]['disk_bytes']" < families.json)
if [ "$("$FACET" cache stats --json | json "d['compiled']")" -gt 0 ]; then
    check_json "plan with kernels" "min(r['disk_bytes'] for r in d['rows']) > $files + 1000" \
        < baked.json
fi
nothing_in_tmp "plan of masks and families"

# ---- signals and faults --------------------------------------------------------------------------
files_here() {
    ls -A | grep -v -e '^out.txt$' -e '^err.txt$' -e '\.ls$' | sort
}
files_here > before.ls
n=0
for delay in 0.1 0.3 0.8 2; do
    timeout -s INT --preserve-status $delay "$FACET" plan model.gguf demo.masks \
        --cache "$WORK/cache/cold$n" --json > out.txt 2> err.txt
    got=$?
    [ $got -eq 130 ] || fail "status $got after SIGINT at $delay s: $(cat err.txt)"
    nothing_in_tmp "SIGINT at $delay s"
    n=$((n + 1))
done
TMPDIR=$WORK/missing status_is 3 "no TMPDIR" "$FACET" plan model.gguf demo.masks
status_is 3 "no model" "$FACET" plan text.txt demo.masks
files_here > after.ls
cmp -s before.ls after.ls || fail "files came or went: $(diff before.ls after.ls)"
nothing_in_tmp "faults"
echo "plan: as build, nothing left"
