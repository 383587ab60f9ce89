"""Histories, changes and events: against a real server, and against replies played back."""

import json
import threading
import unittest

from support import Canned, Server, ServerCase
import numpy as np
import adamd

GRAD = {"w": np.ones(1, np.float32)}


class Live(ServerCase):
    def setUp(self) -> None:
        self.client = adamd.Client(self.server.url, timeout=60)
        self.addCleanup(self.client.close)
        self.opt = self.client.optimizer(self.id().rsplit(".", 1)[1])
        self.opt.create({"w": np.zeros(1, np.float32)}, lr=0.5)

    def test_history(self) -> None:
        self.assertEqual(self.opt.history(), [])
        results = [self.opt.step(GRAD, worker="me") for _ in range(3)]
        history = self.opt.history()
        self.assertEqual([record["step"] for record in history], [1, 2, 3])
        for record, result in zip(history, results):
            self.assertEqual(record["update_norm"], result.update_norm)
            self.assertEqual((record["worker"], record["skipped"]), ("me", False))
            self.assertEqual(record["param_groups"][0]["lr"], 0.5)
        self.assertEqual(self.opt.history(last=1), history[2:])
        with self.assertRaises(adamd.BadRequest):
            self.opt.history(last=0)

    def test_changes(self) -> None:
        self.opt.patch(0, lr=0.25)
        self.opt.put_params({"w": np.ones(1, np.float32)})
        changes = self.opt.changes()
        self.assertEqual([change["what"] for change in changes], ["param_groups[0].lr", "params"])
        self.assertEqual((changes[0]["from"], changes[0]["to"]), (0.5, 0.25))
        self.assertEqual(self.opt.changes(last=1), changes[1:])

    def test_events(self) -> None:
        self.opt.step(GRAD)
        events = self.opt.events()
        self.opt.step(GRAD)
        event = next(events)
        self.assertEqual((event.name, event.id), ("step", 2))
        self.assertEqual([event.data], self.opt.history(last=1))
        events.close()
        self.opt.step(GRAD)
        events = self.opt.events(last_event_id=event.id)
        self.assertEqual(next(events).id, 3)
        self.opt.delete()
        self.assertEqual([(e.name, e.id) for e in events], [("removed", None)])

    def test_gap(self) -> None:
        self.opt.step(GRAD)
        events = self.opt.events(last_event_id=7)
        gap = next(events)
        self.assertEqual((gap.name, gap.id), ("gap", None))
        self.assertEqual(gap.data, {"last_event_id": 7, "first_step": 1})
        self.assertEqual(next(events).id, 1)
        events.close()

    def test_refused_at_once(self) -> None:
        with self.assertRaises(adamd.NotFound):
            self.client.optimizer("missing").events()
        with self.assertRaises(adamd.BadRequest):
            self.opt.events(last_event_id=-1)

    def test_while_others_step(self) -> None:
        events = self.opt.events()

        def work() -> None:
            for _ in range(50):
                self.opt.step(GRAD)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        seen = [next(events).id for _ in range(150)]
        for thread in threads:
            thread.join()
        self.assertEqual(seen, list(range(1, 151)))
        events.close()

    def test_end_of_the_server(self) -> None:
        server = Server()
        self.addCleanup(server.kill)
        with adamd.Client(server.url, timeout=60, max_retries=1) as client:
            opt = client.optimizer("x")
            opt.create({"w": np.zeros(1, np.float32)})
            events = opt.events()
            opt.step(GRAD)
            self.assertEqual(next(events).id, 1)
            self.assertEqual(server.stop(), 0)
            with self.assertRaises(adamd.ConnectionError):  # it may come back, and did not
                next(events)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunks(text: bytes, size: int) -> bytes:
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


class PlayedBack(unittest.TestCase):
    def events(self, *replies: bytes, take: int = 1, **options: object) -> list:
        with Canned(list(replies), closing=[0]) as server:
            with adamd.Client(server.url, timeout=5, max_retries=0, **options) as client:
                events = client.optimizer("x").events(3)
                return [next(events) for _ in range(take)]

    def test_pieces(self) -> None:
        record = {"step": 4, "grad_norm": "NaN", "param_groups": [{"grad_norm": "Infinity"}]}
        data = json.dumps(record).encode()
        text = (
            b": hello\n\nretry: 3000\n\nid: 4\nevent: step\ndata: %s\n\n"
            b": heartbeat\n\nevent: gap\r\ndata:{\r\ndata: }\r\n\r\nid: 5\nevent: st" % data
        )
        for size in (1, 2, 17, 10000):
            step, gap = self.events(HEAD + chunks(text, size) + END, take=2)
            self.assertEqual((step.name, step.id, step.data["step"]), ("step", 4, 4))
            self.assertTrue(np.isnan(step.data["grad_norm"]))
            self.assertEqual(step.data["param_groups"][0]["grad_norm"], np.inf)
            self.assertEqual(gap, adamd.Event("gap", None, {}))

    def test_request(self) -> None:
        removed = chunks(b"event: removed\ndata: {}\n\n", 100)
        with Canned([HEAD + removed + END]) as server, adamd.Client(server.url) as client:
            self.assertEqual([e.name for e in client.optimizer("a/b").events(12)], ["removed"])
        head = server.requests[0]
        self.assertTrue(head.startswith(b"GET /v1/optimizers/a%2Fb/events HTTP/1.1\r\n"))
        self.assertIn(b"Accept: text/event-stream\r\n", head)
        self.assertIn(b"Last-Event-ID: 12\r\n", head)

    def test_cut_off(self) -> None:
        whole = HEAD + chunks(b"id: 4\nevent: step\ndata: {}\n\n", 5) + END
        for cut, take in (
            (len(HEAD), 1), (len(HEAD) + 7, 1), (len(whole) - 5, 2), (len(whole), 2),
        ):  # fmt: skip
            with self.subTest(cut), self.assertRaises(adamd.ConnectionError):
                self.events(whole[:cut], take=take)

    def test_wrong(self) -> None:
        bad = HEAD + chunks(b"event: step\ndata: {\n\n", 100) + END
        with self.assertRaisesRegex(adamd.ProtocolError, "cannot be read"):
            self.events(bad)
        long = HEAD + chunks(b"data: " + b"x" * 1000, 100) + END
        with self.assertRaisesRegex(adamd.ProtocolError, "limit of 500 bytes"):
            self.events(long, max_reply=500)
        plain = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi"
        with self.assertRaisesRegex(adamd.ProtocolError, "expected text/event-stream"):
            self.events(plain)


if __name__ == "__main__":
    unittest.main()
