#!/bin/sh
# Everything of the Python client: its tests and the conformance cases. ADAMD_BINARY names the server.
# With a Python that has torch (PYTHON) those of adamd.torch too.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-/usr/bin/python3}
export PYTHONDONTWRITEBYTECODE=1
if ! "$python" -c 'import sys, numpy, urllib3; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
	echo "$python is missing, older than 3.9, or without numpy or urllib3"
	exit 77
fi
"$python" -m unittest discover -s clients/python/tests
"$python" clients/conformance/stage.py "$python" clients/python/tests/conformance.py
