"""What is sent again, with which key, and what is not; and the headers of a step. Against replies
played back."""

import re
import unittest

from support import Canned
from test_transport import GRADS, reply, stepped
import numpy as np
import adamd
from adamd import _safetensors as st
from adamd import _repeats

BUSY = "503 Service Unavailable"


def keys(server: Canned) -> list:
    return [m and m[1] for m in (re.search(rb"Idempotency-Key: (\S+)", r) for r in server.requests)]


def busy(*lines: str) -> bytes:
    return reply(BUSY, b"", "application/problem+json", *lines)


class Repeats(unittest.TestCase):
    def setUp(self) -> None:
        self.waits: list = []
        real = _repeats.time.sleep
        self.addCleanup(setattr, _repeats.time, "sleep", real)
        _repeats.time.sleep = self.waits.append

    def step(self, server: Canned, **options: int) -> adamd.StepResult:
        with adamd.Client(server.url, timeout=5, **options) as client:
            return client.optimizer("x").step(GRADS)

    def test_wherever_it_breaks(self) -> None:
        whole = stepped()
        head = whole.index(b"\r\n\r\n")
        places = (0, 5, 12, *range(16, head + 4, 7), head, head + 2, head + 4, len(whole) - 1)
        for cut in places:
            with self.subTest(cut), Canned([whole[:cut], whole], closing=[0]) as server:
                result = self.step(server)
                self.assertEqual((result.step, result.params["w"].tolist()), (1, [1, 1]))
                first, second = keys(server)
                self.assertEqual((first, len(first)), (second, 32))
                self.assertEqual(*(request.split(b"\r\n\r\n")[1] for request in server.requests))

    def test_too_slow(self) -> None:
        with Canned([stepped(length=9999), stepped()]) as server:
            with adamd.Client(server.url, timeout=0.2) as client:
                self.assertEqual(client.optimizer("x").step(GRADS).step, 1)

    def test_503(self) -> None:
        with Canned([busy("Retry-After: 7"), stepped()]) as server:
            self.assertEqual(self.step(server).step, 1)
        self.assertEqual(len(self.waits), 1)
        self.assertTrue(7 <= self.waits[0] <= 7.1, self.waits)

    def test_no_other_reply(self) -> None:
        for status, line in (
            (BUSY, "X: y"),
            (BUSY, "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"),
            (BUSY, "Retry-After: 3600"),
            ("429 Too Many Requests", "Retry-After: 0"),
            ("409 Conflict", "X: y"),
            ("507 Insufficient Storage", "X: y"),
        ):
            answer = reply(status, b"", "application/problem+json", line)
            with self.subTest(status + line), Canned([answer, stepped()]) as server:
                with self.assertRaises(adamd.RequestError):
                    self.step(server)
                self.assertEqual(len(server.requests), 1)

    def test_waits_and_their_end(self) -> None:
        for most in (0, 3, 8):
            self.waits.clear()
            with self.subTest(most), Canned([]) as server:
                with self.assertRaises(adamd.ConnectionError):
                    self.step(server, **({} if most == 8 else {"max_retries": most}))
                self.assertEqual((len(server.requests), len(self.waits)), (most + 1, most))
        limits = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
        self.assertTrue(all(0 <= w <= limit for w, limit in zip(self.waits, limits)), self.waits)
        self.assertGreater(max(self.waits), 0)

    def test_not_reached(self) -> None:
        with Canned([]) as server:
            pass
        with self.assertRaises(adamd.ConnectionError):
            self.step(server)
        self.assertEqual(len(self.waits), 8)

    def test_what_reads(self) -> None:
        whole = reply("200 OK", b"[]", "application/json")
        with Canned([b"", whole, busy("Retry-After: 0"), whole]) as server:
            with adamd.Client(server.url) as client:
                self.assertEqual(client.optimizer("x").param_groups(), [])
                self.assertEqual(client.server(), [])

    def test_what_writes_without_a_key(self) -> None:
        with Canned([]) as server, adamd.Client(server.url) as client:
            opt = client.optimizer("x")
            for call in (
                lambda: opt.create(GRADS),
                lambda: opt.put_params(GRADS),
                lambda: opt.configure(clip_value=1),
                lambda: opt.add_param_group(GRADS),
                lambda: opt.drop_round(),
                lambda: opt.remove_worker("w"),
                lambda: opt.delete(),
            ):
                with self.assertRaises(adamd.ConnectionError):
                    call()
            self.assertEqual((len(server.requests), self.waits), (7, []))
            self.assertEqual(keys(server), [None] * 7)


