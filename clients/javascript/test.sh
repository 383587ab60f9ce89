#!/bin/sh
# All tests of the JavaScript client. ADAMD_BINARY names the server; without it, what needs it is
# skipped. Exit status 77: there is no Node of version 18 or later.
set -eu

[ -z "${ADAMD_BINARY:-}" ] || ADAMD_BINARY=$(realpath "$ADAMD_BINARY")
export ADAMD_BINARY="${ADAMD_BINARY:-}"
cd "$(dirname "$0")"
if ! node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' 2>/dev/null; then
	echo "javascript: no node of version 18 or later" >&2
	exit 77
fi

node --test test/*.test.js

# The compiler, in the version of package-lock.json; a machine without a registry goes without.
if [ -x node_modules/.bin/tsc ] || npm ci --silent --ignore-scripts >/dev/null 2>&1; then
	node_modules/.bin/tsc -p .
else
	echo "javascript: the types were not checked: npm gives no TypeScript" >&2
fi

if [ -n "$ADAMD_BINARY" ] && [ -f ../conformance/stage.py ]; then
	python3 -B ../conformance/stage.py node test/conformance.js
fi
