"""The proxy between a driver and adamd: keeps what it is sent, and does to each request what the
case says: passes it on, answers itself, cuts the reply, delays it, resets the connection."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import time
from http import HTTPStatus
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import tensors

Json = Dict[str, Any]
Headers = List[Tuple[str, str]]

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
_PATIENCE = 20.0
"""Seconds that a stalled reply waits for the client to give up."""


class Request(NamedTuple):
    method: str
    target: str
    headers: Headers
    body: bytes

    def header(self, name: str) -> Optional[str]:
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return found[0] if found else None


class Reply(NamedTuple):
    status: int
    headers: Headers
    body: bytes
    stream: Any = None  # of http.client, where it has no end yet


def _read_request(file: Any, peer: socket.socket) -> Optional[Request]:
    line = file.readline().decode("latin-1")
    if not line.endswith("\r\n"):
        return None
    method, target, _ = line.split(" ", 2)
    headers: Headers = []
    while True:
        line = file.readline().decode("latin-1")
        if line == "\r\n":
            break
        if not line.endswith("\r\n"):
            return None
        key, _, value = line.partition(":")
        headers.append((key, value.strip()))
    request = Request(method, target, headers, b"")
    if (request.header("Expect") or "").lower() == "100-continue":
        peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if (request.header("Transfer-Encoding") or "").lower() == "chunked":
        return request._replace(body=_read_chunks(file))
    length = int(request.header("Content-Length") or 0)
    body = file.read(length)
    return request._replace(body=body) if len(body) == length else None


def _read_chunks(file: Any) -> bytes:
    body = b""
    while True:
        size = int(file.readline().split(b";")[0], 16)
        body += file.read(size)
        file.readline()
        if not size:
            return body


def canned(spec: Json) -> Reply:
    """A reply that a case writes out."""
    headers = list(spec.get("headers", {}).items())
    media = "text/plain"
    if "json" in spec:
        body, media = json.dumps(spec["json"]).encode(), "application/json"
    elif "problem" in spec:
        problem = {k: v for k, v in spec["problem"].items() if k != "*"}
        problem.update(spec["problem"].get("*", {}))
        body, media = json.dumps(problem).encode(), "application/problem+json"
    elif "tensors" in spec:
        body = tensors.pack(tensors.wires(spec["tensors"]), spec.get("metadata", {}))
        media = "application/vnd.safetensors"
    elif "hex" in spec:
        body, media = bytes.fromhex(spec["hex"]), "application/vnd.safetensors"
    else:
        body = spec.get("text", "").encode()
    if not any(key.lower() == "content-type" for key, _ in headers):
        headers.append(("Content-Type", media))
    return Reply(spec["status"], headers, body)


# Objects whose members are names of the user's, to which no server would add one.
_MAPS = {"params", "steps", "refused", "data"}


def _grown(value: Any) -> Any:
    """JSON as a newer server might write it: with one more member in every object."""
    if isinstance(value, list):
        return [_grown(part) for part in value]
    if not isinstance(value, dict):
        return value
    grown = {k: v if k in _MAPS else _grown(v) for k, v in value.items()}
    return {**grown, "x_of_tomorrow": {"a": [1, None, "é"], "step": -1}}


def newer(reply: Reply) -> Reply:
    """A reply with unknown headers, members and metadata."""
    media = next((v for k, v in reply.headers if k.lower() == "content-type"), "")
    body = reply.body
    if body and media.startswith("application/vnd.safetensors"):
        found, metadata = tensors.unpack(body)
        body = tensors.pack(found, {**metadata, "x_of_tomorrow": '{"a": [1'})
    elif body and "json" in media:
        body = json.dumps(_grown(json.loads(body))).encode()
    return reply._replace(headers=[*reply.headers, ("Adam-Of-Tomorrow", "yes; a=1")], body=body)


def _bytes(reply: Reply, method: str, spec: Json) -> bytes:
    try:
        reason = HTTPStatus(reply.status).phrase
    except ValueError:
        reason = "Other"
    lines = [f"HTTP/1.1 {reply.status} {reason}"]
    lines += [f"{k}: {v}" for k, v in reply.headers if k.lower() not in _HOP]
    body = b"" if method == "HEAD" else reply.body
    if reply.status not in (204, 304) and method != "HEAD":
        lines.append(f"Content-Length: {len(body) + spec.get('longer', 0)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Proxy:
    """Listens on one port for the whole run. `plan` holds what is done to the next requests; None
    passes all on. `seen` holds the requests."""

    def __init__(self, upstream: Callable[[], str], kill: Callable[[], None]):
        self._upstream, self._kill = upstream, kill
        self._lock = threading.Lock()
        self._peers: "set[socket.socket]" = set()
        self._port = 0
        self.plan: Optional[List[Json]] = None
        self.seen: List[Request] = []
        self.broken: List[str] = []
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=64)
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def down(self) -> None:
        """No connection stands, and none is taken."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()

    def hang_up(self) -> None:
        with self._lock:
            peers = list(self._peers)
        for peer in peers:
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def begin(self, plan: Optional[List[Json]]) -> None:
        with self._lock:
            self.plan, self.seen, self.broken = plan, [], []

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                peer = listener.accept()[0]
            except OSError:
                return
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._peers.add(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        try:
            with peer.makefile("rb") as file:
                while True:
                    request = _read_request(file, peer)
                    if request is None or not self._answer(peer, request):
                        return
        except (OSError, ValueError, http.client.HTTPException) as error:
            with self._lock:
                self.broken.append(f"{type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._peers.discard(peer)
            peer.close()

    def _next(self, request: Request) -> Json:
        with self._lock:
            self.seen.append(request)
            if self.plan is None or len(self.seen) > len(self.plan):
                return {}
            spec: Json = self.plan[len(self.seen) - 1].get("answer", {})
            return spec

    def _answer(self, peer: socket.socket, request: Request) -> bool:
        """Whether the connection goes on."""
        spec = self._next(request)
        reply = None
        if spec.get("forward", not ({"reply", "reset"} & set(spec))):
            reply = self._forward(request)
        if spec.get("kill"):
            self._kill()
        if "reply" in spec:
            reply = canned(spec["reply"])
        if spec.get("newer") and reply is not None:
            reply = newer(reply)
        time.sleep(spec.get("wait_ms", 0) / 1000)
        if reply is None or spec.get("reset"):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if reply.stream is not None:
            self._relay(peer, reply, spec)
            return False
        return self._send(peer, _bytes(reply, request.method, spec), spec)

    def _send(self, peer: socket.socket, whole: bytes, spec: Json) -> bool:
        end = spec.get("cut", spec.get("stall"))
        if end is None:
            peer.sendall(whole)
            return not spec.get("longer")
        if end == "head":
            end = whole.index(b"\r\n\r\n") + 4
        peer.sendall(whole[:end])
        if "stall" in spec:
            peer.settimeout(_PATIENCE)
            peer.recv(1)
        return False

    def _forward(self, request: Request) -> Reply:
        host, _, port = self._upstream().rpartition("//")[2].rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        connection.putrequest(request.method, request.target, True, True)
        for key, value in request.headers:
            if key.lower() not in (*_HOP, "expect"):
                connection.putheader(key, value)
        if request.body or request.header("Content-Length") is not None:
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body or None)
        response = connection.getresponse()
        headers = response.getheaders()
        if (response.getheader("Content-Type") or "").startswith("text/event-stream"):
            return Reply(response.status, headers, b"", response)
        body = response.read()
        connection.close()
        return Reply(response.status, headers, body)

    def _relay(self, peer: socket.socket, reply: Reply, spec: Json) -> None:
        """A stream of events, to its end or to that of the `cut_events`-th event; its connection is
        closed then."""
        lines = ["HTTP/1.1 200 OK", "Connection: close"]
        lines += [f"{k}: {v}" for k, v in reply.headers if k.lower() not in _HOP]
        peer.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        left = spec.get("cut_events", -1)
        block = b""
        with reply.stream as stream:
            while left != 0:
                line = stream.readline()
                if not line:
                    return
                block += line
                if line != b"\n":
                    continue
                if spec.get("newer"):
                    block = b": of tomorrow\nx-of-tomorrow: 1\n" + block
                peer.sendall(block)
                left -= b"\ndata:" in b"\n" + block
                block = b""
            peer.sendall(b'id: 99\nevent: step\ndata: {"st')  # cut off: no event
