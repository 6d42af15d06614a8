#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The published choices of channels that families are compared with, against numpy.
set -eu
tool=$FACET_BUILD/test_griffin
. "$FACET_SOURCE/tests/support/numpy.bash"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$PYTHON" -B "$FACET_SOURCE/tests/oracle/griffin_check.py" "$tool" "$scratch"
