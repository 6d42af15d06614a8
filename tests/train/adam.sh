#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# AdamW against numpy: adam.py writes starts, gradients and results, test_adam runs the same steps.
set -eu
dir=$(cd "$(dirname "$0")" && pwd)
. "$FACET_SOURCE/tests/support/numpy.bash"
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
"$PYTHON" "$dir/adam.py" "$temp/table"
FACET_ADAM_TABLE="$temp/table" "$FACET_BUILD/test_adam"
