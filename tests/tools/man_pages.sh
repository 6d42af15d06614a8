# SPDX-License-Identifier: Apache-2.0
# Every command has a man page, every option of --help stands in it (options of every command in
# facet.1), and mandoc finds no fault with any page where it is installed.
set -u
man=$FACET_SOURCE/docs/man
bad=0
if [ ! -x "$FACET_BIN" ]; then
    echo "skip: the facet command is not built"
    exit 77
fi
complain() {
    echo "$*"
    bad=1
}
# In mdoc a dash of an option is what .Fl stands for: "--keep" is ".Fl -keep".
has_option() {
    grep -qE -- "Fl ${2#-}( |\$)" "$1" || complain "$(basename "$1"): no option $2"
}
commands=$("$FACET_BIN" help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ "$(echo "$commands" | wc -l)" -ge 11 ] || complain "facet help lists too few commands"
for command in $commands; do
    page=$man/facet-$command.1
    if [ ! -f "$page" ]; then
        complain "no man page of facet $command"
        continue
    fi
    grep -q "facet-$command" "$man/facet.1" || complain "facet.1 does not name facet $command"
    for option in $("$FACET_BIN" help "$command" | sed -n '/^options:/,/^options of every/p' |
        grep -oE '^  -[a-z-]+(, -[a-z-]+)?' | tr -d ','); do
        has_option "$page" "$option"
    done
done
for option in $("$FACET_BIN" help run | sed -n '/^options of every/,/^example/p' |
    grep -oE '^  -[a-z-]+(, -[a-z-]+)?' | tr -d ','); do
    has_option "$man/facet.1" "$option"
done
if command -v mandoc > /dev/null; then
    mandoc -Tlint -Wwarning "$man"/*.1 || complain "mandoc finds faults"
fi
exit $bad
