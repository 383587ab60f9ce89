#!/bin/sh
# install_test.sh CMAKE BUILD SERVER: installs the client to a directory of its own, and builds and runs
# a small program against what is there: by pkg-config and by find_package.
set -eu
cmake=$1
build=$2
server=$3
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
pid=''
trap '[ -z "$pid" ] || kill "$pid"; rm -rf "$work"' EXIT
"$cmake" --install "$build" --prefix "$work/moved" --component client >"$work/log"
mv "$work/moved" "$work/prefix" # nothing in it may name where it was
library=$(dirname "$(find "$work/prefix" -name adamd_client.pc)")/..

true >"$work/listening"
"$server" --port 0 --log-level error >"$work/listening" &
pid=$!
url=''
tries=0
while [ -z "$url" ] && [ $tries -lt 100 ]; do
	sleep 0.1
	url=$(sed -n 's/.* listening on //p' "$work/listening")
	tries=$((tries + 1))
done
cp "$here/example.c.in" "$work/example.c"
awk '/^```/ { blocks++; next } blocks == 1 && !/^#include/' "$here/../README.md" |
	sed 's|"http://127.0.0.1:2326"|url|; s|"mlp"|name|' >"$work/example.inc"
grep -q adamd_step "$work/example.inc"

export PKG_CONFIG_PATH="$library/pkgconfig"
# shellcheck disable=SC2046 # flags
${CC:-cc} "$work/example.c" -o "$work/by-pkg-config" $(pkg-config --cflags --libs adamd_client)
LD_LIBRARY_PATH=$library "$work/by-pkg-config" "$url" by-pkg-config
# shellcheck disable=SC2046 # flags
${CC:-cc} "$work/example.c" -o "$work/static" $(pkg-config --cflags adamd_client) \
	"$library/libadamd_client.a" $(pkg-config --libs libcurl) -pthread
"$work/static" "$url" static

mkdir "$work/project"
cat >"$work/project/CMakeLists.txt" <<'TXT'
cmake_minimum_required(VERSION 3.22)
project(example LANGUAGES C)
find_package(adamd_client 0.1 REQUIRED)
add_executable(shared ../example.c)
target_link_libraries(shared PRIVATE adamd::client)
add_executable(static ../example.c)
target_link_libraries(static PRIVATE adamd::client_static)
TXT
"$cmake" -S "$work/project" -B "$work/project/build" -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/log"
"$cmake" --build "$work/project/build" >"$work/log" || {
	cat "$work/log"
	exit 1
}
"$work/project/build/shared" "$url" by-find-package
"$work/project/build/static" "$url" by-find-package-static

# What is seen from outside is what the headers name.
if nm -D --defined-only "$library/libadamd_client.so" | grep adamdc_; then
	echo "the client's own functions are seen from outside" >&2
	exit 1
fi
readelf -d "$library/libadamd_client.so" | grep -q 'SONAME.*libadamd_client.so.0'
