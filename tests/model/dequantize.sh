#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The committed golden values are what numpy computes from the formats.
set -eu
dir=$(cd "$(dirname "$0")" && pwd)
if ! /usr/bin/python3 -c 'import numpy' 2>/dev/null; then
    echo "skipped: needs python3-numpy"
    exit 77
fi
/usr/bin/python3 "$dir/dequantize.py" | diff - "$dir/dequantize.txt"
echo "golden values agree"
