# SPDX-License-Identifier: Apache-2.0
# Missing HOME, unusable default cache, unusable explicit cache, foreign permissions, full disk: a
# correct result or a clear refusal.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs
export TMPDIR=$WORK/tmp
mkdir tmp
ask="run model.gguf -p x -n 4 --json"
"$FACET" $ask | json "d['tokens']" > want.out || fail "run"

# same_answer "WHAT" [VAR=VALUE...]: the default cache is unusable; one warning, the same tokens.
same_answer() {
    local what=$1
    shift
    env -u FACET_CACHE "$@" "$FACET" $ask > got.json 2> err.txt || fail "$what: $(cat err.txt)"
    json "d['tokens']" < got.json > got.out
    cmp -s want.out got.out || fail "$what: another answer"
    [ -z "$(ls -A tmp)" ] || fail "$what: left $(ls -A tmp) behind"
}
touch file
same_answer "no HOME" -u HOME
grep -c warning err.txt | grep -qx 1 || fail "no HOME: not one warning: $(cat err.txt)"
same_answer "HOME is a file" HOME="$WORK/file"
same_answer "HOME is missing" HOME="$WORK/nowhere/at/all" XDG_CACHE_HOME=relative
mkdir -p open/facet
chmod 777 open/facet
same_answer "a cache that all may write" XDG_CACHE_HOME="$WORK/open"

for place in "$WORK/file" /proc/nowhere "$WORK/open/facet"; do
    FACET_CACHE=$place status_is 5 "FACET_CACHE=$place" "$FACET" run model.gguf -p x
    status_is 5 "--cache $place" "$FACET" run model.gguf -p x --cache "$place"
    [ "$(wc -l < err.txt)" -eq 1 ] || fail "--cache $place: $(cat err.txt)"
done

CC=no-such-compiler status_is 5 "no compiler" "$FACET" run model.gguf -p x --cache "$WORK/none"
CC=/bin/false status_is 5 "a compiler that fails" "$FACET" run model.gguf -p x --cache "$WORK/none"
# What is told of a failed compiler's words is the line that names the fault.
for words in "x.c: In function f:|x.c:3: error: y is not declared|3 | y;" \
    "ld: warning: nothing|ld: cannot find -ly|collect2: error: ld returned 1 exit status" \
    "ld: cannot find -ly|clang: error: linker command failed with exit code 1"; do
    printf '#!/bin/sh\n[ "$1" = --version ] && echo fake 1 && exit\necho "%s" | tr "|" "\\n" >&2\nexit 1\n' \
        "$words" > fake-cc
    chmod +x fake-cc
    CC=$WORK/fake-cc "$FACET" run model.gguf -p x -n 1 --cache "$WORK/none" > out.txt 2> err.txt
    [ $? -ne 0 ] || fail "$words: accepted"
    grep -q -e 'x.c:3: error: y is not' -e ': ld: cannot find -ly' err.txt ||
        fail "$words: $(cat err.txt)"
done
# No compiler is needed for what the cache has, or for portable kernels.
FACET_ISA=generic "$FACET" $ask > got.json 2> /dev/null || fail "FACET_ISA=generic"

build_bundle demo.facet --no-proof > /dev/null || fail "build"
chmod o+w demo.facet
status_is 5 "a bundle that all may write" "$FACET" run demo.facet --family dense -p x
chmod o-w demo.facet

if [ -e /dev/full ]; then
    "$FACET" inspect model.gguf > /dev/full 2> err.txt
    [ $? -eq 5 ] || fail "standard output is full"
fi
mkdir small
if mount -t tmpfs -o size=64k none small 2> /dev/null; then
    trap 'umount "$WORK/small"; rm -rf "$WORK"' EXIT
    "$FACET" predict model.gguf --task code=code.jsonl --task math=math.jsonl -o demo.masks -q \
        > quiet.out || fail "predict"
    "$FACET" cluster demo.masks -o demo.families -q > quiet.out || fail "cluster"
    # full WORDS...: one line that says so, and nothing on the disk.
    full() {
        status_is 5 "a full disk: $1" "$FACET" "$@" -q
        grep -q '^facet: .*[Nn]o space left' err.txt || fail "a full disk: $1: $(cat err.txt)"
        [ "$(wc -l < err.txt)" -eq 1 ] || fail "a full disk: $1: not one line: $(cat err.txt)"
        [ -z "$(ls -A small)" ] || fail "a full disk: $1: left $(ls -A small)"
    }
    full build model.gguf --task code=code.jsonl --task math=math.jsonl -o small/demo.facet
    full predict model.gguf --task code=code.jsonl --task math=math.jsonl -o small/demo.masks
    mount -o remount,size=8k small || fail "remount"
    full cluster demo.masks -o small/demo.families
    # A bundle that breaks off in the middle: in the weights, a family, a kernel, the proof.
    n=0
    for size in 64 192 $(seq 288 16 2048); do
        mount -o remount,size=${size}k small || fail "remount"
        "$FACET" compile model.gguf demo.families -o small/demo.facet -q > out.txt 2> err.txt &&
            break
        full compile model.gguf demo.families -o small/demo.facet
        n=$((n + 1))
    done
    [ -d small/demo.facet ] && [ $n -gt 6 ] || fail "a full disk: $n sizes failed"
    "$FACET" verify small/demo.facet -q > quiet.out || fail "a full disk: verify"
    rm -rf small/demo.facet
    mount -o remount,size=64k small || fail "remount"
    mkdir -m 700 small/cache
    FACET_CACHE=$WORK/small/cache "$FACET" $ask > got.json 2> err.txt ||
        fail "a full cache: $(cat err.txt)"
    json "d['tokens']" < got.json > got.out
    cmp -s want.out got.out || fail "a full cache: another answer"
else
    echo "a full disk was not tried: mounting is not permitted"
fi
echo "places: fine"
