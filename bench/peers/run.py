"""Measures adamd beside its peers and prints each as a ratio of their speeds.

    run.py --adamd PATH --core-step PATH [--json FILE] [--only PEER]...

One client on 127.0.0.1, one float32 parameter, connections that stay open; adamd and the peer take
turns, so that both see the same machine, and the medians count. Every peer runs in a process of its
own, so that one that fails leaves the others alone; it is left out with a line that says so.
"""

import argparse
import importlib.util
import os
import socket
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import process  # noqa: E402
from client import (SAFETENSORS, Client, create_optimizer, safetensors_body,  # noqa: E402
                    safetensors_values)
from table import Table  # noqa: E402

SIZES = [("1 K", 1 << 10, 1000), ("1 M", 1 << 20, 100), ("16 M", 16 << 20, 10)]  # name, elements, rounds
WARM_UP = 3
JSON_ELEMENTS, JSON_ROUNDS = 1 << 20, 7
CORE_ELEMENTS, CORE_ROUNDS = 16 << 20, 15
REPLY_SLACK = 4096
PEER_SECONDS = 150


def by_turns(ours, theirs, rounds):
    """Calls both by turns. Their median seconds."""
    times = [], []
    for i in range(rounds + WARM_UP):
        for call, kept in zip((ours, theirs), times):
            start = time.perf_counter()
            call()
            if i >= WARM_UP:
                kept.append(time.perf_counter() - start)
    return [statistics.median(kept) for kept in times]


def make_gradient(elements):
    """The same for every peer, and of no special digits."""
    import numpy as np

    return np.random.default_rng(1).normal(0, 0.01, elements).astype(np.float32)


def check_alike(ours, theirs):
    """Both took the same steps from zero: where the parameters differ, the figures mean nothing."""
    import numpy as np

    a, b = np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
    if a.shape != b.shape or not np.allclose(a, b, rtol=1e-3, atol=1e-5):
        raise RuntimeError("adamd and its peer do not have the same parameters")


def beside_service(args, table, peer, target, make_call):
    """Steps of each size. make_call(elements, gradient) gives the peer's call and how to read its last answer."""
    import numpy as np

    with process.adamd(args.adamd) as server:
        for name, elements, rounds in SIZES:
            gradient = make_gradient(elements)
            client = Client(server.port, 4 * elements + REPLY_SLACK)
            create_optimizer(client, str(elements), elements)
            path, body = f"/v1/optimizers/{elements}/step", safetensors_body(gradient)
            theirs, answer = make_call(elements, gradient)
            ours, other = by_turns(lambda: client.request("POST", path, SAFETENSORS, body), theirs, rounds)
            last = safetensors_values(client.request("POST", path, SAFETENSORS, body))
            theirs()
            check_alike(np.frombuffer(last, np.float32), answer())
            table.add(f"step, client in Python, {name} parameters", 1 / ours, "1/s", peer, 1 / other, target)
            client.close()


def sizes():
    """As a server's arguments."""
    return [str(elements) for _, elements, _ in SIZES]


def run_fastapi(args, table):
    """FastAPI and torch behind the same client code."""
    import numpy as np

    with process.peer("fastapi_peer.py", *sizes()) as server:
        def make_call(elements, gradient):
            client, body = Client(server.port, 4 * elements + REPLY_SLACK), gradient.tobytes()
            reply = [None]

            def call():
                reply[0] = client.request("POST", f"/step/{elements}", "application/octet-stream", body)
            return call, lambda: np.frombuffer(reply[0], np.float32)

        beside_service(args, table, "FastAPI, uvicorn and torch", 6, make_call)


def run_json(args, table):
    """The same with numbers as text. FastAPI validates and prints with pydantic, as it does by itself."""
    import json

    values = ",".join(map(str, make_gradient(JSON_ELEMENTS)))
    body = ('{"grads": {"w": [' + values + "]}}").encode()
    room, kind = 32 * JSON_ELEMENTS, "application/json"
    with process.adamd(args.adamd, "--max-json-body", "64M") as server, process.peer("fastapi_peer.py") as peer:
        client, other = Client(server.port, room), Client(peer.port, room)
        create_optimizer(client, "json", JSON_ELEMENTS)
        calls = (lambda: client.request("POST", "/v1/optimizers/json/step", kind, body),
                 lambda: other.request("POST", "/json", kind, body))
        ours, theirs = by_turns(*calls, JSON_ROUNDS)
        check_alike(*(json.loads(bytes(call()))["params"]["w"] for call in calls))
        table.add("step in JSON, client in Python, 1 M parameters", 1 / ours, "1/s",
                  "FastAPI, pydantic models in and out", 1 / theirs, 5)


def run_grpc(args, table):
    """grpcio and torch, without protobuf."""
    import grpc_peer
    import numpy as np

    with process.peer("grpc_peer.py", *sizes()) as server:
        def make_call(elements, gradient):
            step, body, reply = grpc_peer.connect(server.port, elements), gradient.tobytes(), [None]

            def call():
                reply[0] = step(body)
            return call, lambda: np.frombuffer(reply[0], np.float32)

        beside_service(args, table, "gRPC in Python and torch", 2, make_call)


