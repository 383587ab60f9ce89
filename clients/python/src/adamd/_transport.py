"""One request out, one reply in, and again where none came. The only module that knows urllib3."""

from __future__ import annotations

import http.client
import ipaddress
import re
import urllib.request
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple, TypeVar
from urllib.parse import urlsplit

import numpy as np
import urllib3

from . import _calls, _errors
from ._repeats import Repeats
from ._safetensors import Encoded

_PIECE = 1 << 20
"""Bytes read at once: urllib3 copies what it reads, so a piece should stay in the cache."""

_SMALL_PIECE = 1 << 14
"""With a deadline, which is looked at between pieces."""

_T = TypeVar("_T")


_TRANSPORT_ERRORS = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)
_NOT_SENT = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)


def _failure(what: str, error: Exception) -> _errors.ConnectionError:
    """What urllib3 said, and whether the server may have acted on the request all the same."""
    text = ": ".join(str(part) for part in error.args) or type(error).__name__
    text = re.sub(r"<urllib3[^>]*>: |HTTPS?ConnectionPool\([^)]*\): ", "", text)
    if not what.startswith(("GET ", "HEAD ")) and not isinstance(error, _NOT_SENT):
        text += "; the server may have acted on the request"
    return _errors.ConnectionError(f"{what}: {text}")


