"""torch's optimizer.state_dict() from and to a StateDict, as arrays. Imports no torch: torch.py
makes tensors of what is here, and tests run without it."""

from __future__ import annotations

import json
import math
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from ._state import StateDict

STEP_LIMIT = 1 << 24
"""Where a count in float32, which torch keeps, stands still."""

_MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
# What torch's own load_state_dict takes where an older torch has not written a key.
_FLAGS: Dict[str, Any] = {
    "foreach": None,
    "capturable": False,
    "differentiable": False,
    "fused": None,
}
_SWITCHES = {"amsgrad": False, "maximize": False}
_NUMBERS = ("lr", "eps", "weight_decay")
# Notes that torch's schedulers keep in a group (torch.optim.lr_scheduler, swa_utils): they decide
# no step, and stay with torch.
KEPT_BY_TORCH = ("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr")
KNOWN = {
    *_NUMBERS,
    *_SWITCHES,
    *_FLAGS,
    *KEPT_BY_TORCH,
    *("params", "param_names", "betas", "decoupled_weight_decay"),
}
STEPPED = (*_NUMBERS, *_SWITCHES, "betas")
"""What decides a step, and may change between two."""


def flags_of(group: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: group.get(name, default) for name, default in _FLAGS.items()}


def array_of(what: str, value: Any) -> "np.ndarray[Any, Any]":
    """A float32 or float64 array, not copied where it need not be, from an array or a tensor."""
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
    elif hasattr(value, "detach"):
        array = _array_of_tensor(what, value)
    else:
        raise TypeError(f"{what} is a {type(value).__name__}, expected a tensor")
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"{what} has dtype {array.dtype}, expected float32 or float64: adamd keeps parameters "
            "and moments in these alone"
        )
    return array


def _array_of_tensor(what: str, tensor: Any) -> "np.ndarray[Any, Any]":
    if hasattr(tensor, "materialize"):
        raise TypeError(f"{what} is lazy and has no shape yet: run the model once first")
    if str(tensor.layout) != "torch.strided":
        raise TypeError(f"{what} is sparse ({tensor.layout}), expected a dense tensor")
    if tensor.device.type == "meta":
        raise TypeError(f"{what} is on the device 'meta' and has no values")
    if str(tensor.dtype) not in ("torch.float32", "torch.float64"):
        raise TypeError(
            f"{what} has dtype {tensor.dtype}, expected torch.float32 or torch.float64: adamd "
            "keeps parameters and moments in these alone"
        )
    array: np.ndarray[Any, Any] = tensor.detach().cpu().numpy()
    return array


def all_zero(arrays: Iterable["np.ndarray[Any, Any]"]) -> bool:
    """Whether every bit of them is 0 (-0.0 is not)."""
    return not any(np.ascontiguousarray(array).view(np.uint8).any() for array in arrays)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") or isinstance(value, np.ndarray)


def _number(what: str, value: Any) -> float:
    if _is_tensor(value):
        raise TypeError(
            f"{what} is a tensor, expected a plain number: adamd keeps hyperparameters as doubles, "
            "and torch steps with other bits where they are tensors"
        )
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{what} is {value!r}, expected a number")
    if not math.isfinite(value):
        raise ValueError(f"{what} is {value!r}, expected a finite number")
    return float(value)


