"""Whether a call is tried once more, and after which wait."""

from __future__ import annotations

import random
import time
from typing import Optional, Union

from . import _calls, _errors

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0
_LONGEST_RETRY_AFTER = 60
"""Seconds; a server that is away longer is given up."""

# Full jitter, so that workers that lost their server together do not come back together; nor those
# whose scripts all begin with random.seed(0).
_random = random.SystemRandom()


def _wait_asked(error: Union[_errors.ConnectionError, _errors.Unavailable]) -> Optional[int]:
    """The seconds to wait at least before the request is sent again; None: it is not."""
    if isinstance(error, _errors.ConnectionError):
        return 0
    after = error.retry_after
    return after if after is not None and after <= _LONGEST_RETRY_AFTER else None


class Repeats:
    """What is left to one call: repeats, and seconds until its deadline (None: without end)."""

    def __init__(self, repeats: int, deadline: Optional[float]):
        self._most = self._left = repeats
        self._limit = _FIRST_WAIT
        self._end = None if deadline is None else time.monotonic() + deadline

    def renew(self) -> None:
        """It goes well again: what failed before does not count."""
        self._left, self._limit = self._most, _FIRST_WAIT

    def seconds(self) -> Optional[float]:
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)

    def cap(self, timeout: Optional[float]) -> Optional[float]:
        """A timeout that ends with the deadline."""
        left = self.seconds()
        if left is None:
            return timeout
        return max(left if timeout is None else min(timeout, left), 0.001)

    def wait(self, error: Union[_errors.ConnectionError, _errors.Unavailable]) -> None:
        """Waits for the next try. Raises `error` where there is none, or past the deadline."""
        at_least = _wait_asked(error)
        call = _calls.current.get()
        if self._left <= 0 or at_least is None:
            raise error
        self._left -= 1
        pause = at_least + _random.uniform(0, self._limit)
        self._limit = min(self._limit * 2, _LONGEST_WAIT)
        left = self.seconds()
        if left is not None and pause >= left:
            raise error
        if call is None:
            time.sleep(pause)
        elif call.ended.wait(pause):
            raise error
