#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# AdamW against numpy: adam.py writes starts, gradients and results, test_adam runs the same steps.
set -eu
dir=$(cd "$(dirname "$0")" && pwd)
if ! /usr/bin/python3 -c 'import numpy' 2>/dev/null; then
    echo "skipped: needs python3-numpy"
    exit 77
fi
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
/usr/bin/python3 "$dir/adam.py" "$temp/table"
FACET_ADAM_TABLE="$temp/table" "$FACET_BUILD/test_adam"