class Step(unittest.TestCase):
    def test_headers(self) -> None:
        with Canned([stepped()] * 3) as server, adamd.Client(server.url) as client:
            opt = client.optimizer("x")
            opt.step(GRADS, idempotency_key="k-1", weight=0.1, based_on=np.int64(1 << 53))
            opt.step(GRADS)
            opt.step(GRADS)
            for wrong, kind in (
                ({"idempotency_key": "\u00e9"}, ValueError),
                ({"based_on": 1.5}, TypeError),
                ({"weight": "much"}, ValueError),
            ):
                with self.assertRaises(kind):
                    opt.step(GRADS, **wrong)
        lines = (b"Idempotency-Key: k-1", b"Adam-Weight: 0.1", b"Adam-Based-On: %d" % (1 << 53))
        for line in lines:
            self.assertIn(b"\r\n" + line + b"\r\n", server.requests[0])
        self.assertNotIn(b"Adam-", server.requests[1])
        self.assertEqual(len(set(keys(server))), 3)

    def test_pending(self) -> None:
        said = dict(step="4", grad_norm="0", param_norm="0", update_norm="0", clip_coef="1",
                    skipped="false", converted="0", param_groups="[]", pending="3",
                    new="?")  # fmt: skip
        body = b"".join(bytes(part) for part in st.encode(GRADS, said).parts)
        etag = 'ETag: "e1-s4"'
        replies = [
            reply("202 Accepted", body, "application/vnd.safetensors", etag),
            reply("202 Accepted", b"", "text/plain", etag),
            reply("200 OK", b"", "text/plain", etag),
        ]
        with Canned(replies) as server, adamd.Client(server.url) as client:
            opt = client.optimizer("x")
            result = opt.step(GRADS)
            self.assertEqual((result.pending, result.step, result.skipped), (3, 4, False))
            self.assertEqual(opt.step(GRADS, minimal=True).pending, 1)
            self.assertEqual(opt.step(GRADS, minimal=True).pending, 0)

    def test_replayed(self) -> None:
        """The step is that of the first reply, the etag where the optimizer is."""
        answer = stepped().replace(b'"e1-s1"', b'"e1-s9"').replace(
            b"Content-Length", b"Idempotent-Replayed: true\r\nContent-Length"
        )  # fmt: skip
        with Canned([answer, stepped()]) as server, adamd.Client(server.url) as client:
            result = client.optimizer("x").step(GRADS)
            self.assertEqual((result.replayed, result.step, result.etag), (True, 1, '"e1-s9"'))
            self.assertFalse(client.optimizer("x").step(GRADS).replayed)

    def test_refusals(self) -> None:
        problem = b'{"type": "urn:adamd:problem:quarantined", "worker": "w", "new": [1]}'
        with Canned([reply("403 Forbidden", problem, "application/problem+json")]) as server:
            with adamd.Client(server.url) as client, self.assertRaises(adamd.Forbidden) as caught:
                client.optimizer("x").step(GRADS)
        self.assertEqual(caught.exception.code, "quarantined")
        self.assertEqual(caught.exception.members["worker"], "w")


class Params(unittest.TestCase):
    def test_not_modified(self) -> None:
        """Whatever length the reply claims; and the connection serves on."""
        kept = reply("304 Not Modified", b"", "application/json", 'ETag: "e1-s1"', length=70)
        with Canned([kept, stepped()]) as server, adamd.Client(server.url) as client:
            opt = client.optimizer("x")
            self.assertIsNone(opt.params(if_none_match='"e1-s1"'))
            params = opt.params(wait=30)
            self.assertEqual((params.step, params.etag), (1, '"e1-s1"'))
            self.assertEqual(params["w"].tolist(), [1, 1])
            self.assertEqual(client._transport._pool.num_connections, 1)
        self.assertIn(b'If-None-Match: "e1-s1"\r\n', server.requests[0])
        self.assertIn(b"/params?wait=30 HTTP", server.requests[1])
        self.assertNotIn(b"If-None-Match", server.requests[1])

    def test_a_wait_is_not_too_slow(self) -> None:
        with Canned([stepped()]) as server:
            with adamd.Client(server.url, timeout=0.25) as client:
                urlopen = client._transport._pool.urlopen
                seen = []
                client._transport._pool.urlopen = lambda *a, **k: (
                    seen.append(k["timeout"].read_timeout) or urlopen(*a, **k)
                )
                client.optimizer("x").params(wait=2)
        self.assertEqual(seen, [2.25])


if __name__ == "__main__":
    unittest.main()
