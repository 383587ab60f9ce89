"""What the crash tests share: a server that is killed and started again, and HTTP spoken to it
plainly, so that nothing is repeated behind a test's back."""

import array
import http.client
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

BINARY = os.environ.get("ADAMD_BINARY")
LONG = os.environ.get("ADAMD_CRASH_LONG") == "1"
SEED = int(os.environ.get("ADAMD_CRASH_SEED", "1"))
SAFETENSORS = "application/vnd.safetensors"


class NoStart(Exception):
    """The server ended before it listened; with its status and what it said."""

    def __init__(self, status, said):
        super().__init__(f"the server ended with status {status}: {said}")
        self.status, self.said = status, said


class Server:
    """adamd on a data directory. `env` adds to the environment; its log is in `log`."""

    def __init__(self, data_dir, *options, env=None, limit=60):
        self.data_dir = data_dir
        self._log = tempfile.TemporaryFile()
        arguments = [BINARY, "--port", "0", "--threads", "2", *options]
        if data_dir is not None:
            arguments += ["--data-dir", data_dir]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=self._log,
                                        env={**os.environ, **(env or {})})
        line = self.process.stdout.readline().decode()
        if " listening on http://" not in line:
            status = self.process.wait(limit)
            said = self.log()
            self._close()
            raise NoStart(status, said)
        self.port = int(line.rpartition(":")[2])

    def log(self):
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def _close(self):
        self.process.stdout.close()
        self._log.close()

    def kill(self, number=signal.SIGKILL):
        """Its status; the log is gone with it."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(60)
        self._close()
        return status

    def stop(self):
        return self.kill(signal.SIGTERM)


def inspect(data_dir, *options, env=None):
    """--check or --replay; status, standard output and standard error."""
    done = subprocess.run([BINARY, "--data-dir", data_dir, *options], capture_output=True,
                          env={**os.environ, **(env or {})}, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace")


def digests(data_dir, env=None):
    """What --check finds: name: (step, digest)."""
    status, out, err = inspect(data_dir, "--check", env=env)
    if status != 0:
        raise AssertionError(f"--check ended with status {status}: {out}{err}")
    return lines_of(out)


def lines_of(out):
    found = {}
    for line in out.splitlines():
        words = line.split()
        if len(words) > 3 and words[1] == "step":
            found[words[0]] = (int(words[2]), words[-1])
    return found


# What the server did not answer: it was killed, or it ended itself.
GONE = (ConnectionError, http.client.HTTPException, OSError)


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        self.replayed = headers.get("Idempotent-Replayed") == "true"

    @property
    def json(self):
        return json.loads(self.body) if self.body else None

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


class Client:
    """One connection, which is opened when it is needed."""

    def __init__(self, port, timeout=60):
        self.port, self.timeout, self._connection = port, timeout, None

    def ask(self, method, path, body=None, content_type="application/json", headers=None):
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port,
                                                          timeout=self.timeout)
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        all_headers = dict(headers or {})
        if body is not None:
            all_headers["Content-Type"] = content_type
        try:
            self._connection.request(method, path, body, all_headers)
            answer = self._connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        except GONE:
            self.close()
            raise

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def pack(tensors, metadata=None):
    """A safetensors body of float32 arrays."""
    header, at = {}, 0
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, values in tensors.items():
        size = len(values) * 4
        header[name] = {"dtype": "F32", "shape": [len(values)], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(v.tobytes() for v in tensors.values())


def floats(random, n):
    """n numbers; of many, most are repeated."""
    some = array.array("f", (random.uniform(-1, 1) for _ in range(min(n, 509))))
    return (some * (n // len(some) + 1))[:n]


@unittest.skipUnless(BINARY, "ADAMD_BINARY does not name the server")
class CrashCase(unittest.TestCase):
    """A directory below one on a real disk, which is removed."""

    def setUp(self):
        self.base = tempfile.mkdtemp(prefix="adamd-crash-")
        if os.environ.get("ADAMD_CRASH_KEEP") != "1":
            self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        self.dir = os.path.join(self.base, "data")
        self._servers = []
        self.addCleanup(self._kill_all)

    def _kill_all(self):
        for server in self._servers:
            if server.process.poll() is None:
                server.process.kill()
                server.process.wait()

    def start(self, *options, data_dir=None, env=None):
        server = Server(data_dir or self.dir, *options, env=env)
        self._servers.append(server)
        return server

    def mirror(self):
        """A server that keeps everything in memory."""
        server = Server(None)
        self._servers.append(server)
        return server


def wait_until(done, seconds, what):
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come within {seconds} s")
        time.sleep(0.05)


def progress(text):
    if LONG:
        print(text, file=sys.stderr, flush=True)
