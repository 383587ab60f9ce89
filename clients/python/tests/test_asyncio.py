"""adamd.asyncio: many optimizers at once, cancellation, events; against a real server."""

import asyncio
import inspect
import threading
import time
import unittest

from support import Canned, ServerCase
import numpy as np
import adamd
import adamd.asyncio

GRAD = {"w": np.ones(4, np.float32)}
ZERO = {"w": np.zeros(4, np.float32)}


def within(seconds: float, begun: float) -> None:
    took = time.monotonic() - begun
    assert took < seconds, f"it took {took:.2f} s, expected less than {seconds:g}"


class Live(ServerCase):
    def client(self, **options) -> adamd.asyncio.Client:
        return adamd.asyncio.Client(self.server.url, timeout=60, **options)

    def test_many_at_once(self) -> None:
        async def work(threads: int, count: int) -> None:
            async with self.client(threads=threads) as client:
                opts = [client.optimizer(f"many-{threads}-{i}") for i in range(count)]
                await asyncio.gather(*(opt.create(ZERO, lr=0.5) for opt in opts))
                for step in (1, 2, 3):
                    results = await asyncio.gather(*(opt.step(GRAD) for opt in opts))
                    self.assertEqual([r.step for r in results], [step] * count)
                names = [s["name"] for s in await client.list(f"many-{threads}-")]
                self.assertEqual(sorted(names), sorted(opt.name for opt in opts))
                self.assertEqual(len(set(await asyncio.gather(*(o.digest() for o in opts)))), 1)

        asyncio.run(work(4, 32))
        asyncio.run(work(64, 64))

    def test_a_round_of_many(self) -> None:
        """Each waits for all: they must really be under way at once."""

        async def work() -> None:
            async with self.client(threads=8) as client:
                opt = client.optimizer("round")
                await opt.create(ZERO, aggregation={"mode": "sync", "workers": 8})
                steps = (opt.step(GRAD, worker=f"w{i}") for i in range(8))
                results = await asyncio.gather(*steps)
                self.assertEqual([r.step for r in results], [1] * 8)

        asyncio.run(work())

    def test_errors(self) -> None:
        async def work() -> None:
            async with self.client() as client:
                with self.assertRaises(adamd.NotFound) as caught:
                    await client.optimizer("missing").step(GRAD)
                self.assertEqual(caught.exception.code, "no-such-optimizer")

        asyncio.run(work())

    def test_cancelled(self) -> None:
        """A wait of five minutes ends with its task, and its thread is free again."""

        async def work() -> None:
            async with self.client(threads=1) as client:
                opt = client.optimizer("cancelled")
                await opt.create(ZERO)
                etag = await opt.etag()
                waiting = asyncio.ensure_future(opt.params(wait=300, if_none_match=etag))
                await asyncio.sleep(0.3)
                queued = asyncio.ensure_future(opt.step(GRAD))
                await asyncio.sleep(0.1)
                queued.cancel()
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(asyncio.shield(waiting), 0.1)
                waiting.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await waiting
                self.assertEqual((await opt.step(GRAD)).step, 1)  # the queued one was never sent

        begun = time.monotonic()
        asyncio.run(work())
        within(10, begun)

    def test_events(self) -> None:
        async def work() -> None:
            async with self.client() as client:
                opt = client.optimizer("events")
                await opt.create(ZERO)
                await opt.step(GRAD)
                seen = []

                async def watch() -> None:
                    async for event in opt.events(0):
                        seen.append((event.name, event.id))

                watching = asyncio.ensure_future(watch())
                await opt.step(GRAD)
                first = opt.events(0)
                self.assertEqual((await first.__anext__()).id, 1)
                await first.aclose()
                await opt.delete()
                await watching
                self.assertEqual(seen, [("step", 1), ("step", 2), ("removed", None)])
                await opt.create(ZERO)
                watching = asyncio.ensure_future(watch())
                await asyncio.sleep(0.3)
                watching.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await watching

        begun = time.monotonic()
        asyncio.run(work())
        within(10, begun)

    def test_nothing_is_missing(self) -> None:
        for ours, theirs in (
            (adamd.asyncio.Client, adamd.Client),
            (adamd.asyncio.Optimizer, adamd.Optimizer),
        ):
            names = {n for n, _ in inspect.getmembers(theirs, callable) if not n.startswith("_")}
            self.assertEqual({n for n in names if not hasattr(ours, n)}, set())


class PlayedBack(unittest.TestCase):
    def test_no_repeats_of_what_was_cancelled(self) -> None:
        async def work(url: str) -> None:
            async with adamd.asyncio.Client(url, threads=1) as client:
                step = asyncio.ensure_future(client.optimizer("x").step(GRAD))
                await asyncio.sleep(0.2)
                step.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await step

        with Canned([]) as server:
            begun = time.monotonic()
            asyncio.run(work(server.url))
            within(3, begun)
            count = len(server.requests)
            time.sleep(0.5)
            self.assertEqual(len(server.requests), count)
        self.assertEqual([t.name for t in threading.enumerate() if t.name.startswith("adamd")], [])


if __name__ == "__main__":
    unittest.main()
