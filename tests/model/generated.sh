#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Generated models of every architecture, type and format open, and every value is numpy's.
set -eu
dir=$(cd "$(dirname "$0")" && pwd)
. "$FACET_SOURCE/tests/support/numpy.bash"
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
"$PYTHON" "$dir/generated.py" "$temp"
FACET_GENERATED="$temp" "$FACET_BUILD/test_generated"
