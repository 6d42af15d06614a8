#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Generated models of every architecture, type and format open, and every value is numpy's.
set -eu
dir=$(cd "$(dirname "$0")" && pwd)
if ! /usr/bin/python3 -c 'import numpy' 2>/dev/null; then
    echo "skipped: needs python3-numpy"
    exit 77
fi
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
/usr/bin/python3 "$dir/generated.py" "$temp"
FACET_GENERATED="$temp" "$FACET_BUILD/test_generated"
