#!/bin/sh
# Everything of the C client and of adamctl: builds them by themselves, then runs their tests and the
# conformance cases. ADAMD_BINARY names the server. 77: the toolchain is missing.
set -eu
cd "$(dirname "$0")/../.."
for tool in cmake cc pkg-config; do
	command -v $tool >/dev/null 2>&1 || {
		echo "$tool is missing"
		exit 77
	}
done
pkg-config --exists 'libcurl >= 7.85' 'libcjson >= 1.7.15' || {
	echo "libcurl 7.85 or libcjson 1.7.15 is missing"
	exit 77
}
server=$(realpath "$ADAMD_BINARY")
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
cmake -S clients/c -B "$build" -DCMAKE_BUILD_TYPE=Release -DADAMD_BINARY="$server" >"$build/log"
cmake --build "$build" --parallel 2 >"$build/log" || {
	cat "$build/log"
	exit 1
}
ctest --test-dir "$build" --output-on-failure --parallel 2
