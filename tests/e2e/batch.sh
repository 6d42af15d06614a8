# SPDX-License-Identifier: Apache-2.0
# Prompts answered side by side: the same bytes for any --batch, the answers of single runs, for
# answers that end by stop text, by their length and by a full context; likewise --agree and the
# continuations of predict.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs
"$FACET" build model.gguf --task code=code.jsonl --limit 8 --continue 0 --no-proof \
    --compensate none -o demo.facet -q > quiet.out || fail "build"
complete() { # BATCH OPTIONS...
    rm -f "$1.jsonl"
    "$FACET" eval demo.facet --complete code.jsonl -o "$1.jsonl" --batch "$1" --json "${@:2}" \
        > "$1.json" || fail "eval --complete --batch $*"
}
same() { # WHAT OPTIONS...
    complete 1 "${@:2}"
    for batch in 5 64; do
        complete $batch "${@:2}"
        cmp 1.jsonl $batch.jsonl || fail "$1: --batch $batch: other bytes"
        [ "$(json 'd["generated_tokens"]' < 1.json)" = \
            "$(json 'd["generated_tokens"]' < $batch.json)" ] || fail "$1: other counts"
    done
}

# ---- eval --complete -----------------------------------------------------------------------------
same "by length" -n 9
"$PYTHON" - "$FACET" <<'END' || fail "single runs"
import json, subprocess, sys
prompts = [json.loads(line)["prompt"] for line in open("code.jsonl")]
made = [json.loads(line) for line in open("5.jsonl")]
assert [r["prompt"] for r in made] == prompts, "another order"
for record in made[:4] + made[-4:]:
    run = subprocess.run([sys.argv[1], "run", "demo.facet", "--family", "dense", "-n", "9", "--json",
                          "-p", record["prompt"]], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["text"] == record["completion"], record
END
# Letters that stand in some answers, at different places.
same "by stop texts, all families" -n 24 --family all --stop e --stop 1
"$PYTHON" -c '
import json
texts = [json.loads(line)["completion"] for line in open("5.jsonl")]
assert len(texts) == 60 and len({len(t) for t in texts}) > 3
assert not any("e" in t or "1" in t for t in texts)' || fail "stop texts"
same "by context" -n 400 --ctx 128 --family code --limit 7
[ "$(wc -l < 5.jsonl)" -eq 7 ] || fail "--limit: not 7 records"

# ---- eval --agree, predict -----------------------------------------------------------------------
for batch in 1 7; do
    "$FACET" eval demo.facet --agree code.jsonl -n 12 --batch $batch --json > agree.json ||
        fail "eval --agree --batch $batch"
    json '[d["dense"]["tokens"], d["dense"]["ended"]] +
        [(r["positions"], r["positions_equal"], r["answers_equal"]) for r in d["agreement"]]' \
        < agree.json > agree.$batch
done
cmp agree.1 agree.7 || fail "eval --agree: other figures"
sed 's/, "completion.*/}/' code.jsonl > open.jsonl
"$FACET" predict model.gguf --task open.jsonl --continue 10 -o open.masks -q > quiet.out ||
    fail "predict"
PYTHONPATH=$SOURCE/tests/support "$PYTHON" -B - "$FACET" <<'END' || fail "continuations"
import json, subprocess, sys
from samples_file import load

tensors = load("open.masks")[1]
prompts = [json.loads(line)["prompt"] for line in open("open.jsonl")]
ends = tensors["lengths"].cumsum()
for i in (0, 1, 2, 15, 16, len(prompts) - 1):
    end = ends[i]
    answer = tensors["tokens"][end - tensors["lengths"][i] + tensors["answers"][i]:end].tolist()
    run = subprocess.run([sys.argv[1], "run", "model.gguf", "-n", "10", "--json", "-p", prompts[i]],
                         capture_output=True, text=True, check=True)
    made = json.loads(run.stdout)
    # The token that ends a turn belongs to a continuation, but not to an answer.
    ended = made["stop"] == "end"
    assert answer[:len(answer) - ended] == made["tokens"], (i, answer, made["tokens"])
END

# ---- several answers to a prompt -----------------------------------------------------------------
drawn() { # NAME OPTIONS...
    "$FACET" predict model.gguf --task open.jsonl --limit 6 --continue 10 --answers 3 \
        -o $1.masks -q "${@:2}" > quiet.out || fail "predict --answers, $1"
}
drawn first
drawn again --threads 1
drawn other --seed 1
drawn cold --temperature 0.001
PYTHONPATH=$SOURCE/tests/support "$PYTHON" -B - <<'END' || fail "several answers"
from samples_file import load

def answers(name):
    t = load(name + ".masks")[1]
    ends = t["lengths"].cumsum()
    return t, [t["tokens"][end - n + a:end].tolist()
               for end, n, a in zip(ends, t["lengths"], t["answers"])]

t, first = answers("first")
assert t["documents"].tolist() == [i // 3 for i in range(18)]
assert first[0::3] == answers("open")[1][:6]  # greedy
assert len({tuple(a) for a in first}) > 12
assert answers("again")[1] == first
other = answers("other")[1]
assert other[0::3] == first[0::3] and other != first
cold = answers("cold")[1]
assert cold == [a for a in first[0::3] for _ in range(3)]
END
"$FACET" predict model.gguf --task open.jsonl --temperature 0 -o no.masks 2> no.err &&
    fail "a temperature of 0 was taken"
echo "side by side: fine"
