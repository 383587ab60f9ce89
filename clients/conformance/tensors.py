"""Tensors as the cases write them, as drivers get them, and as safetensors files. Standard library
alone; the official safetensors package reads along where it is installed."""

from __future__ import annotations

import json
import math
import struct
from typing import Any, Dict, List, Tuple

try:
    import safetensors  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    safetensors = None

Json = Dict[str, Any]

# Name, code in a file, bytes of an element.
DTYPES = {
    "float32": ("F32", 4),
    "float64": ("F64", 8),
    "bfloat16": ("BF16", 2),
    "float16": ("F16", 2),
}
_BY_CODE = {code: name for name, (code, _) in DTYPES.items()}


class BadFile(ValueError):
    """Bytes that are no safetensors file of the four types."""


def _element(dtype: str, value: float) -> bytes:
    if dtype == "float64":
        return struct.pack("<d", value)
    if dtype == "float16":
        return struct.pack("<e", value)
    bits = struct.pack("<f", value)
    if dtype == "float32":
        return bits
    if bits[:2] != b"\0\0":
        raise ValueError(f'{value} is no bfloat16: write its bits, with "hex"')
    return bits[2:]


def _flat(data: Any) -> List[float]:
    if isinstance(data, list):
        return [number for part in data for number in _flat(part)]
    return [float(data)]  # reads "NaN", "Infinity" too


def _shape(data: Any) -> List[int]:
    return [len(data), *(_shape(data[0]) if data else [])] if isinstance(data, list) else []


def wire(spec: Any) -> Json:
    """A tensor of a case, as a driver gets it: {"dtype", "shape", "hex"}. A list of numbers is a
    float32 tensor of that shape."""
    if not isinstance(spec, dict):
        spec = {"data": spec}
    dtype = spec.get("dtype", "float32")
    if "hex" in spec:
        return {"dtype": dtype, "shape": spec["shape"], "hex": spec["hex"].lower()}
    data = spec["data"]
    text = b"".join(_element(dtype, number) for number in _flat(data)).hex()
    return {"dtype": dtype, "shape": spec.get("shape", _shape(data)), "hex": text}


def wires(specs: Json) -> Json:
    return {name: wire(spec) for name, spec in specs.items()}


def readable(tensor: Json) -> str:
    """For a message."""
    return f"{tensor['dtype']}{tensor['shape']} {tensor['hex'][:64]}"


def _no_duplicates(pairs: List[Tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadFile("a name stands twice in the header")
    return found


def unpack(file: bytes, aligned: bool = False) -> Tuple[Json, Json]:
    """The tensors and the metadata of a file, which is read strictly. `aligned`: every tensor must
    begin at a multiple of its element's size, as the server reads it without a copy then."""
    if len(file) < 8:
        raise BadFile(f"{len(file)} bytes are no safetensors file")
    length = int.from_bytes(file[:8], "little")
    if length > len(file) - 8 or file[8:9] != b"{":
        raise BadFile(f"a header of {length} bytes in {len(file)}, which must begin with '{{'")
    header = json.loads(file[8 : 8 + length].decode("utf-8"), object_pairs_hook=_no_duplicates)
    metadata = header.pop("__metadata__", {})
    data = file[8 + length :]
    tensors, at = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype = _BY_CODE.get(entry["dtype"])
        if dtype is None or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise BadFile(f"the entry of {name!r} is {entry}")
        begin, end = entry["data_offsets"]
        size = DTYPES[dtype][1]
        if begin != at or end - begin != math.prod(entry["shape"]) * size:
            raise BadFile(f"{name!r} has offsets {begin} to {end}, expected to begin at {at}")
        if aligned and (8 + length + begin) % size:
            raise BadFile(f"{name!r} begins at byte {8 + length + begin}, no multiple of {size}")
        tensors[name] = {"dtype": dtype, "shape": entry["shape"], "hex": data[begin:end].hex()}
        at = end
    if at != len(data):
        raise BadFile(f"{len(data)} bytes of data, expected {at}")
    if safetensors is not None:
        official = {name: entry for name, entry in safetensors.deserialize(file)}
        for name, tensor in tensors.items():
            if bytes(official[name]["data"]).hex() != tensor["hex"]:
                raise BadFile(f"the safetensors package reads {name!r} differently")
    return tensors, metadata


def pack(tensors: Json, metadata: Json) -> bytes:
    """A file as the official package lays it out: wide types first, then by name, the header padded
    with spaces to a multiple of 8."""
    order = sorted(tensors, key=lambda name: (-DTYPES[tensors[name]["dtype"]][1], name))
    header: Json = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name in order:
        begin = len(data)
        data += bytes.fromhex(tensors[name]["hex"])
        code = DTYPES[tensors[name]["dtype"]][0]
        offsets = [begin, len(data)]
        header[name] = {"dtype": code, "shape": tensors[name]["shape"], "data_offsets": offsets}
    head = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + data
