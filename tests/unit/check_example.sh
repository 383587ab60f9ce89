#!/bin/sh
# check_example.sh PROGRAM PAGE: the program prints the block that follows the line
# "<!-- output of example.c -->" in the page, so that the page cannot drift from the program.
set -eu

program=$1
page=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

awk '/^<!-- output of example.c -->$/ { found = 1; next }
     found && /^```/ { if (inside) exit; inside = 1; next }
     inside' "$page" >"$work/quoted"
if [ ! -s "$work/quoted" ]; then
    echo "$page does not quote the output of the example" >&2
    exit 1
fi
"$program" >"$work/printed"
diff -u "$work/quoted" "$work/printed"
