#!/usr/bin/env python3
"""Runs the cases against a client: starts adamd, a proxy before it, and the client's driver, gives
the driver one call after another, and holds what the client sent and got against the case.

    ADAMD_BINARY=build/release/adamd clients/conformance/stage.py [--only PATTERN] DRIVER...

README.md has the format. Exit status: 0 where all passed, 1 where a case failed."""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import checks
import tensors
from proxy import Proxy

Json = Dict[str, Any]

_HERE = Path(__file__).resolve().parent
_WITHIN_MS = 15000
_CLIENT = {"timeout_ms": 5000}
_UNREACHABLE = {"refused": "http://127.0.0.1:1", "unknown-host": "http://no-such-host.invalid:2326"}


class Server:
    """A real adamd with a data directory of its own, which can be killed and comes back."""

    def __init__(self, binary: str):
        self._binary = binary
        self._directory = tempfile.mkdtemp(prefix="adamd-stage-")
        self.start()

    def start(self) -> None:
        options = ("--fsync", "always", "--heartbeat", "1", "--log-level", "error")
        self._process = subprocess.Popen(
            [self._binary, "--port", "0", "--data-dir", self._directory, *options],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if " listening on " not in line:
            raise RuntimeError(f"{self._binary} said {line!r}, expected 'adamd ... listening on'")
        self.url = line.split()[-1]

    def kill_and_start(self) -> None:
        self._process.kill()
        self._process.wait()
        self.start()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def request(self, method: str, path: str, value: Any = None, headers: Any = None) -> Any:
        """Past the proxy. A refusal is an error of the case."""
        data = None if value is None else json.dumps(value).encode()
        lines = {
            **({} if data is None else {"Content-Type": "application/json"}),
            **(headers or {}),
        }
        request = urllib.request.Request(self.url + path, data, lines, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as reply:
                body = reply.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode()}") from None
        return json.loads(body) if body else None

    def clear(self) -> None:
        for summary in self.request("GET", "/v1/optimizers?limit=1000")["optimizers"]:
            self.request("DELETE", "/v1/optimizers/" + summary["name"])


class DriverGone(Exception):
    """It ended, said what is no JSON, or did not answer in time."""


class Driver:
    """The client under test: a line of JSON in, a line of JSON out."""

    def __init__(self, command: List[str]):
        self._command = command
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            encoding="utf-8",
        )  # fmt: skip
        self._lines: "queue.Queue[str]" = queue.Queue()
        threading.Thread(target=self._read, args=(self._process, self._lines), daemon=True).start()

    @staticmethod
    def _read(process: Any, lines: "queue.Queue[str]") -> None:
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    def call(self, message: Json, within: float) -> Json:
        try:
            self._process.stdin.write(json.dumps(message) + "\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
            line = self._lines.get(timeout=within)
            reply = json.loads(line) if line else None
        except queue.Empty:
            raise DriverGone(f"no answer within {within:g} s: it hangs") from None
        except OSError as error:
            raise DriverGone(f"the driver is gone: {error}") from None
        except ValueError:
            raise DriverGone(f"the driver said {line!r}, expected JSON") from None
        if not isinstance(reply, dict) or len(reply) != 1:
            raise DriverGone(f"the driver said {line!r}, expected ok, error or unknown alone")
        return reply

    def again(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> None:
        try:
            self._process.stdin.close()  # type: ignore[union-attr]
            self._process.wait(2)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()


def _for_driver(call: Json) -> Json:
    """What of a call the driver gets, its tensors in hexadecimal. `into` has types and shapes of
    those that come back, for languages in which the caller gives the memory."""
    message: Json = {"op": call["op"]}
    for key in ("optimizer", "options", "file"):
        if key in call:
            message[key] = call[key]
    for key in ("grads", "params"):
        if key in call:
            message[key] = tensors.wires(call[key])
    result = call.get("result", {})
    back = {**result.get("params", {}), **({"": result["tensor"]} if "tensor" in result else {})}
    into = {name: tensors.wire(spec) for name, spec in back.items()}
    shapes = {name: {"dtype": t["dtype"], "shape": t["shape"]} for name, t in into.items()}
    message["into"] = call.get("into", shapes)
    return message


class Stage:
    """One run of cases."""

    def __init__(self, server: Server, driver: Driver):
        self._server, self._driver = server, driver
        self._proxy = Proxy(lambda: server.url, server.kill_and_start)

    def run(self, case: Json) -> List[str]:
        """What is wrong."""
        self._server.clear()
        self._proxy.hang_up()
        try:
            return self._run(case)
        except DriverGone as error:
            self._driver.again()
            return [str(error)]
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            return [f"{type(error).__name__}: {error}"]

    def _run(self, case: Json) -> List[str]:
        for step in case.get("setup", []):
            self._direct(step)
        client = {**_CLIENT, **case.get("client", {})}
        client["url"] = _UNREACHABLE.get(client.get("url", ""), self._proxy.url)
        reply = self._driver.call({"op": "client", "options": client}, 10)
        if "ok" not in reply:
            return [f"the driver takes no client: {reply}"]
        variables: Json = {}
        self._keys: List[Optional[str]] = []
        for i, call in enumerate(case["calls"]):
            wrong = self._call(checks.fill(call, variables), variables)
            if wrong:
                return [f"call {i + 1} ({call['op']}): {text}" for text in wrong]
        if case.get("distinct_keys") and len(set(self._keys)) != len(self._keys):
            return [f"steps share a key: {self._keys}"]
        return self._after(case.get("after", {}))

    def _direct(self, spec: Json) -> Any:
        time.sleep(spec.get("after_ms", 0) / 1000)
        return self._server.request(
            spec.get("method", "GET"), spec["path"], spec.get("json"), spec.get("headers")
        )

    def _call(self, call: Json, variables: Json) -> List[str]:
        self._proxy.begin(call.get("exchanges"))
        if "down_ms" in call:
            self._proxy.down()
            threading.Timer(call["down_ms"] / 1000, self._proxy.up).start()
        others = [
            threading.Thread(target=self._direct, args=(s,)) for s in call.get("meanwhile", [])
        ]
        for thread in others:
            thread.start()
        within = call.get("within_ms", _WITHIN_MS) / 1000
        begun = time.monotonic()
        reply = self._driver.call(_for_driver(call), within + 1)
        took = time.monotonic() - begun
        for thread in others:
            thread.join()
        wrong = self._judge(call, reply, variables)
        self._keys += [sent.header("Idempotency-Key") for sent in self._proxy.seen[:1]]
        if took > within:
            wrong.append(f"it took {took:.2f} s, expected at most {within:g}")
        if took < call.get("not_before_ms", 0) / 1000:
            wrong.append(f"it took {took:.2f} s, expected at least {call['not_before_ms']} ms")
        if call.get("exchanges") is not None:
            wrong += checks.requests(call["exchanges"], self._proxy.seen)
        return wrong

    def _judge(self, call: Json, reply: Json, variables: Json) -> List[str]:
        if "unknown" in reply:
            return [f"the driver does not know {reply['unknown']!r}"]
        if "error" in call:
            if "error" not in reply:
                return [f"it gave {str(reply)[:300]}, expected the error {call['error']}"]
            return checks.like(call["error"], reply["error"], "error")
        if "ok" not in reply:
            return [f"error {reply['error']}"]
        found = reply["ok"]
        if "file" in found and "tensors" in call.get("result", {}):
            found["tensors"] = tensors.unpack(bytes.fromhex(found["file"]))[0]
        for name, member in call.get("save", {}).items():
            variables[name] = found[member]
        return checks.result(call.get("result", {}), found)

    def _after(self, after: Json) -> List[str]:
        wrong: List[str] = []
        for spec in after.get("get", []):
            wrong += checks.like(
                spec["json"], self._server.request("GET", spec["path"]), f"after: {spec['path']}"
            )
        names = after.get("same_digest", [])
        digests = [
            self._server.request("GET", f"/v1/optimizers/{n}/digest")["digest"] for n in names
        ]
        if len(set(digests)) > 1:
            wrong.append(f"after: {' and '.join(names)} have other digests: a step too many or few")
        return wrong


def cases(only: Optional[str]) -> Iterator[Tuple[str, Json]]:
    """All cases by name, those with "each" once for each of its objects."""
    for path in sorted(_HERE.glob("*.json")):
        for case in json.loads(path.read_text(encoding="utf-8")):
            for values in case.get("each", [{}]):
                filled = checks.fill({k: v for k, v in case.items() if k != "each"}, values)
                name = f"{path.stem}: {filled['name']}"
                if only is None or re.search(only, name):
                    yield name, filled


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the conformance cases against a client.")
    parser.add_argument("--only", metavar="PATTERN", help="cases whose name this is found in")
    parser.add_argument("--list", action="store_true", help="print the cases' names")
    parser.add_argument("--verbose", action="store_true", help="print those that pass, too")
    parser.add_argument("driver", nargs=argparse.REMAINDER, help="the driver, with its arguments")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(name for name, _ in cases(arguments.only)))
        return 0
    binary = os.environ.get("ADAMD_BINARY")
    if not binary or not arguments.driver:
        parser.error("expected a driver, and ADAMD_BINARY to name the server")
    server = Server(binary)
    failed = count = 0
    driver = Driver(arguments.driver)
    try:
        stage = Stage(server, driver)
        for name, case in cases(arguments.only):
            count += 1
            wrong = stage.run(case)
            failed += bool(wrong)
            if wrong:
                print(f"FAIL {name}\n" + "\n".join(f"     {text}" for text in wrong), flush=True)
            elif arguments.verbose:
                print(f"ok   {name}", flush=True)
    finally:
        driver.stop()
        server.stop()
    print(f"{count - failed} of {count} cases passed" + ("" if count else ": no such case"))
    return 1 if failed or not count else 0


if __name__ == "__main__":
    sys.exit(main())
