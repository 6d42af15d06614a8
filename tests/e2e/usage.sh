# SPDX-License-Identifier: Apache-2.0
# Wrong usage and bad input: one line, the right status, the same as one JSON document, nothing
# written.
. "$FACET_SOURCE/tests/e2e/lib.bash"
make_inputs
printf '{"prompt": "a"}\n{"prompt": 3}\n' > number.jsonl
printf '{"prompt": "a"}\nno json\n' > nojson.jsonl
printf '{"text": "a"}\n' > nofield.jsonl
printf '{"messages": [{"role": "robot", "content": "a"}]}\n' > role.jsonl
printf '{"prompt": "\xff\xfe"}\n' > latin.jsonl
printf '{"prompt": "a\\u0000b"}\n' > zero.jsonl
printf '\n \n' > blank.jsonl
: > empty.jsonl
: > empty.txt
: > empty.gguf
head -c 5000 model.gguf > cut.gguf
head -c 100000 /dev/zero > zeros.gguf
printf 'GGUF\003\000\000\000\377\377\377\377\377\377\377\177\001' > lying.gguf
mkdir nothing.d
"$FACET" predict model.gguf --task code=code.jsonl --task math=math.jsonl --limit 6 \
    --continue 0 -q -o good.masks > quiet.out ||
    fail "predict"
"$FACET" cluster good.masks -q -o good.families > quiet.out || fail "cluster"
"$PYTHON" "$SOURCE/tests/support/gen_model.py" --type F32 --layers 2 --f 96 -o other.gguf ||
    fail "gen_model"
