# SPDX-License-Identifier: Apache-2.0
# run --family auto: the nearest family is chosen, and it is its tokens that come out.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs
build_bundle demo.facet --mode generic --no-proof --compensate none > /dev/null || fail "build"
# The bundle has no kernels, and nobody needs to be told.
run() {
    "$FACET" run --mode generic "$@"
}
tokens() {
    run "$@" -n 12 --json | json "d['tokens']"
}

# ---- the route in the document -------------------------------------------------------------------
for prompt in "abcde1: return x * 7 + 12;" "A3 counts 12 apples, then 7 more stones." "x"; do
    for threads in 1 2; do
        run demo.facet -p "$prompt" -n 12 --json --threads $threads > run$threads.json \
            2> err.txt || fail "run: $(cat err.txt)"
        [ -s err.txt ] && fail "run --json: said something: $(cat err.txt)"
    done
    has_fields "route" "d['route']" scores chosen distance < run1.json
    check_json "route" "set(d['route']['scores']) == {'code', 'math'}" < run1.json
    check_json "route" "all(0 < s <= 1.000001 for s in d['route']['scores'].values())" < run1.json
    check_json "route" "d['route']['chosen'] == max(d['route']['scores'].items(),
        key=lambda item: item[1])[0] == d['family']" < run1.json
    check_json "route" \
        "abs(d['route']['distance'] - 1 + max(d['route']['scores'].values())) < 1e-12" < run1.json
    for field in "d['route']" "d['tokens']"; do
        [ "$(json "$field" < run1.json)" = "$(json "$field" < run2.json)" ] ||
            fail "route: the number of threads changes $field"
    done
    # Dense read the prompt, the chosen family goes on; or it reads the prompt as well.
    chosen=$(json "d['route']['chosen']" < run1.json)
    [ "$(json "d['tokens']" < run1.json)" = \
        "$(tokens demo.facet --family "$chosen" --prefill dense -p "$prompt")" ] ||
        fail "auto: other tokens than $chosen behind dense"
    [ "$(json "d['tokens']" < run1.json)" = "$(tokens demo.facet --family auto -p "$prompt")" ] ||
        fail "auto is not what happens without --family"
    [ "$(json "d['tokens']" < run1.json)" = \
        "$(tokens demo.facet --family auto --prefill dense -p "$prompt")" ] ||
        fail "auto --prefill dense: other tokens"
    [ "$(tokens demo.facet --family auto --prefill family -p "$prompt")" = \
        "$(tokens demo.facet --family "$chosen" -p "$prompt")" ] ||
        fail "auto --prefill family: other tokens than $chosen"
done
run demo.facet --family code -p x -n 1 --json > named.json || fail "run --family code"
check_json "a named family" "'route' not in d" < named.json

# ---- what people see -----------------------------------------------------------------------------
run demo.facet -p x -n 2 > out.txt 2> err.txt || fail "run"
grep -qE '^facet: family (code|math) is nearest, at distance 0\.[0-9]+$' err.txt ||
    fail "run does not say which family: $(cat err.txt)"
run demo.facet -p x -n 2 -q > out.txt 2> err.txt || fail "run -q"
[ -s err.txt ] && fail "run -q: said something: $(cat err.txt)"
printf 'first\nsecond\n' | run demo.facet -i -n 4 > out.txt 2> err.txt || fail "run -i"
[ "$(grep -c 'is nearest' err.txt)" -eq 1 ] || fail "run -i: a conversation has one choice"
printf 'first\nsecond\n' | run demo.facet -i --raw -n 4 > raw.txt 2> err.txt ||
    fail "run -i --raw"
[ "$(grep -c 'is nearest' err.txt)" -eq 2 ] || fail "run -i --raw: every line has its choice"
run demo.facet --raw -p second -n 4 -q > out.txt || fail "run --raw"
cmp -s out.txt <(tail -n "$(wc -l < out.txt)" raw.txt) ||
    fail "run -i --raw: a line before changes the answer"

# ---- no families, no scores, bad scores ----------------------------------------------------------
run model.gguf --family auto -p x -n 4 --json > model.json || fail "auto of a model"
check_json "auto of a model" "d['family'] == d['route']['chosen'] == 'dense'" < model.json
check_json "auto of a model" "d['route']['scores'] == {}" < model.json
run model.gguf -p x -n 4 --json > model.json || fail "run of a model"
check_json "run of a model" "'route' not in d" < model.json
cp -r demo.facet old.facet
cp -r demo.facet bad.facet
"$PYTHON" - <<'END' || fail "making other bundles"
import json, struct
d = json.load(open("demo.facet/manifest.json"))
family = d["families"][2]
at = [e["offset"] for e in family["entries"] if e["name"] == "scores"][1]
with open("bad.facet/" + family["file"], "r+b") as file:
    file.seek(at)
    file.write(struct.pack("<f", float("nan")))
family["entries"] = [e for e in family["entries"] if e["name"] != "scores"]
json.dump(d, open("old.facet/manifest.json", "w"))
END
status_is 3 "auto without scores" run old.facet -p x -n 4
grep -q 'math .*has no scores.*build the bundle again' err.txt ||
    fail "auto without scores: $(cat err.txt)"
status_is 3 "auto without scores" run old.facet --family auto -p x -n 4 --json
check_json "auto without scores" "d['error']['code'] == 'unsupported'" < out.txt
status_is 0 "a named family without scores" run old.facet --family math -p x -n 4
status_is 3 "auto with damaged scores" run bad.facet -p x -n 4
grep -q 'math.*damaged.*facet verify' err.txt || fail "damaged scores: $(cat err.txt)"
status_is 4 "verify of damaged scores" "$FACET" verify bad.facet
echo "auto: fine"
