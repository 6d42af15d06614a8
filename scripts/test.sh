#!/usr/bin/env bash
# Installs what is needed, builds, runs every test, all but those on the real model also under ASAN + UBSAN.
# Usage: scripts/test.sh [--model FILE.gguf] [--quick]     (--quick: release build only)
# Without --model the small real model is fetched; without a network the tests that want it skip.
set -euo pipefail
cd "$(dirname "$0")/.."
model="" quick=0
while [ $# -gt 0 ]; do
    case $1 in
    --model) model=${2:?--model wants a file}; shift 2 ;;
    --quick) quick=1; shift ;;
    *) echo "usage: scripts/test.sh [--model FILE.gguf] [--quick]" >&2; exit 2 ;;
    esac
done

scripts/setup.sh
jobs=$(nproc)
if [ -z "$model" ]; then
    model=$(scripts/fetch-model.sh) || echo "test: no network: tests on the real model will skip" >&2
fi
if [ -n "$model" ]; then
    FACET_MODELS=$(cd "$(dirname "$model")" && pwd)
    export FACET_MODELS
fi
# Nothing of a test goes to the user's own cache.
cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT
export FACET_CACHE=$cache

if [ $quick = 0 ]; then
    cmake --preset asan -G Ninja -DFACET_TESTS=ON >/dev/null
    cmake --build --preset asan -j "$jobs"
    env -u FACET_MODELS ctest --no-tests=error --test-dir build-asan -j "$jobs" --output-on-failure
fi
cmake --preset release -G Ninja -DFACET_TESTS=ON >/dev/null
cmake --build --preset release -j "$jobs"
ctest --no-tests=error --test-dir build -j "$jobs" --output-on-failure
