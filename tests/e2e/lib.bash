# SPDX-License-Identifier: Apache-2.0
# Shared by the end-to-end scripts: a scratch directory, a tiny model, two tasks, assertions.
# Sourced; needs FACET_BIN and FACET_SOURCE.
set -u
FACET=${FACET_BIN:?} SOURCE=${FACET_SOURCE:?}
if [ ! -x "$FACET" ]; then
    echo "skip: the facet command is not built"
    exit 77
fi
. "$SOURCE/tests/support/numpy.bash"
WORK=$(mktemp -d "${TMPDIR:-/tmp}/facet-e2e.XXXXXX") || exit 1
trap 'rm -rf "$WORK"' EXIT
cd "$WORK" || exit 1
export FACET_CACHE=$WORK/cache HOME=$WORK/home
mkdir -p "$HOME"
unset FACET_ISA XDG_CACHE_HOME

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Of these inputs: code.families
make_code_families() {
    "$FACET" predict model.gguf --task code=code.jsonl -q -o code.masks > quiet.out || fail "predict"
    "$FACET" cluster code.masks -q -o code.families > quiet.out || fail "cluster"
}

# A tiny model and two tasks of 30 samples: model.gguf code.jsonl math.jsonl text.txt
make_inputs() {
    "$PYTHON" "$SOURCE/tests/support/gen_model.py" --type mix -o model.gguf || fail "gen_model"
    "$PYTHON" "$SOURCE/tests/support/tasks.py" code 30 > code.jsonl || fail "tasks"
    "$PYTHON" "$SOURCE/tests/support/tasks.py" math 30 > math.jsonl || fail "tasks"
    "$PYTHON" "$SOURCE/tests/support/tasks.py" text 400 > text.txt || fail "tasks"
}

# build_bundle OUT [options]: the bundle that most scripts start from.
build_bundle() {
    local out=$1
    shift
    "$FACET" build model.gguf --task code=code.jsonl --task math=math.jsonl -o "$out" -q "$@"
}

# json EXPRESSION < DOCUMENT: evaluates a Python expression over the one document `d`.
json() {
    "$PYTHON" -c '
import json, sys
d = json.loads(sys.stdin.read())
print(eval(sys.argv[1]))' "$1"
}

# check_json "WHAT" EXPRESSION < DOCUMENT: the expression must be true.
check_json() {
    local got
    got=$(json "$2") || fail "$1: not one JSON document, or without the field: $2"
    [ "$got" = True ] || fail "$1: $2"
}

# has_fields "WHAT" EXPRESSION FIELD... < DOCUMENT: the object (or every object of the list) that
# the
# expression yields has these fields, and there is at least one.
has_fields() {
    local what=$1 expression=$2
    shift 2
    "$PYTHON" -c '
import json, sys
d = json.loads(sys.stdin.read())
found = eval(sys.argv[1])
found = found if isinstance(found, list) else [found]
for item in found:
    missing = set(sys.argv[2:]) - set(item)
    if missing:
        sys.exit("missing: " + " ".join(sorted(missing)))
sys.exit(not found)' "$expression" "$@" || fail "$what: fields of $expression"
}

# status_is WANT "WHAT" COMMAND...: the exit status; the output goes to out.txt and err.txt.
status_is() {
    local want=$1 what=$2 got
    shift 2
    "$@" > out.txt 2> err.txt
    got=$?
    [ "$got" -eq "$want" ] || fail "$what: status $got instead of $want: $(head -c 400 err.txt)"
}

# Nothing of a failed command may remain: files of a name, or hidden temporary siblings.
nothing_left() {
    local left
    left=$(find . -path ./cache -prune -o \( -name "$1*" -o -name ".*.??????" \
        -o -name "*.tmp*" \) -print)
    [ -z "$left" ] || fail "left behind: $left"
}
