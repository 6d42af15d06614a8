#!/usr/bin/env bash
# The main job on a real model, from nothing: installs, builds, fetches SmolLM2-135M-Instruct, compiles
# four task families at keep 50 % and shows an answer of each and what they cost and gain.
# Usage: scripts/demo.sh [--model FILE.gguf] [--keep R] [--out DIR.facet]
set -euo pipefail
cd "$(dirname "$0")/.."
model="" keep=0.5 out=""
while [ $# -gt 0 ]; do
    case $1 in
    --model) model=${2:?--model wants a file}; shift 2 ;;
    --keep) keep=${2:?--keep wants a ratio}; shift 2 ;;
    --out) out=${2:?--out wants a name}; shift 2 ;;
    *) echo "usage: scripts/demo.sh [--model FILE.gguf] [--keep R] [--out DIR.facet]" >&2; exit 2 ;;
    esac
done

scripts/setup.sh
cmake --preset release -G Ninja -B build >/dev/null
cmake --build build -j "$(nproc)" --target facet | tail -1
facet=build/facet

tasks=(code math german json)
words=64
if [ -z "$model" ] && ! model=$(scripts/fetch-model.sh); then
    echo "demo: no network: a tiny random model stands in; its answers mean nothing" >&2
    model=build/tiny.gguf
    words=16
    /usr/bin/python3 tests/support/gen_model.py --format gguf --arch llama --type Q8_0 --seed 1 -o "$model"
fi
out=${out:-build/demo.facet}

arguments=()
for task in "${tasks[@]}"; do arguments+=(--task "$task=demo/tasks/$task.jsonl"); done
echo "== facet build $(basename "$model"): ${tasks[*]}, keep $keep"
"$facet" build "$model" "${arguments[@]}" --keep "$keep" --continue "$words" -o "$out" --force
echo
for task in "${tasks[@]}"; do
    prompt=$(sed -n 3p "demo/tasks/$task.jsonl" | jq -r .prompt)
    echo "== $task: $prompt"
    for family in "$task" dense; do
        echo "-- $family"
        "$facet" run "$out" --family "$family" -p "$prompt" -n "$words" -q
        echo
    done
done
echo "== what it cost and gained (held-out answers of the dense model; decoding 64 tokens)"
"$facet" inspect "$out" --json >build/demo.json
"$facet" bench "$out" --family all -p 64 -n 64 -r 3 --json -q >build/demo-bench.json
/usr/bin/python3 scripts/demo-table.py build/demo.json build/demo-bench.json
