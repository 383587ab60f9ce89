"""A call that another thread may end: adamd.asyncio cancels by it what it awaits."""

from __future__ import annotations

import contextvars
import socket
import threading
from typing import Any, Optional


class Call:
    """One call, or one stream of events, and the socket that it now waits on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: Any = None
        self.ended = threading.Event()

    def hold(self, sock: Any) -> None:
        with self._lock:
            if self.ended.is_set():
                raise ConnectionResetError("the call was cancelled")
            self._socket = sock

    def let_go(self) -> None:
        """Before its connection is given to others."""
        with self._lock:
            self._socket = None

    def end(self) -> None:
        """Whatever it waits for ends with an error, and is not tried again."""
        self.ended.set()
        with self._lock:
            if self._socket is not None:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it is down already


current: "contextvars.ContextVar[Optional[Call]]" = contextvars.ContextVar("call", default=None)
