# SPDX-License-Identifier: Apache-2.0
# SIGINT and SIGTERM at many moments: the status is 128 + signal (or the work was done already) and
# nothing half-written stays, neither beside the output nor in the cache.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs

# interrupt SIGNAL SECONDS OUTPUT COMMAND...
interrupt() {
    "$PYTHON" - "$@" <<'END'
import signal, subprocess, sys, time
sig, delay, out = getattr(signal, sys.argv[1]), float(sys.argv[2]), sys.argv[3]
p = subprocess.Popen(sys.argv[4:], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
time.sleep(delay)
p.send_signal(sig)
stdout, stderr = p.communicate(timeout=120)
# Before main begins the signal simply ends the process.
early = delay < 0.1 and p.returncode == -sig
if p.returncode not in (0, 128 + sig) and not early:
    sys.exit(f"status {p.returncode} after {sys.argv[1]} at {delay} s: {stderr.decode()[:400]}")
print("done" if p.returncode == 0 else "interrupted")
END
}

n=0
for delay in 0.02 0.05 0.1 0.3 0.7 1.5 3; do
    signal=SIGINT
    [ $((n % 2)) -eq 1 ] && signal=SIGTERM
    rm -rf cache
    got=$(interrupt $signal $delay demo.facet "$FACET" build model.gguf --task code=code.jsonl \
        --task math=math.jsonl -o demo.facet -q) || fail "build"
    if [ "$got" = interrupted ]; then
        nothing_left demo.facet
        n=$((n + 1))
    fi
    rm -rf demo.facet
    left=$(find cache -path '*/tmp/*' 2> /dev/null)
    [ -z "$left" ] || fail "left in the cache: $left"
done
[ $n -ge 2 ] || fail "only $n builds were interrupted"

# The cache works on after all that.
build_bundle demo.facet > /dev/null || fail "build after interrupts"
"$FACET" cache verify --json | check_json "cache verify" "d['bad'] == 0"
for delay in 0.02 0.1 0.4; do
    got=$(interrupt SIGINT $delay new.jsonl "$FACET" eval demo.facet --family code \
        --complete code.jsonl \
        -o new.jsonl -n 400 -q --mode generic) || fail "eval"
    [ "$got" = interrupted ] && nothing_left new.jsonl
    rm -f new.jsonl
    interrupt SIGTERM $delay none "$FACET" run demo.facet --family dense -p x -n 480 -q \
        > /dev/null || fail "run"
    interrupt SIGTERM $delay none "$FACET" bench demo.facet -q > /dev/null || fail "bench"
done
echo "interrupted $n builds: nothing left"
