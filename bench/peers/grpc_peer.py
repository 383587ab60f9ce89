"""A parameter server as one writes it with grpcio and torch: the peer of adamd over gRPC.

A unary call of the bytes of a float32 gradient; the answer is those of the parameter. The bytes are the
message: no protobuf is in the figures. The arguments are the sizes of the parameters.
"""

import concurrent.futures
import signal
import sys
import warnings

import grpc

OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1),
           ("grpc.so_reuseport", 0)]


def connect(port, elements):
    """The call of one size over a channel that stays open: the gradient's bytes in, the parameter's out."""
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS).unary_unary(f"/Step/{elements}")


def make_step(elements):
    """What serves the call of one size."""
    import torch  # the client does without

    warnings.filterwarnings("ignore", message="The given buffer is not writable")
    param = torch.nn.Parameter(torch.zeros(elements))
    optimizer = torch.optim.Adam([param], lr=1e-3, fused=True)

    def step(request, _context):
        param.grad = torch.frombuffer(request, dtype=torch.float32)
        optimizer.step()
        return param.detach().numpy().tobytes()

    return grpc.unary_unary_rpc_method_handler(step)


def main():
    """Listens, says where, serves until SIGTERM."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=1), options=OPTIONS)
    handlers = {elements: make_step(int(elements)) for elements in sys.argv[1:]}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Step", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    server.stop(None)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
    main()
