# SPDX-License-Identifier: Apache-2.0
# predict takes an interrupted run up again: killed or stopped in the middle, run again, the same
# bytes as without interruption, with less work; a partial file of no use costs a line and no more.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs

# Prompts to be continued, many times as many as are answered side by side, then enough text for
# several groups of the forward pass.
"$PYTHON" "$SOURCE/tests/support/tasks.py" code 45 > many.jsonl || fail "tasks"
"$PYTHON" -c '
import json
for i, line in enumerate(open("many.jsonl")):
    print(json.dumps({"prompt": json.loads(line)["prompt"]}))' > open.jsonl
"$PYTHON" "$SOURCE/tests/support/tasks.py" text 4000 > long.txt || fail "tasks"
arguments=(predict model.gguf --task open=open.jsonl --task long=long.txt --predictor glass
    --continue 100 --answers 2 --threads 1 --mode generic)
"$FACET" "${arguments[@]}" -o whole.masks > whole.out 2> whole.err || fail "predict"
[ ! -e whole.masks.partial ] || fail "a partial file is left behind"
grep -q partial whole.err && fail "an uninterrupted run speaks of a partial file"

# stop SIGNAL BYTES: runs until the partial file has BYTES and has grown, then signals; "done" or
# "stopped".
stop() {
    "$PYTHON" - "$1" "$2" "$FACET" "${arguments[@]}" -o part.masks -q << 'END'
import os, signal, subprocess, sys, time
sig, least = getattr(signal, sys.argv[1]), int(sys.argv[2])
size = lambda: os.path.getsize("part.masks.partial") if os.path.exists("part.masks.partial") else 0
least = max(least, size() + 1)
p = subprocess.Popen(sys.argv[3:], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
while p.poll() is None and size() < least:
    time.sleep(0.001)
p.send_signal(sig)
stderr = p.communicate(timeout=120)[1].decode()
want = -9 if sig == signal.SIGKILL else 128 + sig
if p.returncode not in (0, want):
    sys.exit(f"status {p.returncode}: {stderr[:400]}")
print("stopped" if p.returncode else "done")
END
}

n=0
for point in "SIGKILL 60" "SIGINT 2000" "SIGKILL 20000" "SIGTERM 30000" "SIGKILL 60000"; do
    rm -f part.masks
    got=$(stop $point) || fail "predict with $point"
    if [ "$got" = stopped ]; then
        n=$((n + 1))
        [ ! -e part.masks ] || fail "$point: a half-written output"
        [ -s part.masks.partial ] || fail "$point: no partial file"
    fi
done
[ $n -ge 3 ] || fail "only $n runs were interrupted"
rm -f part.masks
"$FACET" "${arguments[@]}" -o part.masks > part.out 2> part.err || fail "predict after interrupts"
cmp part.masks whole.masks || fail "taken up again: other bytes"
[ ! -e part.masks.partial ] || fail "the partial file is left behind"

# What a killed run left is really used, and only by the same command.
for _ in 1 2 3 4 5; do # a busy machine may send the signal too late
    rm -f part.masks
    got=$(stop SIGKILL 6000) || fail "predict to be killed"
    [ "$got" = stopped ] && break
done
[ "$got" = stopped ] || fail "predict was done too soon, five times"
cp part.masks.partial kept
"$FACET" "${arguments[@]}" -o part.masks > part.out 2> part.err || fail "predict again"
grep -q 'part.masks.partial: taken up again' part.err || fail "not taken up: $(cat part.err)"
cmp part.masks whole.masks || fail "taken up again: other bytes"
rm part.masks
cp kept part.masks.partial
"$FACET" "${arguments[@]}" --limit 20 -o part.masks > part.out 2> part.err ||
    fail "predict of something else"
grep -q 'part.masks.partial: is of another command' part.err || fail "foreign: $(cat part.err)"
"$FACET" "${arguments[@]}" --limit 20 -o less.masks -q > less.out || fail "predict --limit"
cmp part.masks less.masks || fail "a foreign partial file changes the output"
rm part.masks
"$PYTHON" -c '
data = bytearray(open("kept", "rb").read())
data[3000] ^= 16
open("part.masks.partial", "wb").write(data)'
"$FACET" "${arguments[@]}" -o part.masks > part.out 2> part.err || fail "predict with damage"
grep -q 'part.masks.partial: .*damaged at byte' part.err || fail "damage: $(cat part.err)"
cmp part.masks whole.masks || fail "a damaged partial file changes the output"

# A failing run leaves none.
printf '{"prompt": 1}\n' > bad.jsonl
status_is 3 "a bad task file" "$FACET" predict model.gguf --task bad=bad.jsonl -o bad.masks
nothing_left bad.masks
echo "predict: taken up again after $n interrupts"
