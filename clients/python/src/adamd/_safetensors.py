"""Safetensors, both ways. Arrays are not copied: encoding gives views of them, decoding gives views
of the one buffer that was received. Four types of numbers; knows no HTTP.

numpy has no bfloat16. Arrays of ml_dtypes.bfloat16 are sent as what they are, and so are torch
tensors, of any type and with requires_grad too; what comes back is an ml_dtypes.bfloat16 array
where that package is installed, and otherwise a float32 array of the same values, which is a copy.
"""

from __future__ import annotations

import json
import math
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np

from ._text import utf8

try:
    import ml_dtypes  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    ml_dtypes = None

MAX_HEADER = 100_000_000
"""Bytes of a header, as the reference implementation has it."""

_ALIGNMENT = 64
_DTYPES: Dict[str, "np.dtype[Any]"] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # its bits
}
_CODES = {"float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16"}

Buffer = Any
"""Whatever has the buffer protocol: bytes, bytearray, an array."""


class FormatError(ValueError):
    """The bytes are no safetensors file that adamd would send."""


class Encoded(NamedTuple):
    """A file in parts, in the order in which they are sent, and their total length."""

    parts: List[Union[bytes, memoryview]]
    length: int


def _native(name: str, value: Any) -> "Tuple[np.ndarray[Any, Any], str]":
    """The array to send, row-major and little-endian (itself where it is that already), and its
    type's code."""
    if str(getattr(value, "dtype", "")).startswith("torch."):
        import torch

        value = value.detach().cpu()  # a parameter, or on another device: numpy takes neither
        if value.dtype is torch.bfloat16:  # which numpy cannot be given
            return value.contiguous().view(torch.int16).numpy(), "BF16"
    array = np.asarray(value)
    code = _CODES.get(array.dtype.name)
    if code is None:
        raise TypeError(
            f"tensor {name!r} has dtype {array.dtype}, expected float32, float64, float16 or "
            "bfloat16"
        )
    little = array.dtype if code == "BF16" else array.dtype.newbyteorder("<")
    return np.asarray(array, dtype=little, order="C"), code


def _brain(bits: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Bits of bfloat16 as numbers."""
    if ml_dtypes is not None:
        return bits.view(ml_dtypes.bfloat16)
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def encode(tensors: Mapping[str, Any], metadata: Optional[Mapping[str, str]] = None) -> Encoded:
    """Tensors in the header's order are those of the mapping. The data of the widest stands first,
    so that every tensor starts at a multiple of its element size."""
    arrays: Dict[str, "np.ndarray[Any, Any]"] = {}
    codes = {}
    for name, value in tensors.items():
        if not isinstance(name, str):
            raise TypeError(f"tensor name {name!r} is a {type(name).__name__}, expected str")
        utf8("the tensor name", name)
        arrays[name], codes[name] = _native(name, value)
    order = sorted(arrays, key=lambda name: -arrays[name].itemsize)  # stable
    offsets: Dict[str, Tuple[int, int]] = {}
    at = 0
    for name in order:
        offsets[name] = (at, at + arrays[name].nbytes)
        at += arrays[name].nbytes
    for key, text in (metadata or {}).items():
        utf8(f"the metadata {key!r},", text)
    header: Dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    for name, array in arrays.items():
        if name == "__metadata__":
            raise ValueError("a tensor cannot be named '__metadata__'")
        header[name] = {
            "dtype": codes[name],
            "shape": list(array.shape),
            "data_offsets": list(offsets[name]),
        }
    head = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    head += b" " * (-(8 + len(head)) % _ALIGNMENT)
    if len(head) > MAX_HEADER:
        raise ValueError(f"the header takes {len(head)} bytes, expected at most {MAX_HEADER}")
    parts: List[Union[bytes, memoryview]] = [len(head).to_bytes(8, "little") + head]
    for name in order:
        if arrays[name].nbytes:
            parts.append(arrays[name].reshape(-1).view(np.uint8).data)
    return Encoded(parts, 8 + len(head) + at)


def _no_duplicates(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise FormatError(f"{twice!r} stands twice in the header")
    return found


def _no_constants(text: str) -> Any:
    raise FormatError(f"{text} in the header, expected JSON")


def _header(view: memoryview) -> Tuple[Dict[str, Any], int]:
    """The header, and where the data begins."""
    if len(view) < 8:
        raise FormatError(f"{len(view)} bytes, expected at least 8")
    length = int.from_bytes(view[:8], "little")
    if length > MAX_HEADER or length > len(view) - 8:
        raise FormatError(f"a header of {length} bytes in a file of {len(view)}")
    text = bytes(view[8 : 8 + length])
    if not text.startswith(b"{"):
        raise FormatError("the header does not begin with '{'")
    try:
        header = json.loads(
            text.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constants
        )
    except FormatError:
        raise
    except ValueError as error:
        raise FormatError(f"the header is not JSON: {error}") from None
    return header, 8 + length


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0  # bool is an int too, and is none here


class _Entry(NamedTuple):
    name: str
    code: str
    dtype: "np.dtype[Any]"
    shape: Tuple[int, ...]
    begin: int
    end: int


def _entry(name: str, value: Any) -> _Entry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"tensor {name!r}: expected dtype, shape and data_offsets alone")
    shape, offsets = value["shape"], value["data_offsets"]
    dtype = _DTYPES.get(value["dtype"]) if isinstance(value["dtype"], str) else None
    if dtype is None:
        raise FormatError(
            f"tensor {name!r} has dtype {value['dtype']!r}, expected {', '.join(_DTYPES)}"
        )
    if not isinstance(shape, list) or not all(map(_is_count, shape)):
        raise FormatError(f"tensor {name!r} has shape {shape!r}, expected a list of sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_count, offsets)):
        raise FormatError(f"tensor {name!r} has data_offsets {offsets!r}, expected two")
    begin, end = offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise FormatError(f"tensor {name!r}: {end - begin} bytes do not hold {shape} of {dtype}")
    return _Entry(name, value["dtype"], dtype, tuple(shape), begin, end)


def decode(buffer: Buffer) -> Tuple[Dict[str, "np.ndarray[Any, Any]"], Dict[str, str]]:
    """The tensors, in the header's order, as views of `buffer`, and the metadata."""
    view = memoryview(buffer).cast("B")
    header, start = _header(view)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FormatError("__metadata__: expected strings alone")
    entries = [_entry(name, value) for name, value in header.items()]
    at = 0
    for entry in sorted(entries, key=lambda e: (e.begin, e.end)):
        if entry.begin != at:
            raise FormatError(f"tensor {entry.name!r} begins at {entry.begin}, expected {at}")
        at = entry.end
    if at != len(view) - start:
        raise FormatError(f"{len(view) - start} bytes of data, expected {at}")
    tensors = {}
    for name, code, dtype, shape, begin, end in entries:
        if begin == end:
            array = np.empty(shape, dtype)
        else:
            count = (end - begin) // dtype.itemsize
            array = np.frombuffer(view, dtype, count, start + begin).reshape(shape)
        array = array if array.flags.aligned else array.copy()
        tensors[name] = _brain(array) if code == "BF16" else array
    return tensors, metadata
