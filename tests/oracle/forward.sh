#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The float32 model of calib/ against an independent forward pass in numpy, on generated models.
set -eu
dump=$FACET_BUILD/test_stream_dump
if ! /usr/bin/python3 -c 'import numpy' 2>/dev/null; then
    echo "skipped: /usr/bin/python3 has no numpy (package python3-numpy)"
    exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
/usr/bin/python3 -B "$FACET_SOURCE/tests/oracle/forward_check.py" "$dump" "$scratch"
