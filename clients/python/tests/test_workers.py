"""Workers that step together, against a server."""

import threading
import time
import unittest

from support import ClientCase
import numpy as np
import adamd

ONES = {"w": np.ones(2, np.float32)}


class Keys(ClientCase):
    def test_a_key_that_comes_again(self) -> None:
        self.opt.create({"w": np.zeros(2, np.float32)}, lr=0.5)
        first = self.opt.step(ONES, idempotency_key="k")
        self.opt.step(ONES)
        again = self.opt.step(ONES, idempotency_key="k")
        self.assertEqual((first.replayed, again.replayed, again.step), (False, True, 1))
        self.assertEqual((again.grad_norm, again.groups), (first.grad_norm, first.groups))
        self.assertSame(again.params, self.opt.params())
        self.assertEqual(self.opt.summary()["step"], 2)
        with self.assertRaises(adamd.Unprocessable) as caught:
            self.opt.step({"w": np.zeros(2, np.float32)}, idempotency_key="k")
        self.assertEqual(caught.exception.code, "key-reused")
        with self.assertRaises(adamd.BadRequest):
            self.opt.step(ONES, idempotency_key="two words")

    def test_with_if_match(self) -> None:
        """The repeat of a step is answered, though its own If-Match no longer holds."""
        self.opt.create({"w": np.zeros(2)})
        etag = self.opt.etag()
        for replayed in (False, True):
            result = self.opt.step(ONES, idempotency_key="k", if_match=etag)
            self.assertEqual((result.step, result.replayed), (1, replayed))
        with self.assertRaises(adamd.PreconditionFailed):
            self.opt.step(ONES, if_match=etag)

    def test_minimal(self) -> None:
        self.opt.create({"w": np.zeros(2)})
        for replayed in (False, True):
            result = self.opt.step(ONES, idempotency_key="k", minimal=True)
            self.assertEqual((result.step, result.replayed, result.pending), (1, replayed, 0))


