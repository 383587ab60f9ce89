"""The client: one server, and the requests that its handles on optimizers make."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List, Optional
from urllib.parse import urlencode

from . import _errors, _events, _safetensors
from ._optimizer import Arrays, Json, Optimizer
from ._text import utf8
from ._transport import Reply, Transport

_SAFETENSORS = "application/vnd.safetensors"
_JSON = "application/json"


class Client:
    """A server at `url`. Connections are kept open; threads may share a client.

    `timeout` is in seconds, for each wait on the server, None for no limit; `max_reply` in bytes;
    `connections` are kept open at most. Proxies named in the environment (http_proxy, https_proxy,
    all_proxy, no_proxy) are used, but for this machine itself.

    A step, and a request that only reads, is sent again by itself, at most `max_retries` times,
    where no whole reply came (not reached, cut off, too slow) and after 503 with Retry-After; never
    after another reply. The waits before are random, of up to 0.1 s at first, which doubles to 5 s.
    A step's repeats carry the Idempotency-Key of the first, so that it is taken once. What else
    changes something is sent once. `deadline` is in seconds, for one whole call with its repeats
    and their waits; None for no limit. A wait that was asked for (params(wait=)) comes on top, and
    events() have none.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:2326",
        *,
        timeout: Optional[float] = 120.0,
        connect_timeout: float = 10.0,
        max_reply: int = 8 << 30,
        max_retries: int = 8,
        deadline: Optional[float] = None,
        connections: int = 8,
    ):
        self._transport = Transport(
            url, timeout, connect_timeout, max_reply, max_retries, deadline, connections
        )

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def server(self) -> Json:
        """What the server is: name, version, kernel."""
        described: Json = self._json("GET", "/")
        return described

    def livez(self) -> Json:
        """Whether the process answers, also while it drains: {"status": "ok"}, or an exception."""
        alive: Json = self._json("GET", "/livez")
        return alive

    def readyz(self) -> Json:
        """Whether it takes requests: {"status": "ok"}. Like all that reads it is asked again while
        the server says 503, so this waits for one that starts (adamd.Unavailable in the end)."""
        ready: Json = self._json("GET", "/readyz")
        return ready

    def optimizer(self, name: str) -> "Optimizer":
        """A handle on the optimizer of this name, whether it exists yet or not. Sends nothing."""
        return Optimizer(self, name)

    def list(self, prefix: str = "", page: int = 1000) -> List[Json]:
        """The summaries of all optimizers whose name begins with `prefix`, by name, fetched `page`
        at a time."""
        found: List[Json] = []
        query: Dict[str, Any] = {"limit": page}
        if prefix:
            query["prefix"] = utf8("the prefix", prefix)
        while True:
            reply = self._json("GET", "/v1/optimizers?" + urlencode(query))
            found += reply["optimizers"]
            if reply.get("next") is None:
                return found
            query["after"] = reply["next"]

    # --- for the handles

    def _request(
        self,
        method: str,
        path: str,
        *,
        accept: str = _JSON,
        body: Optional[_safetensors.Encoded] = None,
        content_type: str = _JSON,
        headers: Optional[Dict[str, str]] = None,
        wait: float = 0,
    ) -> Reply:
        lines = {"Accept": accept, **(headers or {})}
        if body is not None:
            lines["Content-Type"] = content_type
        return self._transport.request(method, path, lines, body, wait)

    def _json(self, method: str, path: str, **options: Any) -> Any:
        reply = self._request(method, path, **options)
        try:
            return json.loads(reply.body.tobytes())
        except ValueError as error:
            raise _errors.ProtocolError(f"{method} {path}: not JSON: {error}") from None

    def _events(self, path: str, last: Optional[int]) -> Iterator[_events.Event]:
        repeats = self._transport.stream_repeats()

        def connect(last: Optional[int]) -> "tuple[Optional[str], Iterator[bytes]]":
            headers = {} if last is None else {"Last-Event-ID": str(last)}
            return self._transport.stream(path, "text/event-stream", headers, repeats)

        etag, pieces = connect(last)
        if last is None and etag is not None:  # where a stream begins that breaks before its first
            last = int(etag.rstrip('"').rpartition("s")[2])
        return _events.resumed(connect, pieces, last, repeats, self._transport.max_reply)

    def _tensors(self, method: str, path: str, **options: Any) -> "tuple[Reply, Arrays, Json]":
        reply = self._request(method, path, accept=_SAFETENSORS, **options)
        if reply.status == 304:
            return reply, {}, {}
        if reply.media_type != _SAFETENSORS:
            raise _errors.ProtocolError(
                f"{method} {path}: a reply of type {reply.media_type!r}, expected {_SAFETENSORS}"
            )
        try:
            arrays, metadata = _safetensors.decode(reply.body)
        except _safetensors.FormatError as error:
            raise _errors.ProtocolError(f"{method} {path}: {error}") from None
        return reply, arrays, metadata
