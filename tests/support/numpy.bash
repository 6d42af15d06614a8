# SPDX-License-Identifier: Apache-2.0
# Sourced by script tests: $PYTHON, which has numpy, or the test is skipped.
PYTHON=/usr/bin/python3
if ! "$PYTHON" -c 'import numpy' 2>/dev/null; then
    echo "skipped: $PYTHON has no numpy (package python3-numpy)"
    exit 77
fi
