#!/bin/sh
# test.sh: all tests of the Go client. ADAMD_BINARY names the server; without it, what needs one is
# left out. Exit status 77: there is no Go.
set -eu

case ${ADAMD_BINARY:-} in
'' | /*) ;;
*) ADAMD_BINARY=$PWD/$ADAMD_BINARY ;;
esac
cd "$(dirname "$0")"

if ! command -v go >/dev/null 2>&1; then
	echo 'go is missing: install Go 1.19 or later (golang-go)' >&2
	exit 77
fi
# Nothing is fetched: the standard library is all there is.
export GOPROXY=off GOTOOLCHAIN=local GOFLAGS=-buildvcs=false

unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	echo "not as gofmt has it: $unformatted" >&2
	exit 1
fi
go vet ./...
race=''
if [ "$(go env CGO_ENABLED)" = 1 ] && command -v cc >/dev/null 2>&1; then
	race=-race
fi
ADAMD_BINARY=${ADAMD_BINARY:-} go test -count=1 $race ./...

stage=../conformance/stage.py
if [ -n "${ADAMD_BINARY:-}" ] && [ -f $stage ]; then
	directory=$(mktemp -d)
	trap 'rm -rf "$directory"' EXIT
	go build -o "$directory/driver" ./internal/driver
	ADAMD_BINARY=$ADAMD_BINARY "${PYTHON:-python3}" -B $stage "$directory/driver"
fi