def run_rpc(args, table, transport="best", target=2.5):
    """torch.distributed.rpc."""
    import rpc_peer
    import torch
    from torch.distributed import rpc

    if not rpc.is_available():
        raise RuntimeError(f"torch {torch.__version__} has no torch.distributed.rpc")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-B", rpc_peer.__file__, str(port), transport])
    try:
        rpc_peer.start("client", 1, port, transport)

        def make_call(elements, gradient):
            rpc.rpc_sync("server", rpc_peer.create, (elements,))
            grad, reply = torch.from_numpy(gradient), [None]

            def call():
                reply[0] = rpc.rpc_sync("server", rpc_peer.step, (grad,))
            return call, lambda: reply[0].numpy()

        name = "TCP alone" if transport == "tcp" else "shared memory"
        beside_service(args, table, f"torch.distributed.rpc, {name}", target, make_call)
        rpc.shutdown()
        server.wait(process.STOP_SECONDS)
    finally:
        server.kill()
        server.wait()


def run_rpc_tcp(args, table):
    """The same over TCP, as between two machines."""
    run_rpc(args, table, "tcp")


class CoreStep:
    """bench/core_step.c, told to take steps."""

    def __init__(self, path, threads, nonfinite):
        self.process = subprocess.Popen([path, str(threads), str(CORE_ELEMENTS), nonfinite], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.kernel = self.process.stdout.readline().strip()

    def seconds(self):
        """Takes a step and says how long it took."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def stop(self):
        """Ends it."""
        self.process.stdin.close()
        self.process.wait()


def run_torch(args, table):
    """torch's optimizer in this process beside adamd's core, on as many threads."""
    import torch
    import torch_peer

    print(f"   {torch_peer.describe()}", flush=True)
    for threads in sorted({1, os.cpu_count()}):
        torch.set_num_threads(threads)
        core, same = (CoreStep(args.core_step, threads, nonfinite) for nonfinite in ("error", "apply"))
        fused, plain = torch_peer.TorchStep(CORE_ELEMENTS, fused=True), torch_peer.TorchStep(CORE_ELEMENTS)
        kept = [], [], [], []
        for _ in range(CORE_ROUNDS + WARM_UP):
            for side, seconds in zip((core, same, fused, plain), kept):
                time.sleep(0.005)  # threads of the one before may still spin
                seconds.append(side.seconds())
        a, b, c, d = (1 / statistics.median(seconds[WARM_UP:]) for seconds in kept)
        core.stop()
        same.stop()
        name = f"core, {core.kernel}, 16 M, {threads} thread{'s' if threads > 1 else ''}"
        table.add(name, a, "1/s", "torch.optim.Adam(fused=True)", c, 1)
        table.add(f"{name}, NaN not looked for", b, "1/s", "torch.optim.Adam(fused=True)", c, 1)
        table.add(name, a, "1/s", "torch.optim.Adam()", d, 5)


# By name: how to run it, and the modules that it needs.
PEERS = {"fastapi": (run_fastapi, ["fastapi", "uvicorn", "numpy", "torch"]),
         "json": (run_json, ["fastapi", "uvicorn", "numpy", "torch"]),
         "grpc": (run_grpc, ["grpc", "numpy", "torch"]),
         "rpc": (run_rpc, ["numpy", "torch"]),
         "rpc-tcp": (run_rpc_tcp, ["numpy", "torch"]),
         "torch": (run_torch, ["torch"])}


def run_apart(args, name):
    """One peer in a process of its own. What went wrong, or nothing."""
    missing = [module for module in PEERS[name][1] if importlib.util.find_spec(module) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    command = [sys.executable, "-B", __file__, "--adamd", args.adamd, "--core-step", args.core_step,
               "--here", "--only", name]
    try:
        done = subprocess.run(command + (["--json", args.json] if args.json else []), timeout=PEER_SECONDS,
                              check=False)
    except subprocess.TimeoutExpired:
        return f"not done in {PEER_SECONDS} s"
    return f"exit status {done.returncode}" if done.returncode else None


def main():
    """Every peer that is asked for."""
    parser = argparse.ArgumentParser(description="Measures adamd beside its peers.")
    parser.add_argument("--adamd", required=True)
    parser.add_argument("--core-step", required=True)
    parser.add_argument("--json")
    parser.add_argument("--only", action="append", choices=PEERS)
    parser.add_argument("--here", action="store_true", help="in this process")
    args = parser.parse_args()
    for name in args.only or PEERS:
        if args.here:
            table = Table()
            PEERS[name][0](args, table)
            table.end(args.json)
            continue
        print(f"== beside {name}", file=sys.stderr, flush=True)
        wrong = run_apart(args, name)
        if wrong:
            print(f"== {name} is left out: {wrong}", file=sys.stderr, flush=True)


main()
