"""The adamd process of a comparison, and JSON spoken to it without the client's help."""

import json
import math
import signal
import subprocess
from urllib.parse import quote

import numpy as np

import wire


SAFETENSORS = "application/vnd.safetensors"


class Server:
    """adamd on a free port. Its log goes to standard error."""

    def __init__(self, binary):
        self._process = subprocess.Popen([binary, "--port", "0", "--log-level", "warn"],
                                         stdout=subprocess.PIPE, text=True)
        line = self._process.stdout.readline()
        if " listening on http://" not in line:
            self.stop()
            raise SystemExit(f"{binary} said {line.strip()!r}, expected '... listening on http://...'")
        self.url = line.split()[-1]

    def stop(self):
        """SIGTERM; the exit status, after half a minute at most."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(30)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()


class Refused(Exception):
    """A problem document came back."""

    def __init__(self, status, problem):
        super().__init__(f"{status} {problem.get('detail')}")
        self.status = status
        self.code = problem.get("type", "").rpartition(":")[2]


def to_json(array, short):
    """Nested lists. `short`: a float32 as the shortest digits that mean it, else as all of them."""
    if short and array.dtype == np.float32:
        digits = [float(str(x)) for x in array.reshape(-1)]
        array = np.array(digits, np.float64).reshape(array.shape)
    return array.tolist() if np.isfinite(array).all() else in_words(array.tolist())


def in_words(nested):
    """Nested lists with the protocol's words for what JSON has no numbers for."""
    if isinstance(nested, list):
        return [in_words(item) for item in nested]
    if math.isfinite(nested):
        return nested
    return "NaN" if math.isnan(nested) else "Infinity" if nested > 0 else "-Infinity"


def from_json(nested, dtype, shape):
    """Numbers, and the protocol's words for what JSON has none for; each rounded once, from its text."""
    flat = []

    def walk(value):
        if isinstance(value, list):
            for item in value:
                walk(item)
        else:
            flat.append(float(value))  # float() also reads "NaN" and "-Infinity"

    walk(nested)
    assert len(flat) == math.prod(shape), f"{len(flat)} numbers, expected shape {shape}"
    with np.errstate(over="ignore"):
        return np.array(flat, np.float64).astype(dtype).reshape(shape)


class Peer:
    """Requests about one optimizer, written here and not by the client."""

    def __init__(self, pool, url, name):
        self._pool = pool
        self._base = f"{url}/v1/optimizers/{quote(name, safe='')}"

    def request(self, method, rest="", value=None, **headers):
        headers = {"Accept": "application/json", **headers}
        body = None
        if value is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(value, allow_nan=False).encode()
        data = self._send(method, rest, body, headers)
        return json.loads(data) if data else None

    def tensors(self, rest, body):
        """POST of a safetensors body; what comes back, as wire.decode gives it."""
        headers = {"Accept": SAFETENSORS, "Content-Type": SAFETENSORS}
        return wire.decode(self._send("POST", rest, body, headers))

    def _send(self, method, rest, body, headers):
        reply = self._pool.request(method, self._base + rest, body=body, headers=headers)
        if reply.status >= 400:
            raise Refused(reply.status, json.loads(reply.data))
        return reply.data