def _seconds(text: str) -> Optional[int]:
    """A Retry-After in seconds; a date, which adamd does not send, is none."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else None


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("Content-Type", "").split(";")[0].strip().lower()


class _LastLine:
    """A file that remembers the last line that was read of it."""

    def __init__(self, file: Any):
        self.file = file
        self.last = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def readline(self, limit: int = -1) -> bytes:
        line: bytes = self.file.readline(limit)
        self.last = line
        return line


class _Response(http.client.HTTPResponse):
    """http.client takes a header that was cut off for a whole one: an ETag may be half of it."""

    def begin(self) -> None:
        noting = _LastLine(self.fp)
        self.fp: Any = noting
        super().begin()
        self.fp = noting.file
        if noting.last not in (b"\r\n", b"\n"):
            self.close()
            raise ConnectionResetError("the connection ended in the header of the reply")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _proxy(scheme: str, host: str, port: Optional[int]) -> Optional[str]:
    """The proxy that the environment names for this server (http_proxy, https_proxy, all_proxy but
    for the hosts of no_proxy). There is none to this machine itself."""
    place = f"{host}:{port}" if port is not None else host
    if _loopback(host) or urllib.request.proxy_bypass(place):
        return None
    proxies = urllib.request.getproxies()
    found = proxies.get(scheme) or proxies.get("all")
    return found if found is None or "://" in found else "http://" + found


def _pool(url: str, proxy: Optional[str], connections: int) -> Any:
    """A pool of connections whose current one a Call can end."""
    # retries=False here and in every call: what is sent again is request()'s to decide.
    if proxy is None:
        pool: Any = urllib3.connection_from_url(url, maxsize=connections, retries=False)
    else:
        manager = urllib3.ProxyManager(proxy, maxsize=connections, retries=False)
        pool = manager.connection_from_url(url)

    def getresponse(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = _calls.current.get()
        if call is not None:
            call.hold(self.sock)
        return pool_class.getresponse(self, *args, **kwargs)

    pool_class = pool.ConnectionCls
    own = {"response_class": _Response, "getresponse": getresponse}
    pool.ConnectionCls = type("Connection", (pool_class,), own)
    return pool


class Reply:
    """A whole reply; `body` is a buffer of bytes that nothing else holds."""

    def __init__(self, status: int, headers: Mapping[str, str], body: "np.ndarray[Any, Any]"):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def etag(self) -> Optional[str]:
        return self.headers.get("ETag")

    @property
    def replayed(self) -> bool:
        return self.headers.get("Idempotent-Replayed", "").lower() == "true"

    @property
    def media_type(self) -> str:
        return _media_type(self.headers)


class Transport:
    """Connections to one server, kept open between requests. Threads may share it."""

    def __init__(
        self,
        url: str,
        timeout: Optional[float],
        connect_timeout: float,
        max_reply: int,
        max_retries: int,
        deadline: Optional[float] = None,
        connections: int = 8,
    ):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not a URL like 'http://127.0.0.1:2326'")
        if parts.query or parts.fragment or parts.username:
            raise ValueError(f"{url!r}: expected scheme, host, port and path alone")
        self._base = parts.path.rstrip("/")
        self.max_reply = max_reply
        self._max_retries = max_retries
        self._deadline = deadline
        self._connect_timeout = connect_timeout
        self._read_timeout = timeout
        self._url = f"{parts.scheme}://{parts.netloc}"
        proxy = _proxy(parts.scheme, parts.hostname, parts.port)
        self._pool = _pool(self._url, proxy, connections)
        # To a proxy goes the whole URL, but through a tunnel, which https has.
        self._target = self._url if proxy is not None and parts.scheme == "http" else ""

    def close(self) -> None:
        self._pool.close()

    def request(
        self,
        method: str,
        path: str,
        headers: Dict[str, str],
        body: Optional[Encoded] = None,
        wait: float = 0,
    ) -> Reply:
        """Sends one request and reads its reply, which may take `wait` seconds longer to come. One
        that reads, or has an Idempotency-Key, is sent again where no whole reply came and after 503
        with Retry-After. Raises RequestError for a status of 300 and above but 304, ConnectionError
        where no whole reply came."""
        repeats = self._repeats(method in ("GET", "HEAD") or "Idempotency-Key" in headers, wait)

        def once() -> Reply:
            what, response = self._send(method, path, headers, body, repeats, wait)
            return self._whole(method, path, what, response, repeats)

        return self._until(repeats, once)

    def _repeats(self, repeats: bool, wait: float = 0) -> Repeats:
        deadline = None if self._deadline is None else self._deadline + wait
        return Repeats(self._max_retries if repeats else 0, deadline)

    @staticmethod
    def _until(repeats: Repeats, once: Callable[[], _T]) -> _T:
        while True:
            try:
                return once()
            except (_errors.ConnectionError, _errors.Unavailable) as error:
                repeats.wait(error)

    def stream(
        self, path: str, media_type: str, headers: Dict[str, str], repeats: Optional[Repeats] = None
    ) -> Tuple[Optional[str], Iterator[bytes]]:
        """Sends one GET, and gives the ETag of its reply, and its pieces as they come. Raises, and
        repeats, as `request` does until the reply begins; what happens later to the connection is
        raised by the pieces. A stream has no deadline."""
        repeats = repeats or self.stream_repeats()

        def once() -> Tuple[Optional[str], Iterator[bytes]]:
            what, response = self._send(
                "GET", path, {"Accept": media_type, **headers}, None, repeats
            )
            if response.status != 200 or _media_type(response.headers) != media_type:
                reply = self._whole("GET", path, what, response, repeats)
                raise _errors.ProtocolError(
                    f"{what}: {reply.status} with type {reply.media_type!r}, expected {media_type}"
                )
            return response.headers.get("ETag"), self._pieces(what, response)

        return self._until(repeats, once)

    def stream_repeats(self) -> Repeats:
        return Repeats(self._max_retries, None)

    def _pieces(self, what: str, response: Any) -> Iterator[bytes]:
        # What is there, not what fills a piece; urllib3 has that from 2.1 on alone.
        read = response.read1 if hasattr(response, "read1") else response._fp.read1
        try:
            while True:
                piece = read(_PIECE)
                if not piece:
                    return
                yield piece
        except _TRANSPORT_ERRORS as error:
            raise _failure(what, error) from error
        finally:
            response.close()

    def _send(
        self,
        method: str,
        path: str,
        headers: Dict[str, str],
        body: Optional[Encoded],
        repeats: Repeats,
        wait: float = 0,
    ) -> Tuple[str, Any]:
        headers = {"User-Agent": "adamd-python", **headers}
        if body is not None:
            headers["Content-Length"] = str(body.length)
        what = f"{method} {self._url}{self._base}{path}"
        # An iterable, with its length known: sent part by part, gathered nowhere.
        parts: Any = iter(body.parts) if body is not None else None
        read = self._read_timeout
        timeout = urllib3.Timeout(
            connect=repeats.cap(self._connect_timeout),
            read=repeats.cap(read + wait if read is not None else None),
        )
        try:
            return what, self._pool.urlopen(
                method,
                self._target + self._base + path,
                body=parts,
                headers=headers,
                retries=False,
                timeout=timeout,
                redirect=False,
                assert_same_host=False,  # the pool is the server's, by whatever target
                preload_content=False,
                decode_content=False,
            )
        except _TRANSPORT_ERRORS as error:
            raise _failure(what, error) from error

    def _whole(self, method: str, path: str, what: str, response: Any, repeats: Repeats) -> Reply:
        try:
            body = self._read(method, what, response, repeats)
            reply = Reply(response.status, response.headers, body)
        except BaseException as error:
            response.close()  # what is left of the reply must not meet the next request
            if isinstance(error, _TRANSPORT_ERRORS):
                raise _failure(what, error) from error
            raise
        call = _calls.current.get()
        if call is not None:
            call.let_go()
        response.release_conn()
        if reply.status >= 300 and reply.status != 304:
            after = _seconds(reply.headers.get("Retry-After", ""))
            text = reply.body.tobytes()
            raise _errors.from_reply(f"{method} {path}", reply.status, text, reply.etag, after)
        return reply

    def _read(
        self, method: str, what: str, response: Any, repeats: Repeats
    ) -> "np.ndarray[Any, Any]":
        length = response.headers.get("Content-Length")
        if method == "HEAD" or response.status == 304:  # the length is that of another GET's body
            length = "0"
        if length is None or response.status == 204:
            return self._read_open(what, response)
        if int(length) > self.max_reply:
            raise _errors.ProtocolError(
                f"{what}: a reply of {length} bytes, expected at most {self.max_reply}"
            )
        body = np.empty(int(length), np.uint8)
        if not body.size:
            response.read()  # ends the reply; the connection takes no other request before
        view = body.data
        at = 0
        piece = _PIECE if repeats.seconds() is None else _SMALL_PIECE
        while at < len(view):
            if repeats.seconds() == 0:
                raise TimeoutError(
                    f"the deadline came after {at} of {len(view)} bytes of the reply"
                )
            got = response.readinto(view[at : at + piece])
            if not got:
                # An OSError: told as what urllib3 itself raises where a reply is cut off.
                raise ConnectionResetError(
                    f"the connection ended after {at} of {len(view)} bytes of the reply"
                )
            at += got
        return body

    def _read_open(self, what: str, response: Any) -> "np.ndarray[Any, Any]":
        """A reply that does not say its length."""
        body = bytearray()
        while True:
            piece = response.read(_PIECE)
            if not piece:
                return np.frombuffer(body, np.uint8)
            body += piece
            if len(body) > self.max_reply:
                raise _errors.ProtocolError(
                    f"{what}: the reply is over the limit of {self.max_reply} bytes"
                )
