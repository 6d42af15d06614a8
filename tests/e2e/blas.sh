# SPDX-License-Identifier: Apache-2.0
# OpenBLAS's kernels are the user's to choose; the proof names them, and the family is worth the same.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs
make_code_families
compiled() { # OUT [NAME=VALUE]
    env "${@:2}" "$FACET" compile model.gguf code.families -o "$1.facet" --precision f32 --json \
        > "$1.json" || fail "compile of $1"
}
compiled own
check_json "kernels" "len(d['proof']['blas']) > 0" < own.json
[ "$(uname -m)" = x86_64 ] || exit 0
compiled given OPENBLAS_CORETYPE=Nehalem
check_json "the user's kernels" "d['proof']['blas'] == 'Nehalem'" < given.json
ppl="d['proof']['families'][0]['perplexity']['family']"
own=$(json "$ppl" < own.json)
check_json "kernels are worth the same" "abs($ppl / $own - 1) < 0.02" < given.json
