# SPDX-License-Identifier: Apache-2.0
# Agreement with dense in the proof: where answers begin, what is compared, --agree.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs
export PYTHONPATH=$SOURCE/tests/support
"$PYTHON" "$SOURCE/tests/support/gen_model.py" --type F32 -o float.gguf || fail "gen_model"
"$PYTHON" - <<'END' || fail "task files"
import json
records = [json.loads(line) for line in open("code.jsonl")]
def write(name, records):
    open(name, "w").write("".join(json.dumps(r) + "\n" for r in records))
open_ = [{"prompt": r["prompt"]} for r in records]
turns = [{"messages": [{"role": "user", "content": r["prompt"]},
                       {"role": "assistant", "content": r["completion"]}]} for r in records]
write("open.jsonl", open_)
write("held.jsonl", open_[4::5])  # what cluster holds out
write("mixed.jsonl", [kind[i] for i in range(5) for kind in (open_, turns, records)])
END

# ---- where answers begin -------------------------------------------------------------------------
tasks="--task mixed=mixed.jsonl --task text=text.txt"
"$FACET" predict float.gguf $tasks --continue 8 -q -o mixed.masks > quiet.out || fail "predict"
"$FACET" cluster mixed.masks -q -o mixed.families > quiet.out || fail "cluster"
"$FACET" predict float.gguf $tasks --continue 0 -q -o bare.masks > quiet.out || fail "predict"
"$FACET" predict float.gguf $tasks --continue 8 --ctx 20 -q -o short.masks > quiet.out ||
    fail "predict of short prompts"
"$PYTHON" - "$FACET" <<'END' || fail "where answers begin"
import json, subprocess, sys
from samples_file import load
def prompt_tokens(text):
    out = subprocess.run([sys.argv[1], "run", "float.gguf", "-n", "0", "--json", "-p", text],
                         capture_output=True, check=True).stdout
    return json.loads(out)["prompt_tokens"]
prompts = [json.loads(line)["prompt"] for line in open("code.jsonl")][:5]
want = [prompt_tokens(p) for p in prompts for _ in range(3)]
def check(path, ctx, n_continue):
    t = load(path)[1]
    answers, lengths = t["answers"], t["lengths"]
    for i, n in enumerate(want):
        assert answers[i] == min(n, ctx), (path, i)
        if i % 3 == 0:
            assert lengths[i] == answers[i] + n_continue or n_continue == 8 and lengths[i] > answers[i]
        elif n < ctx:
            assert lengths[i] > answers[i]
        else:
            assert lengths[i] == answers[i]
    assert len(answers) > len(want) and (answers == lengths)[len(want):].all()  # a document has none
check("mixed.masks", 256, 8)
check("bare.masks", 256, 0)
assert max(want) > 20
check("short.masks", 20, 8)
assert (load("mixed.masks")[1]["answers"] == load("mixed.families")[1]["answers"]).all()
END

# ---- the proof and eval --agree ------------------------------------------------------------------
task="--task code=open.jsonl --continue 16"
proof="d['proof']['families'][0]"
"$FACET" build float.gguf $task --keep 1 -o whole.facet --json > whole.json || fail "build"
check_json "everything" "($proof['answers'], $proof['dense_answers']) == (6, 6)" < whole.json
check_json "everything" "$proof['agree_positions'] == 1 == $proof['agree_answers']" < whole.json
for keep in 0.25 0.9; do
    "$FACET" build float.gguf $task --keep $keep --compensate none -o part.facet --force --json \
        > part.json || fail "build with keep $keep"
    "$FACET" eval part.facet --agree held.jsonl -n 16 --family code --json > eval.json ||
        fail "eval --agree"
    "$PYTHON" - <<'END' || fail "the proof and eval differ: $(cat part.json eval.json)"
import json
proof = json.load(open("part.json"))["proof"]["families"][0]
row, = json.load(open("eval.json"))["agreement"]
assert proof["answers"] == proof["dense_answers"] == row["prompts"] == 6
assert proof["answer_positions"] == row["positions"]
assert abs(proof["agree_positions"] - row["positions_equal_share"]) < 1e-5
assert abs(proof["agree_answers"] - row["answers_equal_share"]) < 1e-5
assert row["positions_equal"] < row["positions"]
END
done
"$FACET" inspect part.facet > text.out || fail "inspect"
grep -q '^  family .* agree_positions  agree_answers$' text.out || fail "inspect: no columns"
"$FACET" inspect part.facet --json | check_json "inspect" "$proof['agree_positions'] < 1"
"$FACET" build float.gguf $task --keep 0.5 --no-proof --mode generic -o plain.facet --json \
    > plain.json || fail "build without proof"
check_json "no proof" "$proof['answers'] == 0 and $proof['agree_positions'] is None" < plain.json

# ---- answers that are not dense's, or end early, or are nobody's ---------------------------------
"$FACET" predict float.gguf $task -q -o code.masks > quiet.out || fail "predict"
"$FACET" cluster code.masks -q -o code.families > quiet.out || fail "cluster"
end=$("$FACET" tokenize float.gguf --special --text '<|im_end|>' --json | json "d['ids'][-1]") ||
    fail "tokenize"
"$PYTHON" - "$end" <<'END' || fail "families of another program"
import sys
from samples_file import load, save
meta, t = load("code.families")
ends, tokens = t["lengths"].cumsum(), t["tokens"]
def write(name, tokens):
    save(name + ".families", meta, {**t, "tokens": tokens})
