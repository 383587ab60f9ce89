"""The client against replies played back: good ones, broken ones, none at all. Without repeats;
test_repeats.py has these."""

import json
import unittest

from support import Canned
import numpy as np
import adamd
from adamd import _safetensors as st


def reply(status: str, body: bytes, media_type: str, *lines: str, length: int = -1) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Type: {media_type}", *lines]
    head.append(f"Content-Length: {len(body) if length < 0 else length}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def stepped(length: int = -1) -> bytes:
    said = dict(step="1", grad_norm="1", param_norm="Infinity", update_norm="1e-08", clip_coef="1",
                skipped="false", converted="0", param_groups='[{"grad_norm": "NaN"}]')  # fmt: skip
    encoded = st.encode({"w": np.ones(2, np.float32)}, said)
    body = b"".join(bytes(part) for part in encoded.parts)
    return reply("200 OK", body, "application/vnd.safetensors", 'ETag: "e1-s1"', length=length)


GRADS = {"w": np.zeros(2, np.float32)}


class Transport(unittest.TestCase):
    def step(self, url: str) -> adamd.StepResult:
        with adamd.Client(url, timeout=2, max_retries=0) as client:
            return client.optimizer("a/b").step(GRADS, worker="me", if_match='"e1-s0"')

    def test_step(self) -> None:
        with Canned([stepped()]) as server:
            result = self.step(server.url)
        self.assertEqual((result.step, result.etag, result.clip_coef), (1, '"e1-s1"', 1.0))
        self.assertEqual(result.param_norm, float("inf"))
        self.assertEqual((result.skipped, result.converted), (False, 0))
        self.assertNotEqual(result.groups[0]["grad_norm"], result.groups[0]["grad_norm"])  # a NaN
        self.assertEqual(result.params["w"].tolist(), [1, 1])
        head, body = server.requests[0].split(b"\r\n\r\n", 1)
        self.assertTrue(head.startswith(b"POST /v1/optimizers/a%2Fb/step HTTP/1.1\r\n"))
        for line in (b"Adam-Worker: me", b'If-Match: "e1-s0"', b"Content-Length: %d" % len(body)):
            self.assertIn(line, head)
        self.assertEqual(st.decode(body)[0]["w"].tolist(), [0, 0])

    def test_keeps_its_connection(self) -> None:
        with Canned([stepped(), stepped()]) as server, adamd.Client(server.url) as client:
            optimizer = client.optimizer("x")
            self.assertEqual([optimizer.step(GRADS).step for _ in range(2)], [1, 1])
            self.assertEqual(client._transport._pool.num_connections, 1)

    def test_no_repeats(self) -> None:
        """Neither on a fresh connection nor on one that was kept and has died."""
        for replies in ([b""], [stepped(), b""]):
            with Canned(replies) as server, adamd.Client(server.url, max_retries=0) as client:
                optimizer = client.optimizer("x")
                for _ in replies[:-1]:
                    optimizer.step(GRADS)
                with self.assertRaises(adamd.ConnectionError):
                    optimizer.step(GRADS)
                self.assertEqual(len(server.requests), len(replies))

    def test_cut_off(self) -> None:
        whole = stepped()
        for cut in (5, whole.index(b"\r\n\r\n") + 4, len(whole) - 1):
            with self.subTest(cut), Canned([whole[:cut]], closing=[0]) as server:
                with self.assertRaises(adamd.ConnectionError):
                    self.step(server.url)
                self.assertEqual(len(server.requests), 1)

    def test_after_a_failure_the_next_call_works(self) -> None:
        replies = [stepped(length=9999), stepped()]
        once = {"max_retries": 0}
        with Canned(replies, closing=[0]) as server, adamd.Client(server.url, **once) as client:
            with self.assertRaises(adamd.ConnectionError):
                client.optimizer("x").step(GRADS)
            self.assertEqual(client.optimizer("x").step(GRADS).step, 1)

    def test_timeout(self) -> None:
        with Canned([stepped(length=9999)]) as server:
            with adamd.Client(server.url, timeout=0.2, max_retries=0) as client:
                with self.assertRaises(adamd.ConnectionError):
                    client.optimizer("x").step(GRADS)

    def test_not_reached(self) -> None:
        with Canned([]) as server:
            url = server.url
        with self.assertRaisesRegex(adamd.ConnectionError, "POST http://127.0.0.1"):
            self.step(url)
        with self.assertRaises(ConnectionError):  # the built-in one, too
            self.step(url)

    def test_wrong_replies(self) -> None:
        cases = {
            "type 'application/json'": reply("200 OK", b"{}", "application/json"),
            "expected at least 8": reply("200 OK", b"{}", "application/vnd.safetensors"),
            "KeyError": reply(
                "200 OK",
                bytes(b"".join(st.encode({}, {"step": "1"}).parts)),
                "application/vnd.safetensors",
                'ETag: "e1-s1"',
            ),
        }
        for message, answer in cases.items():
            with self.subTest(message), Canned([answer]) as server:
                with self.assertRaisesRegex(adamd.ProtocolError, message):
                    self.step(server.url)

    def test_problem(self) -> None:
        problem = {
            "type": "urn:adamd:problem:shape-mismatch",
            "title": "shape mismatch",
            "status": 422,
            "detail": "gradient of 'w' has shape [2], expected [3]",
            "param": "w",
        }
        text = json.dumps(problem).encode()
        answer = reply("422 Unprocessable", text, "application/problem+json", 'ETag: "e1-s9"')
        with Canned([answer]) as server, self.assertRaises(adamd.Unprocessable) as caught:
            self.step(server.url)
        error = caught.exception
        self.assertEqual(
            (error.status, error.code, error.title), (422, "shape-mismatch", "shape mismatch")
        )
        self.assertEqual((error.members["param"], error.etag), ("w", '"e1-s9"'))
        self.assertIn("expected [3]", str(error))

    def test_problem_that_is_none(self) -> None:
        for body in (b"<html>", b"\xff", b"[]", b""):
            with Canned([reply("418 Teapot", body, "text/html")]) as server:
                with self.assertRaises(adamd.RequestError) as caught:
                    self.step(server.url)
                self.assertEqual(caught.exception.status, 418)

    def test_redirect_is_not_followed(self) -> None:
        answer = reply("307 Moved", b"", "text/plain", "Location: /elsewhere")
        with Canned([answer, stepped()]) as server, self.assertRaises(adamd.RequestError):
            self.step(server.url)
        self.assertEqual(len(server.requests), 1)

    def test_limit_of_a_reply(self) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,2]\r\n0\r\n\r\n"
        with Canned([stepped(), chunked]) as server:
            with adamd.Client(server.url, max_reply=4) as client:
                for call in (lambda: client.optimizer("x").step(GRADS), client.server):
                    with self.assertRaisesRegex(adamd.ProtocolError, "4"):
                        call()

    def test_chunked(self) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,2]\r\n0\r\n\r\n"
        with Canned([chunked]) as server, adamd.Client(server.url + "/base/") as client:
            self.assertEqual(client.server(), [1, 2])
        self.assertTrue(server.requests[0].startswith(b"GET /base/ HTTP/1.1\r\n"))

    def test_url(self) -> None:
        for url in ("", "ftp://h", "http://", "http://h?x", "localhost:1"):
            with self.assertRaises(ValueError):
                adamd.Client(url)

    def test_names_in_paths(self) -> None:
        with Canned([reply("200 OK", b"[]", "application/json")] * 3) as server:
            with adamd.Client(server.url) as client:
                for name in ("..", "a/b?c#d", "\u00e9 %41"):
                    client.optimizer(name).summary()
        paths = [request.split(b" ")[1] for request in server.requests]
        self.assertEqual(
            paths,
            [b"/v1/optimizers/" + p for p in (b"%2E%2E", b"a%2Fb%3Fc%23d", b"%C3%A9%20%2541")],
        )


if __name__ == "__main__":
    unittest.main()
