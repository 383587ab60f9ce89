"""Arguments as requests carry them, and a JSON reply's numbers as an array."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Mapping, Sequence
from urllib.parse import quote

import numpy as np

from . import _safetensors
from ._text import utf8

Json = Dict[str, Any]


def visible(what: str, value: str) -> str:
    """A value that a header is sure to carry."""
    if not value.isascii():
        raise ValueError(f"{what} is {value!r}, expected visible ASCII characters")
    return value


def segment(name: str) -> str:
    """A name as one segment of a path. Dots alone would mean "here" or "above"."""
    return (
        name.replace(".", "%2E") if name in (".", "..") else quote(utf8("the name", name), safe="")
    )


def json_body(value: Any) -> _safetensors.Encoded:
    text = json.dumps(value, allow_nan=False).encode("utf-8")
    return _safetensors.Encoded([text], len(text))


def from_json(nested: Any, dtype: str, shape: Sequence[int]) -> "np.ndarray[Any, Any]":
    # float("Infinity") and float("NaN") read the protocol's strings.
    return np.array(nested, dtype=np.float64).astype(dtype).reshape(shape)


def new_group(group: Mapping[str, Any]) -> Json:
    """A param group for a creation, whose "params" may be a compiled pattern."""
    sent = dict(group)
    pattern = sent.get("params")
    if isinstance(pattern, (list, tuple)):
        for name in pattern:
            utf8("the parameter name", str(name))
    if isinstance(pattern, re.Pattern):
        if not isinstance(pattern.pattern, str):
            raise TypeError(f"params is {pattern!r}, a pattern of bytes; names are str")
        extra = pattern.flags & ~re.UNICODE
        if extra:
            raise ValueError(
                f"params is {pattern!r}: {re.RegexFlag(extra)!r} cannot be sent beside a pattern; "
                'write it as PCRE2 has it, {"regex": "(?i)..."}'
            )
        sent["params"] = {"regex": pattern.pattern}
    return sent
