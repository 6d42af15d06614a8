#!/usr/bin/env bash
# Installs what facet needs to build, test and run the demo on Debian: system packages only.
# Quick and silent when nothing is missing. Usage: scripts/setup.sh
set -euo pipefail

packages=(gcc clang cmake ninja-build pkg-config libcjson-dev libxxhash-dev libpcre2-dev
    libopenblas-dev liblapacke-dev libdnnl-dev libcmocka-dev libclang-rt-14-dev clang-format-14
    python3 python3-pip python3-numpy ca-certificates jq mandoc)

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
    [ "$state" = "install ok installed" ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

sudo=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "setup: not root and no sudo: install by hand: ${missing[*]}" >&2
        exit 5
    }
    sudo=(sudo)
fi
echo "setup: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
