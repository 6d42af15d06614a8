#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The committed golden values are what numpy computes from the formats.
set -eu
dir=$(cd "$(dirname "$0")" && pwd)
. "$FACET_SOURCE/tests/support/numpy.bash"
"$PYTHON" "$dir/dequantize.py" | diff - "$dir/dequantize.txt"
echo "golden values agree"
