"""Measures adamd beside its peers and prints each as a ratio of their speeds.

    run.py --adamd PATH --core-step PATH [--json FILE] [--only PEER]...

One client on 127.0.0.1, one float32 parameter, connections that stay open. adamd and the peer take
turns, so that both see the same machine, of some steps each, as training takes them: the first of a
turn, which finds the other's data in the caches, does not count. Of the others the medians do. A peer
stands still while adamd has its turn: the threads of some spin when they have nothing to do. Every peer
runs in a process of its own, so that one that fails leaves the others alone; it is left out with a line
that says so.
"""

import argparse
import functools
import importlib.util
import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import process  # noqa: E402
from client import (SAFETENSORS, Client, create_optimizer, make_gradient,  # noqa: E402
                    safetensors_body, safetensors_values)
from table import Table  # noqa: E402

SIZES = [("1 K", 1 << 10, (20, 100)), ("1 M", 1 << 20, (8, 20)), ("16 M", 16 << 20, (5, 3))]  # turns, steps of each
JSON_ELEMENTS, JSON_TURNS = 1 << 20, (4, 2)
CORE_ELEMENTS, CORE_TURNS = 16 << 20, (6, 4)
REPLY_SLACK = 4096
PEER_SECONDS = 90


def timed(call):
    """Its seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def by_turns(ours, theirs, turns, processes):
    """The median of the seconds that each gives. The peer's processes run in its turns alone."""
    count, steps = turns
    kept = [], []
    for _ in range(count):
        ours()
        kept[0].extend(ours() for _ in range(steps))
        with process.awake(processes):
            theirs()
            kept[1].extend(theirs() for _ in range(steps))
    return [statistics.median(seconds) for seconds in kept]


def check_alike(ours, theirs):
    """Both took the same steps from zero: where the parameters differ, the figures mean nothing."""
    import numpy as np

    a, b = np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
    if a.shape != b.shape or not np.allclose(a, b, rtol=1e-3, atol=1e-5):
        raise RuntimeError("adamd and its peer do not have the same parameters")


def beside_service(args, table, peer, target, make_step, processes):
    """Steps of each size. make_step(elements) gives the peer's step, which gives its seconds, and a function
    that gives the parameters of its last answer."""
    import numpy as np

    with process.adamd(args.adamd) as server:
        for name, elements, turns in SIZES:
            client = Client(server.port, 4 * elements + REPLY_SLACK)
            create_optimizer(client, str(elements), elements)
            path, body = f"/v1/optimizers/{elements}/step", safetensors_body(make_gradient(elements))
            ours = functools.partial(client.request, "POST", path, SAFETENSORS, body)
            with process.awake(processes):
                theirs, answer = make_step(elements)
            a, b = by_turns(functools.partial(timed, ours), theirs, turns, processes)
            last = safetensors_values(ours())
            with process.awake(processes):
                theirs()
                check_alike(np.frombuffer(last, np.float32), answer())
            table.add(f"step, client in Python, {name} parameters", 1 / a, "1/s", peer, 1 / b, target)
            client.close()


def sizes():
    """As a server's arguments."""
    return [str(elements) for _, elements, _ in SIZES]


def keep_reply(call):
    """A step for beside_service from a call that gives bytes."""
    import numpy as np

    reply = [None]

    def step():
        reply[0] = call()

    return functools.partial(timed, step), lambda: np.frombuffer(reply[0], np.float32)


def run_fastapi(args, table):
    """FastAPI and torch behind the same client code."""
    with process.peer("fastapi_peer.py", *sizes()) as server:
        def make_step(elements):
            client, body = Client(server.port, 4 * elements + REPLY_SLACK), make_gradient(elements).tobytes()
            return keep_reply(lambda: client.request("POST", f"/step/{elements}", "application/octet-stream", body))

        beside_service(args, table, "FastAPI, uvicorn and torch", 6, make_step, [server.process])