def _switch(what: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{what} is {value!r}, expected True or False")
    return bool(value)


def check_flags(group: Mapping[str, Any], where: str) -> None:
    """Refuses what makes torch step in another way than adamd does."""
    for name, default in _FLAGS.items():
        value = group.get(name, default)
        if value is not False and (value is not None or default is not None):
            expected = "False" if default is False else "None or False"
            raise ValueError(
                f"{name} of {where} is {value!r}, expected {expected}: it makes torch step in "
                "another way, with other bits than adamd's"
            )


def options_of(group: Mapping[str, Any], where: str) -> Dict[str, Any]:
    """A torch group's hyperparameters as adamd writes them."""
    for key in group:
        if key not in KNOWN:
            raise ValueError(
                f"{where} has the key {key!r}, which adamd knows nothing of; expected the keys of "
                f"torch.optim.Adam, and of torch's schedulers ({', '.join(KEPT_BY_TORCH)})"
            )
    for key in (*_NUMBERS, "betas"):
        if key not in group:
            raise ValueError(f"{where} has no {key!r}: is it a group of torch.optim.Adam?")
    check_flags(group, where)
    betas = group["betas"]
    if _is_tensor(betas) or not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise TypeError(f"betas of {where} are {betas!r}, expected two numbers")
    switches = {k: _switch(f"{k} of {where}", group.get(k, d)) for k, d in _SWITCHES.items()}
    lr = _number(f"lr of {where}", group["lr"])
    if lr < 0:
        raise ValueError(
            f"lr of {where} is {lr!r}, expected at least 0: adamd has a rate below 0 only from a "
            "schedule of its own (a linear OneCycleLR ends there), and torch's optimizer has none; "
            "set lr to the rate to go on with"
        )
    return {
        "lr": lr,
        "betas": [_number(f"betas[{i}] of {where}", beta) for i, beta in enumerate(betas)],
        "eps": _number(f"eps of {where}", group["eps"]),
        "weight_decay": _number(f"weight_decay of {where}", group["weight_decay"]),
        **switches,
        **flags_of(group),
    }


def algorithm_of(groups: Sequence[Mapping[str, Any]], said: Optional[str]) -> str:
    """ "adam" or "adamw", from the groups' decoupled_weight_decay and what the caller says."""
    key = "decoupled_weight_decay"
    found = {_switch(f"{key} of param group {i}", g[key]) for i, g in enumerate(groups) if key in g}
    if len(found) > 1:
        raise ValueError(
            f"{key} is True in some param groups and False in others: adamd has one algorithm for "
            "all groups, so make two optimizers of them"
        )
    names = ["adamw" if decoupled else "adam" for decoupled in found]
    if said is None and not names:
        raise ValueError(
            f"the groups have no {key} (an older torch wrote them), so say which it is: "
            "algorithm='adam' or algorithm='adamw'"
        )
    if said not in (None, "adam", "adamw"):
        raise ValueError(f"algorithm is {said!r}, expected 'adam' or 'adamw'")
    if said is not None and names and said != names[0]:
        raise ValueError(f"algorithm is {said!r}, but {key} of the groups says {names[0]!r}")
    return said or names[0]


def _names_by_id(
    groups: Sequence[Mapping[str, Any]], names: Optional[Sequence[str]]
) -> Dict[Any, str]:
    """Integer ids of torch's groups to names, in order."""
    ids = [key for group in groups for key in group["params"]]
    if names is None:
        if not all("param_names" in group for group in groups):
            raise ValueError(
                "torch's state_dict has integer ids alone: give names, in the order in which the "
                "optimizer was given its parameters, or make it from model.named_parameters()"
            )
        for i, group in enumerate(groups):
            if len(group["param_names"]) != len(group["params"]):
                raise ValueError(
                    f"param group {i} has {len(group['param_names'])} param_names, expected "
                    f"{len(group['params'])}, one a parameter"
                )
        names = [name for group in groups for name in group["param_names"]]
    if isinstance(names, str) or len(names) != len(ids):
        raise ValueError(f"{len(names)} names, expected {len(ids)}, one for each parameter")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"the name {name!r} is a {type(name).__name__}, expected str")
    for what, values in (("name", names), ("id", ids)):
        seen = set()
        for value in values:
            if value in seen:
                raise ValueError(f"the {what} {value!r} stands twice, expected once a parameter")
            seen.add(value)
    return dict(zip(ids, names))


def _step_of(what: str, value: Any) -> int:
    narrow = str(getattr(value, "dtype", "")).endswith("float32")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{what} is {value!r}, expected one number") from None
    if not number.is_integer() or number < 0:  # inf and nan are no integers
        raise ValueError(f"{what} is {number!r}, expected a whole number from 0 on")
    if narrow and number >= STEP_LIMIT:
        raise ValueError(
            f"{what} is {number:.0f}: torch counts in float32, which stands still at {STEP_LIMIT}, "
            "so how many steps were taken is not known"
        )
    return int(number)


