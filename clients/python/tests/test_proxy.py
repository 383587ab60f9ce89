"""Proxies that the environment names."""

import os
import unittest
from unittest import mock

from support import Canned
from test_transport import GRADS, reply, stepped
import adamd

URL = "http://adamd.invalid:2326/base"


def environment(**names: str):
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    return mock.patch.dict(os.environ, {**kept, **names}, clear=True)


class Proxies(unittest.TestCase):
    def test_used(self) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            with self.subTest(name), Canned([stepped(), b"", stepped()]) as proxy:
                with environment(**{name: proxy.url}):
                    client = adamd.Client(URL)
                with client:
                    self.assertEqual(client.optimizer("x").step(GRADS).step, 1)
                    self.assertEqual(client.optimizer("x").step(GRADS).step, 1)
                begins = b"POST http://adamd.invalid:2326/base/v1/optimizers/x/step HTTP/1.1\r\n"
                self.assertTrue(all(r.startswith(begins) for r in proxy.requests))
                self.assertIn(b"\r\nHost: adamd.invalid:2326\r\n", proxy.requests[0])

    def test_its_errors(self) -> None:
        html = reply("502 Bad Gateway", b"<html>no such host</html>", "text/html")
        with Canned([html]) as proxy, environment(http_proxy=proxy.url):
            with adamd.Client(URL) as client, self.assertRaises(adamd.RequestError) as caught:
                client.optimizer("x").summary()
        self.assertEqual(caught.exception.status, 502)
        with environment(http_proxy=proxy.url), adamd.Client(URL, max_retries=0) as client:
            with self.assertRaisesRegex(adamd.ConnectionError, "proxy"):
                client.optimizer("x").summary()

    def test_not_used(self) -> None:
        with Canned([]) as proxy:
            for url, no_proxy in (
                (URL, "adamd.invalid"),
                (URL, ".invalid"),
                (URL, "*"),
                ("http://127.0.0.1:1", ""),
                ("http://localhost:1", ""),
                ("http://[::1]:1", ""),
            ):
                with self.subTest(url=url), environment(http_proxy=proxy.url, no_proxy=no_proxy):
                    with adamd.Client(url, max_retries=0) as client:
                        with self.assertRaises(adamd.ConnectionError):
                            client.optimizer("x").summary()
            self.assertEqual(proxy.requests, [])


if __name__ == "__main__":
    unittest.main()
