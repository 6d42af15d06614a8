#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The published choices of channels that families are compared with, against numpy.
set -eu
tool=$FACET_BUILD/test_griffin
if ! /usr/bin/python3 -c 'import numpy' 2>/dev/null; then
    echo "skipped: /usr/bin/python3 has no numpy (package python3-numpy)"
    exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
/usr/bin/python3 -B "$FACET_SOURCE/tests/oracle/griffin_check.py" "$tool" "$scratch"
