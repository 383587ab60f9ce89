"""Safetensors of all four types, made and read without the client, which knows two of them."""

import json

import numpy as np
import torch

CODES = {torch.float32: "F32", torch.float64: "F64", torch.bfloat16: "BF16", torch.float16: "F16"}
QUERY = {torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16", torch.float16: "f16"}


def convert(tensor, dtype):
    """To another type, rounded once. torch goes from float64 to a half by way of float32 and so rounds
    twice; adamd's contract is once. Where a float32 on the way is not exact it is taken to the odd
    one of its two neighbours, which no half is next to the middle of."""
    if tensor.dtype != torch.float64 or dtype in (torch.float32, torch.float64):
        return tensor.to(dtype)
    exact = tensor.numpy()
    near = exact.astype(np.float32)
    near = np.where(np.abs(near) > np.abs(exact), np.nextafter(near, np.float32(0)), near)
    bits = near.astype(np.float32).view(np.uint32)
    odd = np.where(np.isnan(exact) | (near == exact), bits, bits | 1).astype(np.uint32)
    return torch.from_numpy(odd.view(np.float32).reshape(exact.shape)).to(dtype)


def encode(tensors, metadata):
    """Tensors of torch's by name, and text by key, in the order given."""
    header, data = {"__metadata__": metadata} if metadata else {}, []
    at = 0
    for name, tensor in tensors.items():
        flat = tensor.contiguous().reshape(-1)
        piece = flat.view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        header[name] = {"dtype": CODES[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [at, at + len(piece)]}
        at += len(piece)
        data.append(piece)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *data])


def decode(body):
    """Tensors of torch's by name, and the metadata."""
    length = int.from_bytes(body[:8], "little")
    header = json.loads(body[8:8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        dtype = {code: t for t, code in CODES.items()}[entry["dtype"]]
        tensors[name] = torch.empty(entry["shape"], dtype=dtype)
        if begin < end:
            flat = torch.from_numpy(np.frombuffer(body[begin:end], np.uint8).copy())
            tensors[name] = flat.view(dtype).reshape(entry["shape"])
    return tensors, metadata


def metadata_text(members):
    """A step's members as metadata has them: words bare, all else as JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in members.items()}
