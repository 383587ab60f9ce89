"""The digest of a state_dict, as GET .../digest gives it, computed here from the state itself.
docs/state_dict.md describes the bytes; the server's code has no part in this."""

from __future__ import annotations

import hashlib
import math
import struct
from typing import Any, Dict, Mapping

import numpy as np

from ._text import utf8

_DTYPES = {"f4": "float32", "f8": "float64"}
_NORMS = {"2": 0, "inf": 1}
_NONFINITE = {"error": 0, "skip": 1, "apply": 2}
_HEAD = {"algorithm", "step", "param_groups", "steps"}
_GRADIENTS = {
    "grad_scale",
    "max_grad_norm",
    "clip_value",
    "norm_type",
    "error_if_nonfinite",
    "nonfinite",
}
# What decides no step, and stands in no digest.
_INERT = {"foreach", "capturable", "differentiable", "fused"}
_OPTIONS = {
    "params",
    "lr",
    "betas",
    "eps",
    "weight_decay",
    "amsgrad",
    "maximize",
    "bias_correction",
    "buffers",
    "initial_lr",
    "schedule",
}


def _u8(value: int) -> bytes:
    return struct.pack("<B", value)


def _u32(value: int) -> bytes:
    return struct.pack("<I", value)


def _u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def _f64(value: float) -> bytes:
    return struct.pack("<d", float(value))  # the protocol has "Infinity" as a string


def _string(value: str) -> bytes:
    text = utf8("the text", value)
    return _u32(len(text)) + text


def _value(value: Any) -> bytes:
    """A value of a schedule, with a tag for its type; members of objects are sorted by name."""
    if isinstance(value, bool):
        return _u8(2) + _u8(value)
    if isinstance(value, (int, float)):
        return _u8(1) + _f64(value)
    if isinstance(value, str):
        return _u8(3) + _string(value)
    if isinstance(value, list):
        return _u8(4) + _u32(len(value)) + b"".join(map(_value, value))
    names = sorted(value, key=lambda name: name.encode("utf-8"))
    return _u8(5) + _u32(len(names)) + b"".join(_string(n) + _value(value[n]) for n in names)


def _schedule(group: Mapping[str, Any]) -> bytes:
    if group.get("schedule") is None:
        return _u8(0)
    return _u8(1) + _f64(group["initial_lr"]) + _value(group["schedule"])


def _limit(value: Any) -> float:
    return math.inf if value is None else float(value)


def _known(mapping: Mapping[str, Any], names: "set[str]", where: str) -> None:
    for name in mapping:
        if name not in names:
            raise ValueError(f"{where} has {name!r}, which this digest knows nothing of")


def _gradients(header: Mapping[str, Any]) -> bytes:
    return (
        _f64(header.get("grad_scale", 1.0))
        + _f64(_limit(header.get("max_grad_norm")))
        + _f64(_limit(header.get("clip_value")))
        + _u8(_NORMS[str(header.get("norm_type", 2))])
        + _u8(header.get("error_if_nonfinite", False))
        + _u8(_NONFINITE[header.get("nonfinite", "error")])
    )


class _Hasher:
    def __init__(self, arrays: Mapping[str, "np.ndarray[Any, Any]"], header: Mapping[str, Any]):
        self._arrays = arrays
        self._header = header
        self._hash = hashlib.sha256()

    def _values(self, key: str) -> None:
        array = self._arrays[key]
        # Row-major and little-endian; the array itself where it is that already.
        self._hash.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)

    def _param(self, name: str) -> None:
        values = np.asarray(self._arrays["params/" + name])
        head = _string(name) + _string(_DTYPES[values.dtype.str[1:]]) + _u32(values.ndim)
        head += b"".join(_u64(size) for size in values.shape)
        self._hash.update(head + _u64(self._header["steps"][name]))
        for kind in ("params/", "exp_avg/", "exp_avg_sq/"):
            self._values(kind + name)
        has_max = "max_exp_avg_sq/" + name in self._arrays
        self._hash.update(_u8(has_max))
        if has_max:
            self._values("max_exp_avg_sq/" + name)

    def _group(self, group: Mapping[str, Any], index: int) -> None:
        _known(group, _OPTIONS | _INERT, f"param group {index}")
        numbers = [group["lr"], *group["betas"], group["eps"], group["weight_decay"]]
        self._hash.update(b"".join(map(_f64, numbers)))
        self._hash.update(_u8(group["amsgrad"]) + _u8(group["maximize"]))
        own = [group.get("bias_correction", True), group.get("buffers", False)]
        self._hash.update(b"".join(map(_u8, own)) + _schedule(group))
        self._hash.update(_u32(len(group["params"])))
        for name in group["params"]:
            self._param(name)

    def digest(self) -> str:
        header = self._header
        _known(header, _HEAD | _GRADIENTS, "the state_dict")
        self._hash.update(b"adamd digest" + _u32(2) + _string(header["algorithm"]))
        self._hash.update(_u64(header["step"]) + _gradients(header))
        self._hash.update(_u32(len(header["param_groups"])))
        for index, group in enumerate(header["param_groups"]):
            self._group(group, index)
        return "sha256:" + self._hash.hexdigest()


def digest(arrays: Mapping[str, Any], header: Dict[str, Any]) -> str:
    """The text "sha256:<hex>" for a state."""
    return _Hasher(arrays, header).digest()
