"""What a case expects, held against what came: the requests that a client sent, and the results
that its driver gave. Each check gives a list of what is wrong."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

import tensors
from proxy import Request

Json = Dict[str, Any]

# Metadata whose value is JSON: compared as such.
_JSON_METADATA = {"param_groups", "optimizer", "param_group", "state_dict", "betas"}
# What must be the same in a repeat.
_KEPT = ("idempotency-key", "if-match", "adam-worker", "adam-weight", "adam-based-on", "prefer",
         "content-type", "accept", "if-none-match", "last-event-id")  # fmt: skip


def fill(value: Any, variables: Mapping[str, Any]) -> Any:
    """With variables in the place of "$name", and "{name}" within texts replaced."""
    if isinstance(value, list):
        return [fill(part, variables) for part in value]
    if isinstance(value, dict):
        return {fill(k, variables): fill(v, variables) for k, v in value.items()}
    if not isinstance(value, str):
        return value
    if value.startswith("$") and value[1:] in variables:
        return variables[value[1:]]
    for name, found in variables.items():
        if isinstance(found, (str, int)):
            value = value.replace("{" + name + "}", str(found))
    return value


def _number(value: Any) -> Optional[float]:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def like(expected: Any, found: Any, where: str) -> List[str]:
    """An object may hold more than is expected, a list may not. "~..." is a pattern, "$any" is
    anything; {"$not": x}; {"$keys": [...]}: exactly these."""
    if expected == "$any":
        return []
    if isinstance(expected, dict):
        if "$not" in expected:
            same = not like(expected["$not"], found, where)
            return [f"{where} is {found!r}, expected another"] if same else []
        if not isinstance(found, dict):
            return [f"{where} is {found!r}, expected an object"]
        if "$keys" in expected and sorted(found) != sorted(expected["$keys"]):
            return [f"{where} has {sorted(found)}, expected {sorted(expected['$keys'])}"]
        wrong = []
        for key, value in expected.items():
            if key == "$keys":
                continue
            if key not in found:
                wrong.append(f"{where}.{key} is missing")
            else:
                wrong += like(value, found[key], f"{where}.{key}")
        return wrong
    if isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            return [f"{where} is {found!r}, expected {len(expected)} items: {expected!r}"]
        pairs = enumerate(zip(expected, found))
        return [text for i, (a, b) in pairs for text in like(a, b, f"{where}[{i}]")]
    if isinstance(expected, str) and expected.startswith("~"):
        right = isinstance(found, str) and re.search(expected[1:], found) is not None
        return [] if right else [f"{where} is {found!r}, expected like {expected[1:]!r}"]
    same = type(expected) is type(found) and expected == found
    if not same and not isinstance(expected, (bool, str)) and not isinstance(found, (bool, str)):
        same = _number(expected) is not None and _number(expected) == _number(found)
    return [] if same else [f"{where} is {found!r}, expected {expected!r}"]


def same_tensors(expected: Json, found: Any, where: str) -> List[str]:
    """The same names, and each to the bit."""
    if not isinstance(found, dict):
        return [f"{where} is {found!r}, expected tensors"]
    if sorted(expected) != sorted(found):
        return [f"{where} has {sorted(found)}, expected {sorted(expected)}"]
    wrong = []
    for name, spec in expected.items():
        a, b = tensors.wire(spec), found[name]
        if a != {**b, "hex": b["hex"].lower()}:
            wrong.append(f"{where}.{name} is {tensors.readable(b)}, expected {tensors.readable(a)}")
    return wrong


def _metadata(expected: Json, found: Json) -> List[str]:
    wrong = []
    if sorted(expected) != sorted(found):
        return [f"the metadata has {sorted(found)}, expected {sorted(expected)}"]
    for key, value in expected.items():
        text = found[key]
        if key in _JSON_METADATA:
            got = json.loads(text)
            if like(value, got, "") or like(got, value, ""):
                wrong.append(f"metadata.{key} is {got!r}, expected {value!r}")
        elif _number(value) is not None:
            if _number(text) != _number(value):
                wrong.append(f"metadata.{key} is {text!r}, expected {value!r}")
        elif text != value:
            wrong.append(f"metadata.{key} is {text!r}, expected {value!r}")
    return wrong


def _tensors_sent(spec: Json, sent: Request) -> List[str]:
    try:
        found, metadata = tensors.unpack(sent.body, aligned=True)
    except (tensors.BadFile, ValueError, KeyError) as error:
        return [f"the body is no good safetensors file: {error}"]
    wrong = same_tensors(spec["tensors"], found, "body") if "tensors" in spec else []
    expected = spec.get("metadata", {})
    return wrong if expected == "$any" else wrong + _metadata(expected, metadata)


def _header(name: str, expected: Any, sent: Request) -> List[str]:
    found = sent.header(name)
    if found is None:
        return [f"no header {name}, expected {expected!r}"]
    if name.lower() == "adam-weight":  # "2" and "2.0" say the same
        right = _number(found) == _number(expected)
        return [] if right else [f"{name} is {found!r}, expected {expected!r}"]
    return like(expected, found, name)


def _same(before: Request, sent: Request) -> List[str]:
    wrong = []
    for part in ("method", "target", "body"):
        if getattr(before, part) != getattr(sent, part):
            wrong.append(f"the repeat has another {part} than the request before")
    for name in _KEPT:
        if before.header(name) != sent.header(name):
            wrong.append(
                f"the repeat has {name} {sent.header(name)!r}, the request before "
                f"{before.header(name)!r}"
            )
    return wrong


def request(spec: Json, sent: Request, before: Optional[Request]) -> List[str]:
    """One request against its expectation; `before` is the one before it."""
    if spec.get("same"):
        wrong = _same(before, sent) if before is not None else ["there was no request before"]
        return [] if wrong and "or" in spec and not request(spec["or"], sent, before) else wrong
    wrong: List[str] = []
    for part, found in (("method", sent.method), ("path", sent.target)):
        if part in spec:
            wrong += like(spec[part], found, part)
    for name, expected in spec.get("headers", {}).items():
        wrong += _header(name, expected, sent)
    for name in spec.get("no_headers", []):
        if sent.header(name) is not None:
            wrong.append(f"header {name}: {sent.header(name)!r}, expected none")
    if "tensors" in spec or "metadata" in spec:
        wrong += _tensors_sent(spec, sent)
    if "json" in spec:
        try:
            body = json.loads(sent.body)
            wrong += like(spec["json"], body, "body") + like(body, spec["json"], "expected body")
        except ValueError as error:
            wrong.append(f"the body is no JSON: {error}")
    if spec.get("empty") and sent.body:
        wrong.append(f"a body of {len(sent.body)} bytes, expected none")
    return wrong


def requests(exchanges: Sequence[Json], seen: Sequence[Request]) -> List[str]:
    """All requests of one call."""
    wrong = []
    if len(exchanges) != len(seen):
        sent = ", ".join(f"{s.method} {s.target}" for s in seen) or "none"
        wrong.append(f"{len(seen)} requests ({sent}), expected {len(exchanges)}")
    for i, (exchange, sent) in enumerate(zip(exchanges, seen)):
        before = seen[i - 1] if i else None
        found = request(exchange.get("request", {}), sent, before)
        wrong += [f"request {i + 1}: {text}" for text in found]
    return wrong


# Members of a result that are tensors by name, to be compared bit for bit.
_TENSORS = ("params", "tensors")


def result(expected: Json, found: Json) -> List[str]:
    """The result of a call; what holds tensors is compared to the bit."""
    rest = {k: v for k, v in expected.items() if k not in _TENSORS and k != "tensor"}
    wrong = like(rest, found, "result")
    for part in _TENSORS:
        if part in expected:
            wrong += same_tensors(expected[part], found.get(part), f"result.{part}")
    if "tensor" in expected:
        one, there = {"tensor": expected["tensor"]}, {"tensor": found.get("tensor")}
        wrong += same_tensors(one, there if there["tensor"] else {}, "result")
    return wrong
