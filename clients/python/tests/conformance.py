"""The driver of clients/conformance for this client: calls as lines of JSON in, what they gave as
lines of JSON out."""

from __future__ import annotations

import json
import math
import sys
import types
from pathlib import Path
from typing import Any, Callable, Dict, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np  # noqa: E402
import adamd  # noqa: E402
from adamd import _safetensors  # noqa: E402

Json = Dict[str, Any]


class _Brain:
    """A tensor of bfloat16 as torch has it, for where neither torch nor ml_dtypes is installed."""

    dtype = "torch.bfloat16"

    def __init__(self, bits: "np.ndarray[Any, Any]"):
        self.bits = bits

    def detach(self) -> "_Brain":
        return self

    cpu = contiguous = detach

    def view(self, dtype: Any) -> "_Brain":
        return self

    def numpy(self) -> "np.ndarray[Any, Any]":
        return self.bits


def _array(tensor: Json) -> Any:
    raw = bytes.fromhex(tensor["hex"])
    dtype = "uint16" if tensor["dtype"] == "bfloat16" else tensor["dtype"]
    array = np.frombuffer(raw, np.dtype(dtype).newbyteorder("<")).reshape(tensor["shape"])
    if tensor["dtype"] != "bfloat16":
        return array
    if _safetensors.ml_dtypes is not None:
        return array.view(_safetensors.ml_dtypes.bfloat16)
    return _Brain(array)


def _arrays(tensors: Optional[Json]) -> Json:
    return {name: _array(tensor) for name, tensor in (tensors or {}).items()}


def _wire(array: "np.ndarray[Any, Any]", brain: bool) -> Json:
    if array.dtype.name == "bfloat16":
        return {"dtype": "bfloat16", "shape": list(array.shape), "hex": array.tobytes().hex()}
    if brain:  # without ml_dtypes it comes as float32 of the same values
        bits = (array.view(np.uint32) >> 16).astype("<u2")
        return {"dtype": "bfloat16", "shape": list(array.shape), "hex": bits.tobytes().hex()}
    return {"dtype": array.dtype.name, "shape": list(array.shape), "hex": array.tobytes().hex()}


def _wires(arrays: Any, options: Json) -> Any:
    brain = options.get("dtype") == "bf16"
    return arrays and {name: _wire(array, brain) for name, array in arrays.items()}


