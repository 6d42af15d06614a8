#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The float32 model of calib/ against an independent forward pass in numpy, on generated models.
set -eu
dump=$FACET_BUILD/test_stream_dump
. "$FACET_SOURCE/tests/support/numpy.bash"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$PYTHON" -B "$FACET_SOURCE/tests/oracle/forward_check.py" "$dump" "$scratch"
