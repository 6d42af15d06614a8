# SPDX-License-Identifier: Apache-2.0
# What tests/quality scores with: the extraction of answers, and the sandbox that runs programs.
if ! /usr/bin/python3 -c 'import ctypes' 2> /dev/null; then
    echo "skip: no /usr/bin/python3 with its standard library"
    exit 77
fi
exec /usr/bin/python3 -B "$FACET_SOURCE/tests/tools/task_scores.py"