head -c 2000 good.masks > cut.masks
"$PYTHON" - <<'END' || fail "damaged masks"
import json, struct
raw = open("good.masks", "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
head = json.loads(raw[8:8 + n])
begin, end = head["scores"]["data_offsets"]
body = bytearray(raw[8 + n:])
body[begin:begin + 4] = struct.pack("<f", float("nan")) if head["scores"]["dtype"] == "F32" else \
    b"\x00\x7e\x00\x7e"
open("nan.masks", "wb").write(raw[:8 + n] + bytes(body))
END
"$FACET" build model.gguf --task code=code.jsonl --task math=math.jsonl --mode generic --no-proof \
    --compensate none -q -o good.facet > /dev/null || fail "build"
ls -a | sort > before.ls

checks=0
# wrong STATUS ARGUMENTS...
wrong() {
    local want=$1
    shift
    status_is "$want" "facet $*" "$FACET" "$1" -q "${@:2}"
    [ "$(wc -l < err.txt)" -eq 1 ] || fail "facet $*: not one line: $(cat err.txt)"
    grep -q '^facet: .*[:;] ' err.txt || fail "facet $*: not WHAT: WHY; REMEDY: $(cat err.txt)"
    [ -s out.txt ] && fail "facet $*: wrote to standard output"
    status_is "$want" "facet $* --json" "$FACET" "$1" --json "${@:2}"
    check_json "facet $* --json" \
        "d['error']['status'] == $want and bool(d['error']['message'] and d['error']['code'])" \
            < out.txt
    checks=$((checks + 1))
}

status_is 2 "facet" "$FACET"
for name in tune train serve export report frobnicate; do wrong 2 $name; done
for name in inspect tokenize predict cluster plan compile build run eval bench verify cache; do
    wrong 2 $name
    wrong 2 $name --frobnicate
    status_is 0 "facet $name --help" "$FACET" $name --help
    for word in usage: options: example:; do
        grep -q "$word" out.txt || fail "facet $name --help: no $word"
    done
    cp out.txt help.txt
    status_is 0 "facet help $name" "$FACET" help $name
    cmp -s out.txt help.txt || fail "facet help $name and facet $name --help differ"
done
status_is 0 "facet --version" "$FACET" --version
status_is 0 "facet help" "$FACET" help
rm -f help.txt

# ---- options -------------------------------------------------------------------------------------
T="--task code=code.jsonl"
for keep in 0 2 -1 1.01 nan inf x ""; do
    wrong 2 predict model.gguf $T -o new.masks --keep "$keep"
    wrong 2 build model.gguf $T -o new.facet --keep "$keep"
    wrong 2 compile model.gguf good.families -o new.facet --keep "$keep"
done
wrong 2 predict model.gguf -o new.masks
wrong 2 predict model.gguf $T
wrong 2 predict model.gguf $T -o new.masks --predictor magic
wrong 2 predict model.gguf $T -o new.masks --predictor trained.ifp
wrong 2 predict model.gguf --task dense=code.jsonl -o new.masks
wrong 2 predict model.gguf --task =code.jsonl -o new.masks
wrong 2 predict model.gguf --task "a b=code.jsonl" -o new.masks
wrong 2 predict model.gguf $T -o new.masks --continue -3
wrong 2 predict model.gguf $T -o new.masks --ctx 1.5
wrong 2 predict model.gguf $T -o
wrong 2 predict model.gguf extra $T -o new.masks
wrong 2 cluster good.masks
wrong 2 cluster good.masks -o new.families --families none
wrong 2 cluster good.masks -o new.families --families 0
wrong 2 compile model.gguf good.families -o new.facet --budget sideways
wrong 2 compile model.gguf good.families -o new.facet --refit-target worst
wrong 2 compile model.gguf good.families -o new.facet --select some
wrong 2 compile model.gguf good.families -o new.facet --quant q8
wrong 2 compile model.gguf good.families -o new.facet --quant q4
wrong 2 compile model.gguf good.families -o new.facet --quant q3
wrong 2 compile model.gguf good.families -o new.facet --compensate more
wrong 2 compile model.gguf good.families -o new.facet --target sm_90a
wrong 2 compile model.gguf good.families -o new.facet --target compute_80
wrong 2 compile model.gguf good.families -o new.facet --target pentium
wrong 2 compile model.gguf good.families -o new.facet --target native,,native
for quality in 1 0.9 0 -1 nan inf x ""; do
    wrong 2 compile model.gguf good.families -o new.facet --quality "$quality"
done
for agree in 0 1.01 -1 nan inf x ""; do
    wrong 2 compile model.gguf good.families -o new.facet --agree "$agree"
    wrong 2 plan model.gguf good.families --agree "$agree"
done
for score in x x= "x= " =true :x=true a/b=true .x=true code:=true "$(printf 'x=\377')"; do
    wrong 2 compile model.gguf good.families -o new.facet --score "$score"
done
wrong 2 build model.gguf $T -o new.facet --score x=true --score x=false
wrong 2 build model.gguf $T -o new.facet --score x=true --score code:x=false
wrong 2 build model.gguf $T -o new.facet --score x=true --source new.sources
wrong 2 build model.gguf $T -o new.facet --score-least x=0.9
for least in x x= =1 x=0 x=-1 x=nan x=1001 y=1; do
    wrong 2 compile model.gguf good.families -o new.facet --score x=true --score-least "$least"
done
wrong 2 compile model.gguf good.families -o new.facet --score x=true --score-least x=1 \
    --score-least x=2
wrong 2 plan model.gguf $T --score x=true
wrong 2 compile model.gguf good.families -o new.facet --quality 1.1 --no-proof
wrong 2 compile model.gguf good.families -o new.facet --agree 0.9 --no-proof
wrong 2 build model.gguf $T -o new.facet --agree 0.9 --source new.sources
wrong 2 build model.gguf $T -o new.facet --quality 1.1 --source new.sources
wrong 2 plan model.gguf
wrong 2 plan model.gguf good.masks $T
wrong 2 plan model.gguf good.masks extra
wrong 2 plan model.gguf good.families --families label
wrong 2 plan model.gguf $T --keep 0.5
wrong 2 plan model.gguf $T -o new.plan
wrong 2 plan model.gguf $T --predictor magic
for keeps in 0 1.1 nan x "" 0.5, 0.5,,1 0.5:1 0.5,0; do
    wrong 2 plan model.gguf $T --keeps "$keeps"
done
for families in 0 none "" 1, 1,,label label,x; do
    wrong 2 plan model.gguf $T --families "$families"
done
wrong 2 run good.facet
wrong 2 run good.facet -p a -f b
wrong 2 run good.facet -p a --temp -1
wrong 2 run good.facet -p a --top-p 1.5
wrong 2 run good.facet -p a --ctx 100000
wrong 2 run good.facet -p a --prefill both
wrong 2 run good.facet -p a --device cuda
wrong 2 run good.facet -p a --device cuda:1
wrong 2 run good.facet -p a --device abacus
wrong 2 run good.facet -p a --mode fast
wrong 2 run good.facet -p a --threads 0
wrong 2 run good.facet -p a --json=yes
wrong 2 eval good.facet
wrong 2 eval good.facet --ppl text.txt --complete code.jsonl
wrong 2 eval good.facet --complete code.jsonl
wrong 2 eval good.facet --ppl text.txt --family auto
wrong 2 eval good.facet --agree
wrong 2 eval good.facet --agree code.jsonl --ppl text.txt
wrong 2 eval good.facet --agree code.jsonl --complete code.jsonl -o new.jsonl
wrong 2 eval good.facet --agree code.jsonl --family auto
wrong 2 eval good.facet --agree code.jsonl -o new.jsonl
wrong 2 eval good.facet --agree code.jsonl --stop x
wrong 2 eval good.facet --agree code.jsonl -n 0
wrong 2 eval good.facet --agree code.jsonl --limit 0
wrong 2 eval good.facet --agree code.jsonl --ctx 100000
wrong 2 eval good.facet --complete code.jsonl -o new.jsonl --ctx 100000
for batch in 0 65 x -1 ""; do
    wrong 2 eval good.facet --complete code.jsonl -o new.jsonl --batch "$batch"
    wrong 2 eval good.facet --agree code.jsonl --batch "$batch"
    wrong 2 bench good.facet --batch "$batch"
done
wrong 2 bench good.facet --ablate
wrong 2 bench good.facet --format xml
wrong 2 bench good.facet -p 0 -n 0
wrong 2 bench good.facet -p 100000
wrong 2 cache
wrong 2 cache frobnicate
wrong 2 cache explain one
wrong 2 cache explain one two
wrong 2 cache trim --limit much
wrong 2 tokenize model.gguf
wrong 2 tokenize model.gguf code.jsonl --text a
FACET_ISA=pentium wrong 2 run good.facet -p a

# ---- inputs --------------------------------------------------------------------------------------
for path in missing.gguf empty.gguf cut.gguf zeros.gguf lying.gguf nothing.d text.txt empty.txt \
    cut.masks; do
    wrong 3 inspect $path
    wrong 3 run $path -p a
    wrong 3 predict $path $T -o new.masks
    wrong 3 tokenize $path --text a
done
wrong 3 inspect nan.masks
wrong 3 cluster nan.masks -o new.families
wrong 3 cluster missing.masks -o new.families
wrong 3 cluster cut.masks -o new.families
wrong 3 cluster good.families -o new.families
wrong 3 cluster good.masks -o new.families --families 1000
wrong 3 compile model.gguf good.masks -o new.facet
wrong 3 compile model.gguf missing.families -o new.facet
wrong 3 compile missing.gguf good.families -o new.facet
wrong 3 compile other.gguf good.families -o new.facet
wrong 3 compile model.gguf good.families -o new.facet --score nobody:x=true
wrong 3 compile model.gguf good.families -o new.facet --score dense:x=true
wrong 3 plan missing.gguf $T
wrong 3 plan other.gguf good.families
for input in missing.families text.txt good.facet nan.masks cut.masks; do
    wrong 3 plan model.gguf $input
done
wrong 3 plan model.gguf good.masks --families 1,1000 --keeps 1 --mode generic
for task in missing.jsonl number.jsonl nojson.jsonl nofield.jsonl role.jsonl latin.jsonl \
    zero.jsonl blank.jsonl \
    empty.jsonl empty.txt model.gguf; do
    wrong 3 predict model.gguf --task a=$task -o new.masks
    wrong 3 build model.gguf $T --task a=$task -o new.facet
done
status_is 3 "a bad record" "$FACET" predict model.gguf --task a=number.jsonl -o new.masks --json
check_json "a bad record" "d['error']['file'] == 'number.jsonl' and d['error']['offset'] == 2" \
    < out.txt
wrong 3 eval good.facet --complete number.jsonl -o new.jsonl
wrong 3 eval good.facet --complete text.txt -o new.jsonl
wrong 3 eval good.facet --complete code.jsonl -o new.jsonl --ctx 4
for task in missing.jsonl number.jsonl nojson.jsonl empty.jsonl text.txt; do
    wrong 3 eval good.facet --agree $task
done
wrong 3 eval good.facet --agree code.jsonl --ctx 4
wrong 3 eval good.facet --agree code.jsonl --family nobody
wrong 3 eval missing.facet --agree code.jsonl
wrong 3 eval good.facet --ppl empty.txt
wrong 3 eval good.facet --ppl missing.txt
for family in nobody DENSE "" ../x; do
    wrong 3 run good.facet -p a --family "$family"
    wrong 3 eval good.facet --ppl text.txt --family "$family"
    wrong 3 bench good.facet --family "$family"
done
wrong 3 run good.facet -f missing.txt
wrong 3 run good.facet --raw --family dense -p "$(head -c 3000 text.txt)" --ctx 8
wrong 3 verify model.gguf
wrong 3 verify nothing.d
wrong 3 tokenize good.masks --text a
wrong 3 tokenize model.gguf --text "1 2 x" --decode
wrong 3 tokenize model.gguf --text "999999" --decode
wrong 3 predict model.gguf $T -o missing.d/new.masks

# ---- refusals ------------------------------------------------------------------------------------
wrong 4 predict model.gguf $T -o good.masks
wrong 4 cluster good.masks -o good.families
wrong 4 build model.gguf $T -o good.facet
wrong 4 eval good.facet --complete code.jsonl -o good.masks
wrong 4 run model.gguf -p a --mode strict
ls -a | grep -v -e '^out.txt$' -e '^err.txt$' | grep -v '^cache$' | sort > after.ls
grep -v -e '^before.ls$' -e '^after.ls$' -e '^out.txt$' -e '^err.txt$' before.ls > a.ls
grep -v -e '^before.ls$' -e '^after.ls$' after.ls > b.ls
cmp -s a.ls b.ls || fail "files came or went: $(diff a.ls b.ls)"
echo "$checks refusals: fine"
