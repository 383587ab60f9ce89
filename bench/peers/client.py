"""Just enough HTTP over one raw socket, for adamd and its HTTP peers alike; and the bodies it sends.

No client library is in the figures. Knows nothing of optimizers but the names of tensors.
"""

import json
import socket
import struct

SAFETENSORS = "application/vnd.safetensors"
HEADER_ROOM = 1 << 16
HEADER_BYTES = 128  # of a safetensors file: its length and header, padded


class Client:
    """One connection that stays open. Replies land in a buffer that is made once."""

    def __init__(self, port, room):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray(HEADER_ROOM + room)
        self.view = memoryview(self.buffer)

    def request(self, method, path, content_type, body, expected=200):
        """Sends a request and receives the whole reply. Its body is a view that holds until the next one."""
        head = (f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n").encode()
        self.socket.sendall(head, socket.MSG_MORE)
        self.socket.sendall(body)
        have, end = 0, -1
        while end < 0:
            got = self.socket.recv_into(self.view[have:])
            if got == 0:
                raise ConnectionError(f"no reply to {method} {path}")
            have += got
            end = self.buffer.find(b"\r\n\r\n", 0, min(have, HEADER_ROOM))
        head = bytes(self.view[:end]).lower()
        start = end + 4
        status = int(head[9:12])
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if start + length > len(self.buffer):
            raise ValueError(f"{method} {path}: a reply of {length} bytes does not fit")
        while have < start + length:
            got = self.socket.recv_into(self.view[have:start + length])
            if got == 0:
                raise ConnectionError(f"{method} {path}: the reply ended early")
            have += got
        reply = self.view[start:start + length]
        if status != expected:
            raise ValueError(f"{method} {path}: status {status}, not {expected}: {bytes(reply[:300])!r}")
        return reply

    def close(self):
        """Ends the connection."""
        self.socket.close()


def create_optimizer(client, name, elements):
    """An adamd optimizer with torch's defaults and one parameter `w` of zeros, as every peer has."""
    spec = {"algorithm": "adam", "defaults": {"lr": 1e-3},
            "param_groups": [{"params": [{"name": "w", "shape": [elements]}]}]}
    client.request("PUT", f"/v1/optimizers/{name}", "application/json", json.dumps(spec).encode(), 201)


def make_gradient(elements):
    """The same for every peer, and of no special digits."""
    import numpy as np

    return np.random.default_rng(1).normal(0, 0.01, elements).astype(np.float32)


def safetensors_body(values):
    """A safetensors file with one float32 tensor `w`."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [values.size], "data_offsets": [0, 4 * values.size]}})
    length = HEADER_BYTES - 8
    return struct.pack("<Q", length) + header.encode().ljust(length) + values.tobytes()


def safetensors_values(file):
    """The bytes of the only tensor of a safetensors file."""
    (length,) = struct.unpack("<Q", file[:8])
    return file[8 + length:]