class Aggregation(ClientCase):
    def together(self, **steps: dict) -> dict:
        """One step of each worker, at the same time: its result or what it raised."""
        results = {}

        def step(worker: str, options: dict) -> None:
            try:
                with adamd.Client(self.server.url, timeout=60) as client:
                    opt = client.optimizer(self.opt.name)
                    results[worker] = opt.step(worker=worker, **options)
            except adamd.Error as error:
                results[worker] = error

        threads = [threading.Thread(target=step, args=item) for item in steps.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    def wait_for(self, gradients: int) -> dict:
        until = time.monotonic() + 20
        while self.opt.round()["gradients"] != gradients:
            self.assertLess(time.monotonic(), until)
            time.sleep(0.01)
        return self.opt.round()

    def test_sync(self) -> None:
        sync = {"mode": "sync", "workers": 2, "reduce": "weighted"}
        summary = self.opt.create({"w": np.zeros(2), "v": np.zeros(1)}, aggregation=sync)
        self.assertEqual(summary["aggregation"]["quorum"], 2)
        results = self.together(
            a={"grads": {"w": np.array([1.0, 5])}, "weight": 3, "based_on": 0},
            b={"grads": {"w": np.array([5.0, 1]), "v": np.ones(1)}, "weight": 1},
        )
        for result in results.values():
            self.assertEqual((result.step, result.pending), (1, 0))
            self.assertSame(result.params, self.opt.params())
        self.assertEqual(self.opt.state("w")["exp_avg"]["data"].round(12).tolist(), [0.2, 0.4])
        self.assertEqual([(w["name"], w["steps"], w["weight"]) for w in self.opt.workers()],
                         [("a", 1, 3), ("b", 1, 1)])  # fmt: skip
        with self.assertRaises(adamd.Conflict) as caught:
            self.opt.step({"w": np.ones(2)}, worker="a", based_on=0)
        self.assertEqual((caught.exception.code, caught.exception.members["step"]),
                         ("round-closed", 1))  # fmt: skip
        with self.assertRaises(adamd.BadRequest):
            self.opt.step({"w": np.ones(2)})
        self.opt.remove_worker("a")
        self.assertEqual([w["name"] for w in self.opt.workers()], ["b"])
        with self.assertRaises(adamd.NotFound) as missing:
            self.opt.remove_worker("a")
        self.assertEqual(missing.exception.code, "no-such-worker")

    def test_drop_round(self) -> None:
        self.opt.create({"w": np.zeros(2)}, aggregation={"mode": "sync", "workers": 2})
        results = {}
        waits = threading.Thread(target=lambda: results.update(self.together(a={"grads": ONES})))
        waits.start()
        state = self.wait_for(1)
        self.assertEqual((state["mode"], state["open"], state["workers"]), ("sync", True, ["a"]))
        with self.assertRaises(adamd.Conflict) as caught:
            self.opt.configure(aggregation=None)
        self.assertEqual(caught.exception.code, "round-open")
        self.opt.drop_round()
        waits.join()
        self.assertEqual(results["a"].code, "round-ended")
        self.assertEqual(self.opt.round()["gradients"], 0)
        self.assertEqual(self.opt.configure(aggregation=None)["aggregation"], {"mode": "immediate"})

    def test_round_timeout(self) -> None:
        sync = {"mode": "sync", "workers": 2, "timeout_ms": 50}
        self.opt.create({"w": np.zeros(2)}, aggregation=sync)
        with self.assertRaises(adamd.Conflict) as caught:
            self.opt.step(ONES, worker="a")
        members = caught.exception.members
        self.assertEqual(caught.exception.code, "round-timeout")
        self.assertEqual((members["have"], members["quorum"], members["step"]), (1, 2, 0))

    def test_buffered(self) -> None:
        self.opt.create({"w": np.zeros(2)}, aggregation={"mode": "buffered", "size": 3})
        got = [self.opt.step(ONES), self.opt.step(ONES, minimal=True), self.opt.step(ONES)]
        self.assertEqual([(r.step, r.pending) for r in got], [(0, 1), (0, 1), (1, 0)])
        self.assertEqual(got[0].params["w"].tolist(), [0, 0])

    def test_async(self) -> None:
        self.opt.create({"w": np.zeros(2)}, aggregation={"mode": "async", "max_staleness": 1})
        for based_on in (0, 0):
            self.opt.step(ONES, worker="a", based_on=based_on)
        with self.assertRaises(adamd.Conflict) as caught:
            self.opt.step(ONES, worker="a", based_on=0)
        members = caught.exception.members
        self.assertEqual(caught.exception.code, "stale")
        self.assertEqual(
            (members["step"], members["based_on"], members["max_staleness"]), (2, 0, 1)
        )
        self.assertEqual(self.opt.workers()[0]["staleness"], {"last": 1, "max": 1})
        self.assertEqual(self.opt.workers()[0]["refused"], {"stale": 1})

    def test_settings(self) -> None:
        self.opt.create(ONES, aggregation={"mode": "buffered", "size": 2}, input="weights",
                        max_consecutive_nonfinite=3)  # fmt: skip
        summary = self.opt.configure(aggregation={"size": 4}, max_consecutive_nonfinite=None)
        self.assertEqual((summary["aggregation"]["mode"], summary["aggregation"]["size"]),
                         ("buffered", 4))  # fmt: skip
        self.assertEqual(
            (summary["input"], summary["max_consecutive_nonfinite"]), ("weights", None)
        )
        twin = self.client.optimizer("twin")
        twin.restore(self.opt.state_dict(), input="weights", aggregation=summary["aggregation"])
        self.assertEqual(twin.summary()["aggregation"], summary["aggregation"])
        self.assertEqual(twin.digest(), self.opt.digest())

    def test_weights_and_buffers(self) -> None:
        """Models are sent, and the step goes the way from the parameters to their mean; running
        statistics are replaced by theirs."""
        self.opt.create(
            {"w": np.zeros(2), "mean": np.zeros(1)},
            param_groups=[
                {"params": ["w"], "bias_correction": False, "eps": 0},
                {"params": ["mean"], "buffers": True},
            ],
            aggregation={"mode": "buffered", "size": 2, "reduce": "weighted"},
            input="weights",
            lr=1,
            betas=(0, 0),
        )
        self.opt.step({"w": np.array([3.0, -1]), "mean": np.array([8.0])}, weight=3)
        result = self.opt.step({"w": np.array([-1.0, -1]), "mean": np.array([4.0])})
        self.assertEqual(result.params["w"].tolist(), [1, -1])  # Adam's step is lr, by the sign
        self.assertEqual(result.params["mean"].tolist(), [7])
        self.assertEqual(self.opt.state("w")["exp_avg"]["data"].tolist(), [-2, 1])

    def test_quarantine(self) -> None:
        self.opt.create({"w": np.zeros(2)}, max_consecutive_nonfinite=2)
        for _ in range(2):
            with self.assertRaises(adamd.Unprocessable) as caught:
                self.opt.step({"w": np.array([1, np.nan])}, worker="a/b")
            self.assertEqual(caught.exception.members["worker"], "a/b")
        with self.assertRaises(adamd.Forbidden) as refused:
            self.opt.step(ONES, worker="a/b")
        self.assertEqual(refused.exception.code, "quarantined")
        self.assertTrue(self.opt.workers()[0]["quarantined"])
        self.opt.remove_worker("a/b")
        self.assertEqual(self.opt.step(ONES, worker="a/b").step, 1)


class Waiting(ClientCase):
    def test_params(self) -> None:
        self.opt.create({"w": np.zeros(2)})
        first = self.opt.params()
        self.assertEqual((first.step, first.etag), (0, self.opt.etag()))
        self.assertIsNone(self.opt.params(if_none_match=first.etag))
        self.assertIsNone(self.opt.params(wait=1, if_none_match=first.etag))
        timer = threading.Timer(0.2, lambda: self.opt.step(ONES))
        timer.start()
        got = self.opt.params(wait=60, if_none_match=first.etag)
        timer.join()
        self.assertEqual(got.step, 1)
        self.assertSame(self.opt.params(wait=60, if_none_match=first.etag), got)
        self.assertEqual(self.opt.params(wait=1).step, 1)
        for wrong in (0, 301):
            with self.assertRaises(adamd.BadRequest):
                self.opt.params(wait=wrong)


if __name__ == "__main__":
    unittest.main()