def _moments(
    name: str, entry: Mapping[str, Any], values: "np.ndarray[Any, Any]", amsgrad: bool
) -> Tuple[int, Dict[str, "np.ndarray[Any, Any]"]]:
    """Step and moments of one parameter. No entry, or an empty one: no gradient yet."""
    for key in entry:
        if key != "step" and key not in _MOMENTS:
            raise ValueError(
                f"the state of {name!r} has {key!r}, expected step, {', '.join(_MOMENTS)} alone"
            )
    if not entry:
        return 0, {
            kind: np.zeros_like(values, order="C")
            for kind in _MOMENTS
            if amsgrad or kind != "max_exp_avg_sq"
        }
    for key in ("step", *(_MOMENTS if amsgrad else _MOMENTS[:2])):
        if key not in entry:
            raise ValueError(f"the state of {name!r} has no {key!r}")
    found = {}
    for kind in _MOMENTS:
        if kind not in entry:
            continue
        moment = array_of(f"{kind} of {name!r}", entry[kind])
        if (moment.shape, moment.dtype) != (values.shape, values.dtype):
            raise ValueError(
                f"{kind} of {name!r} has shape {list(moment.shape)} and dtype {moment.dtype}, "
                f"expected those of the parameter, {list(values.shape)} and {values.dtype}"
            )
        found[kind] = moment
    return _step_of(f"step of {name!r}", entry["step"]), found


def to_adamd(
    torch_state: Mapping[str, Any],
    params: Mapping[str, Any],
    names: Optional[Sequence[str]],
    algorithm: Optional[str],
    step: Optional[int],
    copy: bool,
) -> StateDict:
    """A StateDict from what optimizer.state_dict() gave and the parameters' values by name."""
    groups: List[Mapping[str, Any]] = list(torch_state["param_groups"])
    algorithm = algorithm_of(groups, algorithm)
    by_id = _names_by_id(groups, names)
    for key in torch_state["state"]:
        if key not in by_id:
            raise ValueError(f"there is a state of parameter {key!r}, which no param group has")
    arrays: Dict[str, Dict[str, Any]] = {kind: {} for kind in ("params", *_MOMENTS)}
    steps: Dict[str, int] = {}
    head_groups = []
    for i, group in enumerate(groups):
        options = options_of(group, f"param group {i}")
        head_groups.append({"params": [by_id[key] for key in group["params"]], **options})
        for key in group["params"]:
            name = by_id[key]
            if name not in params:
                raise ValueError(f"there is no parameter {name!r} among the values")
            values = array_of(f"parameter {name!r}", params[name])
            entry = torch_state["state"].get(key, {})
            steps[name], moments = _moments(name, entry, values, options["amsgrad"])
            for kind, array in {"params": values, **moments}.items():
                arrays[kind][name] = np.array(array, order="C") if copy else array
    most = max(steps.values(), default=0)
    if step is not None and step < most:
        raise ValueError(f"step is {step}, but a parameter has taken {most} steps")
    head = {
        "algorithm": algorithm,
        "step": most if step is None else step,
        "param_groups": head_groups,
        "steps": steps,
    }
    flat = {f"{kind}/{name}": a for kind, by_name in arrays.items() for name, a in by_name.items()}
    return StateDict(flat, {"state_dict": json.dumps(head, allow_nan=False)})


# ---- to torch


def match(own: Sequence[Sequence[str]], torch_groups: Sequence[Sequence[str]]) -> None:
    """Refuses groups that do not have the same parameters."""
    if any(isinstance(names, str) for names in torch_groups):
        raise TypeError("names are one list, expected a list of names for each param group")
    if len(own) != len(torch_groups):
        raise ValueError(
            f"the state has {len(own)} param groups, expected {len(torch_groups)}, as torch's "
            "optimizer has"
        )
    for i, (here, there) in enumerate(zip(own, torch_groups)):
        unknown = [name for name in here if name not in set(there)]
        missing = [name for name in there if name not in set(here)]
        if unknown or missing:
            raise ValueError(
                f"param group {i} of the state has other parameters than torch's: "
                + "; ".join(
                    f"{what} {', '.join(map(repr, names[:5]))}{' …' if len(names) > 5 else ''}"
                    for what, names in (("not in torch's:", unknown), ("missing here:", missing))
                    if names
                )
            )
        if len(there) != len(here):
            raise ValueError(f"param group {i} of torch's names a parameter twice")


_HEAD = {"algorithm", "step", "param_groups", "steps"}
HEAD_DEFAULTS: Dict[str, Any] = {
    "grad_scale": 1,
    "max_grad_norm": None,
    "clip_value": None,
    "norm_type": 2,
    "error_if_nonfinite": False,
    "nonfinite": "error",
}


