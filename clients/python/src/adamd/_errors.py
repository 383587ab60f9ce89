"""What can go wrong, as exceptions. Knows no HTTP beyond status codes."""

from __future__ import annotations

import builtins
import json
from typing import Any, Dict, Optional, Type


class Error(Exception):
    """Any failure of a call to adamd."""


class ConnectionError(Error, builtins.ConnectionError):
    """No whole reply came: not reached, cut off, or too slow.

    A POST, PUT, PATCH or DELETE that ends so may have been carried out all the same. A step has
    been tried as often as the client may by then; its `idempotency_key` makes it safe to call it
    again.
    """


class ProtocolError(Error):
    """The reply is not what the protocol says."""


class RequestError(Error):
    """The server refused the request, and nothing has changed.

    `status`, `type`, `title` and `detail` are those of the problem document (RFC 9457), `code` is
    the end of `type` ("shape-mismatch"), `members` holds all its members ("param",
    "expected_shape", "worker", ...), `etag` is the reply's, and `retry_after` the seconds that it
    asks to wait, None where it does not.
    """

    def __init__(
        self,
        what: str,
        status: int,
        problem: Dict[str, Any],
        etag: Optional[str],
        retry_after: Optional[int] = None,
    ):
        self.status = status
        self.type: str = str(problem.get("type", "about:blank"))
        self.code: str = self.type.rsplit(":", 1)[-1]
        self.title: str = str(problem.get("title", ""))
        self.detail: str = str(problem.get("detail", ""))
        self.members = problem
        self.etag = etag
        self.retry_after = retry_after
        text = self.detail or self.title or "no problem document came with it"
        super().__init__(f"{what}: {status} {self.code}: {text}")


class BadRequest(RequestError):
    """400: malformed, or holding a field or option that is not known."""


class Forbidden(RequestError):
    """403: the worker is quarantined, for gradients that were not finite."""


class NotFound(RequestError):
    """404: no such optimizer, parameter, group, worker or path."""


class Conflict(RequestError):
    """409: the name is taken, the gradients came too late ("stale"), or the round did not take them
    (`code` is "round-timeout", "round-closed", "already-contributed", ...), the server has no data
    directory ("no-data-dir"), or nothing of that step ("no-such-step")."""


class PreconditionFailed(RequestError):
    """412: the optimizer is not at the version that If-Match named; `etag` is where it is."""


class TooLarge(RequestError):
    """413: the body is over its limit."""


class Unprocessable(RequestError):
    """422: well-formed but wrong: unknown parameter, shape, dtype, option out of range."""


class Unavailable(RequestError):
    """503: the server is recovering, draining or busy, or its data directory failed."""


class OutOfMemory(RequestError):
    """507: the server's memory budget is used up, or (`code` "out-of-disk") its data directory is
    full."""


_BY_STATUS: Dict[int, Type[RequestError]] = {
    400: BadRequest,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    413: TooLarge,
    422: Unprocessable,
    503: Unavailable,
    507: OutOfMemory,
}


def from_reply(
    what: str, status: int, body: bytes, etag: Optional[str], retry_after: Optional[int]
) -> RequestError:
    """The exception for a reply that is no success. `what` is "METHOD path"."""
    try:
        problem = json.loads(body)
    except ValueError:  # not JSON, or not UTF-8
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    return _BY_STATUS.get(status, RequestError)(what, status, problem, etag, retry_after)
