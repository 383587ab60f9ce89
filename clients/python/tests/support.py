"""What the tests share: the package's path, a real server, and one that plays back replies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import unittest
from pathlib import Path
from typing import List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np  # noqa: E402
import adamd  # noqa: E402

BINARY = os.environ.get("ADAMD_BINARY")


class Server:
    """A real adamd on a free port, from the binary that ADAMD_BINARY names."""

    def __init__(self, *arguments: str):
        assert BINARY is not None
        self.process = subprocess.Popen(
            [BINARY, "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if " listening on http://" not in line:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f"{BINARY} said {line!r}, expected '... listening on http://...'")
        self.url = line.split()[-1]

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        finally:
            self.kill()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@unittest.skipUnless(BINARY, "ADAMD_BINARY does not name the server")
class ServerCase(unittest.TestCase):
    """Tests that share one real server; it must end with status 0 on SIGTERM."""

    server: Server

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = Server()

    @classmethod
    def tearDownClass(cls) -> None:
        status = cls.server.stop()
        if status != 0:
            raise AssertionError(f"the server ended with status {status} on SIGTERM, expected 0")


class ClientCase(ServerCase):
    """With a client, and a handle on an optimizer of the test's name."""

    def setUp(self) -> None:
        self.client = adamd.Client(self.server.url, timeout=60)
        self.addCleanup(self.client.close)
        self.opt = self.client.optimizer(self.id().rsplit(".", 1)[1])

    def assertSame(self, left: dict, right: dict) -> None:
        self.assertEqual(set(left), set(right))
        for name, value in right.items():
            value = np.asarray(value)
            self.assertEqual((left[name].dtype, left[name].shape), (value.dtype, value.shape))
            self.assertEqual(left[name].tobytes(), value.tobytes(), name)


class Canned:
    """Plays back one reply for each request and keeps the requests. A reply of b"" or one in
    `closing` is followed by the connection's end."""

    def __init__(self, replies: List[bytes], closing: Optional[List[int]] = None):
        self.requests: List[bytes] = []
        self._replies = list(replies)
        self._closing = set(closing or [])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Canned":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept, which close does not
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                peer = self._listener.accept()[0]
            except OSError:
                return
            with peer, peer.makefile("rb") as file:
                while self._answer(peer, file):
                    pass

    def _answer(self, peer: socket.socket, file: object) -> bool:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = file.readline()  # type: ignore[attr-defined]
            if not line:
                return False
            head += line
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        body = file.read(length)  # type: ignore[attr-defined]
        number = len(self.requests)
        self.requests.append(head + body)
        reply = self._replies[number] if number < len(self._replies) else b""
        peer.sendall(reply)
        return bool(reply) and number not in self._closing