GROUP_DEFAULTS: Dict[str, Any] = {"bias_correction": True, "buffers": False}
"""adamd's own options of a group, which torch's Adam steps as with."""


def check_extras(header: Mapping[str, Any], drop_extras: bool) -> None:
    """What an adamd optimizer does and a torch optimizer does not."""
    for key, value in header.items():
        if key in _HEAD or (key in HEAD_DEFAULTS and value == HEAD_DEFAULTS[key]):
            continue
        if not (drop_extras and key in HEAD_DEFAULTS):
            raise ValueError(
                f"the optimizer has {key}={value!r}, which a torch optimizer does not do by "
                "itself; drop_extras=True leaves it behind"
            )
    for i, group in enumerate(header["param_groups"]):
        if group.get("schedule") is not None and not drop_extras:
            raise ValueError(
                f"param group {i} has a schedule, which in torch is no part of the optimizer; "
                "drop_extras=True leaves it behind"
            )
        for key, default in GROUP_DEFAULTS.items():
            if group.get(key, default) != default and not drop_extras:
                raise ValueError(
                    f"param group {i} has {key}={group[key]!r}, which torch's Adam does not have; "
                    "drop_extras=True leaves it behind"
                )


def _torch_group(group: Mapping[str, Any], algorithm: str, index: int) -> Dict[str, Any]:
    known = {*_NUMBERS, *_SWITCHES, *_FLAGS, "params", "betas", "initial_lr", "schedule"}
    known |= set(GROUP_DEFAULTS)
    for key in group:
        if key not in known:
            raise ValueError(f"param group {index} has {key!r}, which torch has no place for")
    converted: Dict[str, Any] = {key: float(group[key]) for key in ("lr",)}
    converted["betas"] = (float(group["betas"][0]), float(group["betas"][1]))
    converted.update({key: float(group[key]) for key in ("eps", "weight_decay")})
    converted.update({key: group[key] for key in _SWITCHES})
    converted.update({key: group.get(key, default) for key, default in _FLAGS.items()})
    converted["decoupled_weight_decay"] = algorithm == "adamw"
    if group.get("initial_lr") is not None:
        converted["initial_lr"] = float(group["initial_lr"])
    return converted


def entry(
    state: StateDict, name: str, step: int, counter: "np.dtype[Any]"
) -> Optional[Dict[str, "np.ndarray[Any, Any]"]]:
    """torch's state of one parameter; None where torch would have none: no gradient yet."""
    moments = {
        kind: state.arrays[f"{kind}/{name}"]
        for kind in _MOMENTS
        if kind != "max_exp_avg_sq" or f"{kind}/{name}" in state.arrays
    }
    if step == 0 and all_zero(moments.values()):
        return None
    if counter == np.float32 and step >= STEP_LIMIT:
        raise ValueError(
            f"step of {name!r} is {step}: torch counts in float32, which stands still at "
            f"{STEP_LIMIT}"
        )
    return {"step": np.array(step, counter), **moments}


def to_torch(
    state: StateDict,
    groups: Optional[Sequence[Sequence[str]]],
    drop_extras: bool,
    make: Callable[[str, "np.ndarray[Any, Any]"], Any] = lambda name, array: array,
    counter: Any = np.float32,
) -> Dict[str, Any]:
    """What optimizer.load_state_dict takes. `groups` has the names of each of torch's groups, in
    its order; None: the state's own order. `make(name, array)` makes what stands for an array in
    it; for a step, the name is ""."""
    header = state.header
    check_extras(header, drop_extras)
    own = [group["params"] for group in header["param_groups"]]
    if groups is not None:
        match(own, groups)
    ids: Iterator[int] = iter(range(1 << 62))
    converted: Dict[str, Any] = {"state": {}, "param_groups": []}
    for i, group in enumerate(header["param_groups"]):
        out = _torch_group(group, header["algorithm"], i)
        out["params"] = []
        for name in groups[i] if groups is not None else own[i]:
            key = next(ids)
            out["params"].append(key)
            found = entry(state, name, header["steps"][name], np.dtype(counter))
            if found is not None:
                converted["state"][key] = {
                    kind: make("" if kind == "step" else name, array)
                    for kind, array in found.items()
                }
        converted["param_groups"].append(out)
    return converted
