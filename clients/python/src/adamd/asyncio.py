"""The client for asyncio: many optimizers at once.

    async with adamd.asyncio.Client("http://127.0.0.1:2326") as client:
        results = await asyncio.gather(*(client.optimizer(n).step(grads[n]) for n in names))

The calls are those of adamd.Client and adamd.Optimizer, awaited; events() is an asynchronous
iterator. They run in threads of the client, as many at once as `threads` says: one that waits for a
round, or for the next parameters, has one for itself.

A call that is cancelled, or times out (asyncio.timeout), ends at once, and is not sent again. A
step that ends so may have been taken, as after ConnectionError: an idempotency_key of your own makes it
safe to call it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Coroutine, Optional, TypeVar

from . import _calls, _client, _events, _optimizer

if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec

    _P = ParamSpec("_P")

__all__ = ["Client", "Optimizer"]

_R = TypeVar("_R")


def _threaded(
    method: "Callable[Concatenate[Any, _P], _R]",
) -> "Callable[Concatenate[Any, _P], Coroutine[Any, Any, _R]]":
    """The method of the client that waits, to be awaited."""

    @functools.wraps(method)
    async def awaited(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await self._run(_calls.Call(), functools.partial(method, self._own, *args, **kwargs))

    return awaited  # type: ignore[return-value]


class Client:
    """As adamd.Client, with the same arguments, and `threads`: how many calls are made at once,
    each on a connection of its own. The others wait for their turn, in order."""

    def __init__(self, url: str = "http://127.0.0.1:2326", *, threads: int = 64, **options: Any):
        self._own = _client.Client(url, **options, connections=threads)
        self._threads = ThreadPoolExecutor(threads, "adamd")

    async def close(self) -> None:
        """Waits for the calls that run, and closes the connections."""
        waiting = functools.partial(self._threads.shutdown, wait=True)
        await asyncio.get_running_loop().run_in_executor(None, waiting)
        self._own.close()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    def optimizer(self, name: str) -> "Optimizer":
        """A handle on the optimizer of this name, whether it exists yet or not. Sends nothing."""
        return Optimizer(self, name)

    list = _threaded(_client.Client.list)
    server = _threaded(_client.Client.server)
    livez = _threaded(_client.Client.livez)
    readyz = _threaded(_client.Client.readyz)

    async def _run(self, call: _calls.Call, work: Callable[[], Any]) -> Any:
        def in_thread() -> Any:
            _calls.current.set(call)
            return work()

        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, context.run, in_thread)
        except asyncio.CancelledError:
            call.end()
            raise


class Optimizer:
    """As adamd.Optimizer, awaited."""

    def __init__(self, client: Client, name: str):
        self._client = client
        self._own = client._own.optimizer(name)
        self.name = name

    def __repr__(self) -> str:
        return f"<adamd.asyncio.Optimizer {self.name!r}>"

    # mypy fears that their keywords could hold a "self".
    create = _threaded(_optimizer.Optimizer.create)  # type: ignore[arg-type]
    step = _threaded(_optimizer.Optimizer.step)
    param_groups = _threaded(_optimizer.Optimizer.param_groups)
    add_param_group = _threaded(_optimizer.Optimizer.add_param_group)  # type: ignore[arg-type]
    patch = _threaded(_optimizer.Optimizer.patch)  # type: ignore[arg-type]
    configure = _threaded(_optimizer.Optimizer.configure)  # type: ignore[arg-type]
    params = _threaded(_optimizer.Optimizer.params)
    param = _threaded(_optimizer.Optimizer.param)
    put_params = _threaded(_optimizer.Optimizer.put_params)
    state = _threaded(_optimizer.Optimizer.state)
    state_dict = _threaded(_optimizer.Optimizer.state_dict)
    restore = _threaded(_optimizer.Optimizer.restore)  # type: ignore[arg-type]
    load_state_dict = _threaded(_optimizer.Optimizer.load_state_dict)
    digest = _threaded(_optimizer.Optimizer.digest)
    history = _threaded(_optimizer.Optimizer.history)
    changes = _threaded(_optimizer.Optimizer.changes)
    workers = _threaded(_optimizer.Optimizer.workers)
    remove_worker = _threaded(_optimizer.Optimizer.remove_worker)
    round = _threaded(_optimizer.Optimizer.round)
    drop_round = _threaded(_optimizer.Optimizer.drop_round)
    snapshot = _threaded(_optimizer.Optimizer.snapshot)
    rollback = _threaded(_optimizer.Optimizer.rollback)
    fork = _threaded(_optimizer.Optimizer.fork)
    summary = _threaded(_optimizer.Optimizer.summary)
    etag = _threaded(_optimizer.Optimizer.etag)
    delete = _threaded(_optimizer.Optimizer.delete)

    async def events(self, last_event_id: Optional[int] = None) -> AsyncIterator[_events.Event]:
        """As adamd.Optimizer.events(): `async for event in opt.events(): ...`. It has a thread
        while it waits for an event."""
        call = _calls.Call()
        make = functools.partial(self._own.events, last_event_id)
        stream: Any = await self._run(call, make)
        over = False
        try:
            while True:
                event = await self._run(call, functools.partial(next, stream, None))
                if event is None:
                    over = True
                    return
                yield event
        finally:
            if not over:
                call.end()
                with contextlib.suppress(ValueError):  # it runs, in its thread, and ends there
                    stream.close()

    async def _run(self, call: _calls.Call, work: Callable[[], Any]) -> Any:
        return await self._client._run(call, work)