other = tokens.copy()
other[ends - 1] = other[ends - 1] % 50 + 1  # which nobody reads
write("other", other)
early = tokens.copy()
early[ends - 4] = int(sys.argv[1])
write("early", early)
answers = t.pop("answers")
write("none", tokens)
asked = [i < answer for answer, n in zip(answers, t["lengths"]) for i in range(n)]
t["lengths"] = answers
write("asked", tokens[asked])
END
compile() { # NAME
    "$FACET" compile float.gguf $1.families -o $1.facet --keep 0.25 --compensate none --json \
        > $1.json || fail "compile of $1"
}
for name in code other early none asked; do compile $name; done
"$PYTHON" - <<'END' || fail "other answers"
import json
code, other, early, none = (json.load(open(name + ".json"))["proof"]["families"][0]
                            for name in ("code", "other", "early", "none"))
assert code["agree_positions"] < 1 and code["dense_answers"] == 6
assert (other["answers"], other["dense_answers"]) == (6, 0) and other["agree_answers"] is None
assert other["answer_positions"] == code["answer_positions"] == 96
assert other["agree_positions"] == code["agree_positions"]
assert early["answer_positions"] == code["answer_positions"] - 6 * 3
assert none["answers"] == none["answer_positions"] == none["dense_answers"] == 0
assert none["agree_positions"] is none["agree_answers"] is None
END
# Perplexity is of the answers, where there are some; of all of the text otherwise.
"$PYTHON" - <<'END' || fail "perplexity: $(cat code.json none.json asked.json)"
import json, math
from samples_file import load
t = load("code.families")[1]
held = t["held"] == 1
answers, lengths = t["answers"][held], t["lengths"][held]
scored = {"code": lengths - answers, "none": lengths - 1, "asked": answers - 1}
for whose in ("dense", "family"):
    nats = {}
    for name, n in scored.items():
        proof = json.load(open(name + ".json"))["proof"]["families"][0]
        assert proof["held_tokens"] == sum(answers if name == "asked" else lengths) < 1024
        nats[name] = math.log(proof["perplexity"][whose]) * sum(n)
    assert abs(nats["code"] + nats["asked"] - nats["none"]) < 1e-4 * nats["none"], (whose, nats)
    assert abs(nats["code"] / nats["none"] - 1) > 0.01
END

# ---- --agree -------------------------------------------------------------------------------------
part="compile float.gguf code.families --mode generic --compensate none"
status_is 4 "too bad" "$FACET" $part --keep 0.25 --agree 0.999999 -o few.facet --json
check_json "too bad" "d['error']['code'] == 'quality'" < out.txt
grep -q "^facet: family code: at keep 0.25 it agrees .*--agree asks for 0.999999; .*--force" \
    err.txt || fail "too bad: $(cat err.txt)"
[ "$(wc -l < err.txt)" -eq 1 ] || fail "too bad: not one line"
nothing_left few.facet
"$FACET" $part --keep 0.25 --agree 0.999999 -o few.facet --force > out.txt 2> err.txt ||
    fail "too bad, by force"
grep -q '^facet: warning: family code: .*--agree' err.txt || fail "by force: $(cat err.txt)"
"$FACET" $part --keep 1 --agree 1 -o all.facet --json > all.json || fail "all of them agree"
check_json "all of them agree" "d['quality'] == {'tried': [], 'agree': 1, 'keep': 1}" < all.json

# The smallest keep that agrees and is good enough, as plan tells.
keeps="[.25, .33, .5, .66, .75, .9]"
"$FACET" plan float.gguf code.families --mode generic --json --compensate none --agree 0.7 \
    --quality 1.5 --keeps 0.25,0.33,0.5,0.66,0.75,0.9 > plan.json || fail "plan"
check_json "plan" "all(r['enough'] == (r['agree_positions'] >= 0.7 and \
    r['ppl_over_dense'] <= 1.5) and r['agree_answers'] <= r['agree_positions'] \
    for r in d['rows'])" < plan.json
least="min(r['agree_positions'] for r in d['rows'])"
most="max(r['agree_positions'] for r in d['rows'])"
check_json "plan" "$least < $most" < plan.json
limit=$(json "round(($least + $most) / 2, 4)" < plan.json)
for quality in 1.001 1000; do
    want=$(json "[r['keep'] for r in d['rows'] if r['agree_positions'] >= $limit \
        and r['ppl_over_dense'] <= $quality]" < plan.json)
    status_is $([ "$want" = "[]" ] && echo 4 || echo 0) "the smallest keep" "$FACET" $part \
        --agree $limit --quality $quality -o small$quality.facet --json
    [ "$want" = "[]" ] || check_json "the smallest keep" \
        "d['quality']['keep'] == $want[0] and d['quality']['agree'] == $limit" < out.txt
done
[ "$want" != "[]" ] || fail "no keep of $limit"

# Text has no answers, so nothing can be judged.
text="build float.gguf --task text=text.txt --task code=open.jsonl --keep 0.5 --mode generic"
status_is 4 "no answers" "$FACET" $text --agree 0.1 -o text.facet -q
grep -q '^facet: family text: no answer .*--agree' err.txt || fail "no answers: $(cat err.txt)"
nothing_left text.facet
"$FACET" $text --agree 0.1 -o text.facet --force --json > text.json 2> err.txt ||
    fail "no answers, by force"
grep -q '^facet: warning: family text: no answer' err.txt || fail "by force: $(cat err.txt)"
check_json "no answers" "[f['agree_positions'] is None for f in d['proof']['families']] \
    == [True, False]" < text.json
"$FACET" plan float.gguf --task text=text.txt --keeps 1 --mode generic --agree 0.1 --json \
    2> err.txt | check_json "plan of text" \
    "[(r['agree_positions'], r['agree_answers'], r['enough']) for r in d['rows']] \
    == [(None, None, False)]"
echo "agreement in the proof: as eval, judged"