def run_json(args, table):
    """The same with numbers as text. FastAPI validates and prints with pydantic, as it does by itself."""
    values = ",".join(map(str, make_gradient(JSON_ELEMENTS)))
    body = ('{"grads": {"w": [' + values + "]}}").encode()
    room, kind = 32 * JSON_ELEMENTS, "application/json"
    with process.adamd(args.adamd, "--max-json-body", "64M") as server, process.peer("fastapi_peer.py") as peer:
        client, other = Client(server.port, room), Client(peer.port, room)
        create_optimizer(client, "json", JSON_ELEMENTS)
        calls = (lambda: client.request("POST", "/v1/optimizers/json/step", kind, body),
                 lambda: other.request("POST", "/json", kind, body))
        sides = [functools.partial(timed, call) for call in calls]
        ours, theirs = by_turns(*sides, JSON_TURNS, [peer.process])
        with process.awake([peer.process]):
            check_alike(*(json.loads(bytes(call()))["params"]["w"] for call in calls))
        table.add("step in JSON, client in Python, 1 M parameters", 1 / ours, "1/s",
                  "FastAPI, pydantic models in and out", 1 / theirs, 5)


def run_grpc(args, table):
    """grpcio and torch, without protobuf."""
    import grpc_peer

    with process.peer("grpc_peer.py", *sizes()) as server:
        def make_step(elements):
            step, body = grpc_peer.connect(server.port, elements), make_gradient(elements).tobytes()
            return keep_reply(lambda: step(body))

        beside_service(args, table, "gRPC in Python and torch", 2, make_step, [server.process])


def run_rpc(args, table, transport="best"):
    """torch.distributed.rpc."""
    import numpy as np

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-B", os.path.join(process.HERE, "rpc_peer.py")]
    server = process.start([*command, "server", port, transport])
    client = process.Told([*command, "client", port, transport])
    both = [server, client.process]
    try:
        if client.said != "ready":
            raise RuntimeError("torch.distributed.rpc does not start")
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "params.npy")

            def read_answer():
                client.tell(f"save {file}")
                return np.load(file)

            def make_step(elements):
                client.tell(f"create {elements}")
                return functools.partial(client.tell, "step"), read_answer

            name = "TCP alone" if transport == "tcp" else "shared memory"
            beside_service(args, table, f"torch.distributed.rpc, {name}", 2.5, make_step, both)
        for one in both:
            one.send_signal(signal.SIGCONT)
        client.stop()
        server.wait(process.STOP_SECONDS)
    finally:
        for one in both:
            one.kill()
            one.wait()


def run_rpc_tcp(args, table):
    """The same over TCP, as between two machines."""
    run_rpc(args, table, "tcp")


def run_torch(args, table):
    """torch's optimizer in this process beside adamd's core, on as many threads."""
    import torch
    import torch_peer

    print(f"   {torch_peer.describe()}", flush=True)
    for threads in sorted({1, os.cpu_count()}):
        torch.set_num_threads(threads)
        core, same = (process.Told([args.core_step, str(threads), str(CORE_ELEMENTS), nonfinite])
                      for nonfinite in ("error", "apply"))
        fused, plain = torch_peer.TorchStep(CORE_ELEMENTS, fused=True), torch_peer.TorchStep(CORE_ELEMENTS)
        kept = [], [], [], []
        for _ in range(CORE_TURNS[0]):
            for step, seconds in zip((core.tell, same.tell, fused.seconds, plain.seconds), kept):
                time.sleep(0.005)  # torch's threads may still spin
                seconds.append([step() for _ in range(CORE_TURNS[1] + 1)][1:])
        a, b, c, d = (1 / statistics.median(itertools.chain(*seconds)) for seconds in kept)
        core.stop()
        same.stop()
        name = f"core, {core.said}, 16 M, {threads} thread{'s' if threads > 1 else ''}"
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
               "--here", "--only", name, *(["--json", args.json] if args.json else [])]
    child = process.start(command)
    try:
        status = child.wait(PEER_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return f"not done in {PEER_SECONDS} s"
    return f"exit status {status}" if status else None


def run_here(args, name):
    """One peer in this process."""
    table = Table()
    try:
        PEERS[name][0](args, table)
    except (RuntimeError, ValueError, OSError, ImportError) as error:
        sys.exit(f"{name}: {error}")
    finally:
        table.end(args.json)


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
            run_here(args, name)
            continue
        print(f"== beside {name}", file=sys.stderr, flush=True)
        wrong = run_apart(args, name)
        if wrong:
            print(f"== {name} is left out: {wrong}", file=sys.stderr, flush=True)


main()
