# SPDX-License-Identifier: Apache-2.0
# Calibration in float32 and from BF16 operands: the proof says which it was, both are worth the
# same, and neither depends on the number of threads.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs
"$FACET" predict model.gguf --task code=code.jsonl --continue 16 --precision f32 -q -o f32.masks \
    > quiet.out || fail "predict"
"$FACET" cluster f32.masks -q -o code.families > quiet.out || fail "cluster"
proof="d['proof']['families'][0]"
compile() { # NAME OPTIONS...
    "$FACET" compile model.gguf code.families -o $1.facet --compensate tune --tune-tokens 400 \
        --json "${@:2}" > $1.json 2> err.txt || fail "compile of $1: $(cat err.txt)"
}
compile f32 --precision f32
compile one --precision f32 --threads 1
cmp -s f32.facet/weights.bin one.facet/weights.bin || fail "f32: threads change the weights"
check_json "f32" "d['proof']['precision'] == 'f32'" < f32.json
if ! "$FACET" compile model.gguf code.families -o bf16.facet --precision bf16 --no-proof -q \
    > quiet.out 2> err.txt; then
    grep -q 'precision bf16: needs a CPU with AVX512-BF16 and oneDNN' err.txt ||
        fail "bf16: $(cat err.txt)"
    compile auto
    cmp -s f32.facet/weights.bin auto.facet/weights.bin || fail "auto is not f32"
    echo "precision: f32 alone on this machine"
    exit 0
fi
compile auto
check_json "auto" "d['proof']['precision'] == 'bf16'" < auto.json
compile two --precision bf16 --threads 2
compile three --precision bf16 --threads 3
for name in two three; do
    cmp -s auto.facet/weights.bin $name.facet/weights.bin || fail "$name: other weights than auto"
    cmp -s auto.facet/families/code.bin $name.facet/families/code.bin || fail "$name: other rows"
done
cmp -s auto.facet/families/code.bin f32.facet/families/code.bin && fail "bf16 rounds nothing"
ppl="$proof['perplexity']['family']"
f32=$(json "$ppl" < f32.json)
check_json "bf16 is worth f32" "abs($ppl / $f32 - 1) < 0.02" < auto.json
"$FACET" predict model.gguf --task code=code.jsonl --continue 16 --precision bf16 -q \
    -o bf16.masks > quiet.out || fail "predict in bf16"
"$FACET" cluster bf16.masks -q -o bf16.families > quiet.out || fail "cluster"
echo "precision: fine"
