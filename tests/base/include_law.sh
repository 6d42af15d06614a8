#!/usr/bin/env bash
# Who may include whom (docs/ARCHITECTURE.md). CMake's include paths enforce it already; this greps, so
# that a path added by mistake cannot undo it. Also: no room but tools/ prints, exits or reads the
# environment.
set -euo pipefail
cd "$FACET_SOURCE"
bad=0
law() { # law ROOM ALLOWED...
    local room=$1 allowed=" $* " line other
    while IFS= read -r line; do
        other=$(sed -E 's/.*#include "([a-z]+)\/.*/\1/' <<<"$line")
        case $allowed in *" $other "*) continue ;; esac
        if [ "$room" = compiler ] && grep -q '"kernels/abi.h"' <<<"$line"; then continue; fi
        echo "include law: $line"
        bad=1
    done < <(grep -nE '#include "[a-z]+/' "$room"/*.c "$room"/*.h 2>/dev/null)
}
law base
law model base
law kernels base
law cache base
law runtime base model kernels cache
law products base
law calib base model kernels runtime products
law predict base model kernels runtime calib products
law train base model kernels calib predict products
law compiler base model cache products

# process.c reads PATH as exec does; nothing else touches the environment or the terminal.
for room in base model kernels cache runtime products calib predict train compiler; do
    found=$(grep -nE '\b(printf|puts|putchar|exit|abort|getenv|setenv|system)\(|\bstderr\b|\bstdout\b' \
        "$room"/*.c "$room"/*.h 2>/dev/null | grep -vE 'base/process.c:.*getenv\("PATH"\)|^[^:]*:[0-9]+: *//' || true)
    if [ -n "$found" ]; then
        echo "a library room prints, exits or reads the environment:"
        echo "$found"
        bad=1
    fi
done

# Every room opens with a README of ten lines at most.
for room in base model kernels cache runtime products calib predict train compiler templates tools tests; do
    lines=$(wc -l <"$room/README.md")
    if [ "$lines" -gt 10 ]; then
        echo "$room/README.md has $lines lines, ten allowed"
        bad=1
    fi
done
exit $bad
