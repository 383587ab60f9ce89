"""torch's own parameter server, torch.distributed.rpc over TensorPipe: the peer of adamd among torch users.

One process owns the parameters and their optimizers; the client calls it with a gradient and gets the
parameter. Both sides import this file; as a program it is the server: rpc_peer.py PORT TRANSPORT.
"""

import os
import sys
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


def main():
    """Serves until the client shuts down."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    start("server", 0, int(sys.argv[1]), sys.argv[2])
    rpc.shutdown()


if __name__ == "__main__":
    main()
