#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# libfacet: exports facet.h and nothing else, links no compiler, is small; the header compiles alone
# in C and C++; the example builds against an installed tree with pkg-config.
set -eu
lib="$FACET_BUILD/libfacet.so"
[ -e "$lib" ] || { echo "skipped: libfacet was not built"; exit 77; }
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
fail() { echo "FAILED: $*"; exit 1; }
sanitized=$(grep -c '^FACET_SANITIZE:STRING=..*' "$FACET_BUILD/CMakeCache.txt" || true)

nm -D --defined-only "$lib" | awk '$2 != "A" && $3 !~ /^(_init|_fini)$/ {print $3}' |
    sed 's/@.*//' | LC_ALL=C sort -u > "$temp/exported"
sed -n '/^FACET_API/,/;/p' "$FACET_SOURCE/include/facet.h" | tr '\n' ' ' | tr ';' '\n' |
    sed -n 's/.*[ *]\(facet_[a-z_]*\)(.*/\1/p' | LC_ALL=C sort -u > "$temp/declared"
[ "$(wc -l < "$temp/declared")" -gt 15 ] || fail "the list of declarations was not understood"
if [ "$sanitized" = 0 ]; then
    diff "$temp/declared" "$temp/exported" || fail "exports differ from include/facet.h"
    strip -o "$temp/stripped.so" "$lib"
    bytes=$(stat -c %s "$temp/stripped.so")
    [ "$bytes" -lt 1000000 ] || fail "$bytes bytes stripped"
    echo "libfacet: $bytes bytes stripped, $(wc -l < "$temp/exported") symbols"
fi
if ldd "$lib" | grep -E 'nvrtc|clang|LLVM|tcc|gccjit|openblas|lapack'; then
    fail "links a compiler"
fi

printf '#include <facet.h>\nint main(void) { return (int)FACET_OK; }\n' > "$temp/alone.c"
cp "$temp/alone.c" "$temp/alone.cpp"
cc=${CC:-cc}
command -v "$cc" > /dev/null || { echo "skipped the rest: no C compiler"; exit 77; }
"$cc" -std=c17 -pedantic -Wall -Wextra -Werror -I"$FACET_SOURCE/include" "$temp/alone.c" \
    -o "$temp/alone"
if command -v c++ > /dev/null; then
    c++ -std=c++17 -pedantic -Wall -Wextra -Werror -I"$FACET_SOURCE/include" -c "$temp/alone.cpp" \
        -o "$temp/alone.o"
else
    echo "no C++ compiler: the header was compiled as C only"
fi

# An installed tree; skipped where not everything is built yet.
[ "$sanitized" = 0 ] || exit 0
if ! cmake --install "$FACET_BUILD" --prefix "$temp/root" > "$temp/log" 2>&1; then
    cat "$temp/log"
    [ -e "$FACET_BIN" ] && fail "cmake --install"
    echo "skipped the rest: not everything is built"
    exit 77
fi
pc=$(find "$temp/root" -name facet.pc)
[ -n "$pc" ] || fail "no facet.pc installed"
# A tree may be installed under another prefix than it was configured with.
flags="--define-variable=prefix=$temp/root"
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
# shellcheck disable=SC2046
"$cc" -std=c17 -Wall -Wextra -Werror "$FACET_SOURCE/docs/example.c" \
    $(pkg-config $flags --cflags --libs facet) -o "$temp/example"
LD_LIBRARY_PATH=$(dirname "$(dirname "$pc")")
export LD_LIBRARY_PATH
status=0
"$temp/example" /nowhere.facet dense hello 2> "$temp/words" || status=$?
[ "$status" = 3 ] || fail "the example ended with $status on a missing bundle"
grep -q nowhere "$temp/words" || fail "the example did not name the file"
lines=$(grep -cv '^//' "$FACET_SOURCE/docs/example.c")
[ "$lines" -le 45 ] || fail "the example has grown to $lines lines"
if [ -n "${FACET_TEST_BUNDLE:-}" ]; then "$temp/example" "$FACET_TEST_BUNDLE" dense "Say hello."; fi
echo ok