def _plain(value: Any) -> Any:
    """With what JSON has: non-finite numbers as words, arrays as lists."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _step(opt: adamd.Optimizer, call: Json, options: Json) -> Json:
    arguments = dict(options)
    if "key" in arguments:
        arguments["idempotency_key"] = arguments.pop("key")
    for limit in ("max_grad_norm", "clip_value"):
        if limit in arguments and arguments[limit] is None:
            arguments[limit] = math.inf
    result = vars(opt.step(_arrays(call["grads"]), **arguments))
    return {**result, "params": _wires(result["params"], options)}


def _create(opt: adamd.Optimizer, call: Json, options: Json) -> Json:
    arguments = dict(options)
    defaults = arguments.pop("defaults", {})
    return {"summary": opt.create(_arrays(call["params"]), **arguments, **defaults)}


def _params(opt: adamd.Optimizer, call: Json, options: Json) -> Json:
    params = opt.params(**options)
    if params is None:
        return {"not_modified": True}
    return {"step": params.step, "etag": params.etag, "params": _wires(params, options)}


def _param(opt: adamd.Optimizer, call: Json, options: Json) -> Json:
    array = opt.param(options["param"], options.get("dtype"))
    return {"tensor": _wires({"": array}, options)[""]}


def _state_dict(opt: adamd.Optimizer, call: Json, options: Json) -> Json:
    state = opt.state_dict()
    return {"file": b"".join(_safetensors.encode(state.arrays, state.metadata).parts).hex()}


def _put_state_dict(opt: adamd.Optimizer, call: Json, options: Json) -> Json:
    state = adamd.StateDict(*_safetensors.decode(bytes.fromhex(call["file"])))
    opt.load_state_dict(state, options["load"])
    return {}


def _events(opt: adamd.Optimizer, call: Json, options: Json) -> Json:
    stream = opt.events(options.get("last_event_id"))
    events = []
    for event in stream:
        events.append(vars(event))
        if len(events) == options["take"]:
            stream.close()  # type: ignore[attr-defined]
            break
    return {"events": events}


def _done(value: Any) -> Json:
    return {}


_OPS: Dict[str, Callable[[adamd.Optimizer, Json, Json], Json]] = {
    "step": _step,
    "create": _create,
    "params": _params,
    "param": _param,
    "state_dict": _state_dict,
    "put_state_dict": _put_state_dict,
    "events": _events,
    "summary": lambda opt, call, o: {"summary": opt.summary()},
    "configure": lambda opt, call, o: {"summary": opt.configure(**o["changes"])},
    "delete": lambda opt, call, o: _done(opt.delete()),
    "put_params": lambda opt, call, o: _done(opt.put_params(_arrays(call["params"]))),
    "param_groups": lambda opt, call, o: {"param_groups": opt.param_groups(**o)},
    "add_param_group": lambda opt, call, o: _done(
        opt.add_param_group(_arrays(call["params"]), **o["group"])
    ),
    "patch_param_group": lambda opt, call, o: {"group": opt.patch(o["index"], **o["changes"])},
    "state": lambda opt, call, o: {"state": opt.state(o["param"], o.get("data"))},
    "digest": lambda opt, call, o: {"digest": opt.digest()},
    "history": lambda opt, call, o: {"history": opt.history(**o)},
    "changes": lambda opt, call, o: {"changes": opt.changes(**o)},
    "workers": lambda opt, call, o: {"workers": opt.workers()},
    "remove_worker": lambda opt, call, o: _done(opt.remove_worker(o["worker"])),
    "round": lambda opt, call, o: {"round": opt.round()},
    "drop_round": lambda opt, call, o: _done(opt.drop_round()),
    "snapshot": lambda opt, call, o: opt.snapshot(),
    "rollback": lambda opt, call, o: {"summary": opt.rollback(o["step"])},
    "fork": lambda opt, call, o: {"summary": opt.fork(**o)},
}
_CLIENT_OPS: Dict[str, Callable[[adamd.Client, Json], Json]] = {
    "list": lambda client, o: {"optimizers": client.list(**o)},
    "livez": lambda client, o: _done(client.livez()),
    "readyz": lambda client, o: _done(client.readyz()),
}


def _client(options: Json) -> adamd.Client:
    seconds = {"timeout_ms": "timeout", "deadline_ms": "deadline"}
    arguments = {seconds[k]: v / 1000 for k, v in options.items() if k in seconds}
    if "retries" in options:
        arguments["max_retries"] = options["retries"]
    return adamd.Client(options["url"], **arguments)


def _error(error: adamd.Error) -> Json:
    said = {"message": str(error)}
    if isinstance(error, adamd.RequestError):
        kind = "problem" if error.members else "status"
        names = ("status", "type", "code", "title", "detail", "members", "etag", "retry_after")
        return {"kind": kind, **said, **{name: getattr(error, name) for name in names}}
    return {
        "kind": "connection" if isinstance(error, adamd.ConnectionError) else "protocol",
        **said,
    }


def main() -> None:
    if _safetensors.ml_dtypes is None:
        sys.modules["torch"] = types.SimpleNamespace(bfloat16=_Brain.dtype, int16=None)  # type: ignore
    client: Any = None
    for line in sys.stdin:
        call = json.loads(line)
        op, options = call["op"], call.get("options", {})
        try:
            if op == "client":
                client, reply = _client(options), {"ok": {}}
            elif op in _CLIENT_OPS:
                reply = {"ok": _CLIENT_OPS[op](client, options)}
            elif op in _OPS:
                reply = {"ok": _OPS[op](client.optimizer(call["optimizer"]), call, options)}
            else:
                reply = {"unknown": op}
        except adamd.Error as error:
            reply = {"error": _error(error)}
        print(json.dumps(_plain(reply)), flush=True)


if __name__ == "__main__":
    main()
