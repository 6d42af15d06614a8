#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A row's logits are the same bits however many tokens share the prefill and however many sequences
# share the step: baked and portable code, every type of weights, dense and a family.
. "$FACET_SOURCE/tests/e2e/lib.bash"
[ -e "$FACET_BUILD/libfacet.so" ] || { echo "skip: libfacet was not built"; exit 77; }
if grep -q '^FACET_SANITIZE:STRING=..*' "$FACET_BUILD/CMakeCache.txt"; then
    echo "skip: python cannot load a sanitized libfacet"
    exit 77
fi
make_inputs
# Enough matrices for every type of the mix, with rows of 256 columns for the K-quants.
"$PYTHON" "$SOURCE/tests/support/gen_model.py" --type mix --d 256 --f 512 --layers 4 \
    -o mix.gguf || fail "gen_model"
"$PYTHON" "$SOURCE/tests/support/gen_model.py" --arch qwen2 --type F32 --d 72 --f 172 --layers 2 \
    -o odd.gguf || fail "gen_model"
targets=native
grep -qw avx2 /proc/cpuinfo && targets=native,x86-64-v3
for model in mix odd; do
    "$FACET" build $model.gguf --task code=code.jsonl --limit 4 --no-proof --compensate none \
        --target $targets -o $model.facet -q > quiet.out || fail "build of $model"
    "$PYTHON" -B "$SOURCE/tests/oracle/rows.py" "$FACET_BUILD/libfacet.so" $model.facet ||
        fail "rows of $model"
done
