"""torch's own parameter server, torch.distributed.rpc over TensorPipe: the peer of adamd among torch users.

One process owns the parameters and their optimizers; the client calls it with a gradient and gets the
parameter. As a program it is one side: rpc_peer.py server|client PORT best|tcp. The client takes lines:
"create ELEMENTS", "step", each of which it answers with its seconds, and "save FILE". It is a process
of its own because TensorPipe's threads poll in both, and are stopped while adamd has its turn.
"""

import sys
import time
import warnings

import torch
from torch.distributed import rpc

# What TensorPipe may use: all it has, which between processes of one machine is shared memory and
# process_vm_readv; or what it would use between two machines.
TRANSPORTS = {"best": {}, "tcp": {"_transports": ["uv"], "_channels": ["basic"]}}
owned = {}


def start(name, rank, port, transport):
    """Joins the two processes; returns when both are there."""
    warnings.filterwarnings("ignore")
    options = rpc.TensorPipeRpcBackendOptions(init_method=f"tcp://127.0.0.1:{port}", rpc_timeout=60,
                                              **TRANSPORTS[transport])
    rpc.init_rpc(name, rank=rank, world_size=2, rpc_backend_options=options)


def create(elements):
    """On the server: a parameter of zeros and its optimizer."""
    param = torch.nn.Parameter(torch.zeros(elements))
    owned[elements] = param, torch.optim.Adam([param], lr=1e-3, fused=True)


def step(grad):
    """On the server: one step, and the parameter."""
    param, optimizer = owned[grad.numel()]
    param.grad = grad
    optimizer.step()
    return param.detach()


def serve_client():
    """Does what the lines say until they end."""
    import numpy as np

    import rpc_peer  # the server knows the functions by this name
    from client import make_gradient

    grad = reply = None
    print("ready", flush=True)
    for line in sys.stdin:
        verb, _, what = line.strip().partition(" ")
        begin = time.perf_counter()
        if verb == "create":
            grad = torch.from_numpy(make_gradient(int(what)))
            rpc.rpc_sync("server", rpc_peer.create, (grad.numel(),))
        elif verb == "step":
            reply = rpc.rpc_sync("server", rpc_peer.step, (grad,))
        else:
            np.save(what, reply.numpy())
        print(time.perf_counter() - begin, flush=True)


def main():
    """One side, until the client's lines end."""
    side, port, transport = sys.argv[1:]
    start(side, int(side == "client"), int(port), transport)
    if side == "client":
        serve_client()
    rpc.shutdown()


if __name__ == "__main__":
    main()
