# SPDX-License-Identifier: Apache-2.0
# Bad input of calibration: little text, a single line, dead channels, weights that are no numbers.
# One line says so; a bundle is whole or not there. Full disks: places.sh. Singular moments, which no
# model we know leads to: tests/compiler/test_compensate.c.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs
export PYTHONPATH=$SOURCE/tests/support
tasks="--task code=code.jsonl --task math=math.jsonl"
build="build model.gguf --mode generic --raw"

# warns "WHAT" PATTERN: once.
warns() {
    [ "$(grep -c "^facet: warning: $2" err.txt)" -eq 1 ] || fail "$1: $(cat err.txt)"
}

# ---- little text ---------------------------------------------------------------------------------
"$FACET" $build $tasks --calibration-tokens 64 -o few.facet > out.txt 2> err.txt ||
    fail "few tokens: $(cat err.txt)"
for family in code math; do
    warns "few tokens" "$family: 42 calibration tokens are few for a refit of 86 .*stronger ridge"
done
"$FACET" verify few.facet -q > quiet.out || fail "few tokens: verify"
"$FACET" $build $tasks --calibration-tokens 64 --compensate bias -o bias.facet > out.txt \
    2> err.txt || fail "few tokens for a bias"
[ -s err.txt ] && fail "few tokens for a bias: $(cat err.txt)"

# ---- one line ------------------------------------------------------------------------------------
printf 'One line, and no more.\n' > line.txt
head -1 code.jsonl > line.jsonl
for line in line.txt line.jsonl; do
    for compensate in refit bias none tune; do
        what="$line, $compensate"
        "$FACET" $build --task one=$line --compensate $compensate -o one.facet --force --json \
            > one.json 2> err.txt || fail "$what: $(cat err.txt)"
        warns "$what" "family one: no text of it is held out, .*; give more documents$"
        check_json "$what" "d['proof']['families'][0]['held_samples'] == 0 and \
            'perplexity' not in d['proof']['families'][0]" < one.json
        "$FACET" run one.facet --family one -p x -n 4 --mode generic -q > quiet.out ||
            fail "$what: run"
    done
done
"$FACET" $build --task one=line.txt --refit-target best --select best -o one.facet --force --json \
    > one.json 2> err.txt || fail "choices by one line: $(cat err.txt)"
check_json "choices by one line" "len(d['proof']['families'][0]['rehearsed']) == 4" < one.json
printf 'x' > short.txt
status_is 3 "one token" "$FACET" $build --task one=short.txt -o short.facet -q
grep -q '^facet: short.txt: has fewer than two tokens; ' err.txt || fail "short: $(cat err.txt)"
nothing_left short.facet

# ---- weights -------------------------------------------------------------------------------------
vectors="blk.1.attn_norm.weight blk.1.ffn_norm.weight output_norm.weight"
"$PYTHON" - $vectors <<'END' || fail "models"
import struct, sys
from gguf_file import read_gguf
raw = open("model.gguf", "rb").read()
tensors = read_gguf("model.gguf")[1]
def write(name, tensor, data):
    at = raw.find(tensors[tensor][2])
    assert at > 0
    open(name + ".gguf", "wb").write(raw[:at] + data + raw[at + len(data):])
for tensor in sys.argv[1:]:
    write(tensor, tensor, struct.pack("<f", float("nan")))
write("huge", "blk.1.ffn_norm.weight", struct.pack("<f", 1e38))
write("dead", "blk.1.ffn_norm.weight", bytes(len(tensors["blk.1.ffn_norm.weight"][2])))
END
"$FACET" predict model.gguf $tasks -q -o demo.masks > quiet.out || fail "predict"
"$FACET" cluster demo.masks -q -o demo.families > quiet.out || fail "cluster"
# refused STATUS LINE COMMAND...: with that line alone, and nothing left.
refused() {
    status_is "$1" "$3 of $4" "$FACET" "${@:3}" -q
    grep -q "^facet: $2; .*" err.txt || fail "$3 of $4: $(cat err.txt)"
    [ "$(wc -l < err.txt)" -eq 1 ] || fail "$3 of $4: not one line: $(cat err.txt)"
    nothing_left bad
}
damaged="so weights are damaged or the text drives them out of range"
for compensate in refit none; do
    refused 1 "calibration, layer 1: activations are not finite, $damaged" compile huge.gguf \
        demo.families --mode generic --compensate $compensate -o bad.facet
done
statistic="huge.gguf: layer 1: channel 0 has no finite statistic, $damaged"
refused 3 "$statistic" predict huge.gguf $tasks --continue 0 -o bad.masks
refused 3 "$statistic" build huge.gguf $tasks --mode generic --continue 0 -o bad.facet
for tensor in $vectors; do
    unreadable="$tensor.gguf: tensor $tensor: value 0 is not finite"
    refused 3 "$unreadable" predict $tensor.gguf $tasks -o bad.masks
    refused 3 "$unreadable" compile $tensor.gguf demo.families --mode generic -o bad.facet
    refused 3 "$unreadable" run $tensor.gguf --mode generic -p one
done
# Channels that are never active leave nothing to solve, which is no fault.
"$FACET" compile dead.gguf demo.families --mode generic -o dead.facet --json > dead.json \
    2> err.txt || fail "dead channels: $(cat err.txt)"
check_json "dead channels" "all(f['perplexity']['family'] > 1 for f in d['proof']['families'])" \
    < dead.json
echo "bad calibration: said, nothing left"
