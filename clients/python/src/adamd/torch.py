"""torch.optim.Adam and AdamW at a server, and between torch's and adamd, bit for bit.

    optimizer = adamd.torch.Adam(model.named_parameters(), lr=0.01, url=..., name="mlp")

is torch.optim.Adam whose steps are taken by a server (_torch_optim.py). And an optimizer of torch's
own goes there and back:

    handle = adamd.Client().optimizer("mlp")
    adamd.torch.from_torch(handle, optimizer, model)  # creates it there, or loads into it
    ...                                               # steps at the server
    adamd.torch.to_torch(handle, optimizer, model)    # parameters and state, brought back in place

Parameters go by the model's names, never by position. What cannot be carried over is refused, and
nothing has changed then. `import adamd` alone does not import torch.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

try:
    import torch
except ImportError as error:
    raise ImportError("adamd.torch needs torch: pip install 'adamd[torch]'") from error

from . import _torch_dict
from ._optimizer import Optimizer
from ._errors import NotFound
from ._state import StateDict
from ._torch_optim import Adam, AdamW
from ._torch_tensors import check_fits, counter, tensor

__all__ = [
    "Adam",
    "AdamW",
    "from_torch",
    "state_dict",
    "to_adamd_dict",
    "to_torch",
    "to_torch_dict",
]

Model = Union["torch.nn.Module", Mapping[str, "torch.Tensor"], Iterable[Tuple[str, "torch.Tensor"]]]
"""A module, or named parameters: what module.named_parameters() gives, or a mapping."""


def from_torch(
    handle: Optimizer,
    optimizer: "torch.optim.Optimizer",
    model: Model,
    *,
    step: Optional[int] = None,
    drop_extras: bool = False,
) -> None:
    """Makes the optimizer at the server what torch's is: parameters, groups in their order,
    hyperparameters, moments, step counts. Creates it where there is none of that name, with torch's
    `defaults` for groups that are added later; one that is there must have the same algorithm and
    the same groups of the same parameters, and keeps the defaults that it has.

    torch has no step count of the optimizer, only one for each parameter; `step` is the
    optimizer's, by default the largest of those. Parameters of the model that the optimizer does
    not have (frozen ones) are left out. What torch's schedulers note in the groups (`initial_lr`,
    `max_lr`, ...) stays in torch, so that these go on after to_torch. An optimizer at the server
    that has schedules, clipping or other gradient settings, which a torch optimizer does not have,
    loses them with `drop_extras=True` and is refused without.
    """
    state = _capture(optimizer, model, step, copy=False)
    try:
        summary = handle.summary()
    except NotFound:
        defaults = _torch_dict.options_of(optimizer.defaults, "optimizer.defaults")
        handle.restore(state, **defaults)
        return
    there = {key: summary[key] for key in _torch_dict.HEAD_DEFAULTS if key in summary}
    there["param_groups"] = handle.param_groups(data="none")
    _torch_dict.check_extras(there, drop_extras)
    handle.load_state_dict(state, "everything")


def to_torch(
    source: Union[Optimizer, StateDict],
    optimizer: "torch.optim.Optimizer",
    model: Model,
    *,
    drop_extras: bool = False,
) -> None:
    """Brings parameters and state of an adamd optimizer, or of a StateDict, into a torch optimizer
    and its model, in place. It must have the same algorithm and the same groups of the same
    parameters, whatever their order within a group.

    torch's own `foreach`, `fused` and what else its groups have beside the hyperparameters stay as
    they are: `param_names`, what schedulers noted (`max_lr`, ...; `initial_lr` where adamd has
    none), keys of the caller's. `drop_extras` leaves behind what a torch optimizer does not do by
    itself: schedules, clipping and other gradient settings, groups without bias correction or of
    buffers.
    """
    named, groups = _names(optimizer, model)
    algorithm = _algorithm(optimizer)
    for i, group in enumerate(optimizer.param_groups):
        _torch_dict.check_flags(group, f"param group {i}")
    state = source if isinstance(source, StateDict) else source.state_dict()
    if state.header["algorithm"] != algorithm:
        raise ValueError(
            f"the state is of {state.header['algorithm']!r}, but torch's optimizer is {algorithm!r}"
        )

    def like(name: str, array: "np.ndarray[Any, Any]") -> "torch.Tensor":
        if not name:
            return tensor(array)
        with torch.no_grad():  # with the strides of the parameter, as torch would have made it
            return torch.empty_like(named[name]).copy_(tensor(array))

    values = state.part("params")
    names = [name for group in groups for name in group]
    for name in names:
        if name in values:
            check_fits(name, values[name], named[name])
    converted = _torch_dict.to_torch(state, groups, drop_extras, like, counter())
    for group, own in zip(converted["param_groups"], optimizer.param_groups):
        for key in ("foreach", "fused"):
            if key in own:
                group[key] = own[key]
        for key, value in own.items():
            group.setdefault(key, value)
        if "decoupled_weight_decay" not in own:  # an older torch
            del group["decoupled_weight_decay"]
    optimizer.load_state_dict(converted)
    with torch.no_grad():
        for name in names:
            named[name].copy_(tensor(values[name]))


def state_dict(
    optimizer: "torch.optim.Optimizer", model: Model, *, step: Optional[int] = None
) -> StateDict:
    """The StateDict that from_torch would load, as a copy: to be saved, digested, loaded later. It
    has no `defaults`, as torch's state_dict() has none."""
    return _capture(optimizer, model, step, copy=True)


def to_adamd_dict(
    torch_state_dict: Mapping[str, Any],
    params: Mapping[str, "torch.Tensor"],
    *,
    names: Optional[Sequence[str]] = None,
    algorithm: Optional[str] = None,
    step: Optional[int] = None,
) -> StateDict:
    """A StateDict from what torch's optimizer.state_dict() gave, or a checkpoint that holds it, and
    the values of the parameters by name (model.state_dict() will do).

    `names` are those of the parameters in the order in which the optimizer was given them, which
    torch's integer ids stand for; they may be left out where the groups have `param_names`.
    `algorithm` ("adam", "adamw") is needed where an older torch wrote groups without
    `decoupled_weight_decay`.
    """
    return _torch_dict.to_adamd(torch_state_dict, params, names, algorithm, step, copy=True)


def to_torch_dict(
    source: Union[Optimizer, StateDict],
    names: Optional[Sequence[Sequence[str]]] = None,
    *,
    drop_extras: bool = False,
) -> Dict[str, Any]:
    """What torch.optim.Adam.load_state_dict, or AdamW's, takes. `names` has a list for each param
    group of the torch optimizer, in its order; left out, its groups have the order of the state's.
    The values of the parameters are not in it, as they never are in torch's: take
    `state.part("params")`, or `handle.params()`. Nor is what torch's schedulers note in the groups,
    and torch's load_state_dict replaces these: to_torch keeps it."""
    state = source if isinstance(source, StateDict) else source.state_dict()
    return _torch_dict.to_torch(
        state, names, drop_extras, lambda _, array: tensor(array).clone(), counter()
    )


# ---- helpers


def _algorithm(optimizer: "torch.optim.Optimizer") -> str:
    kind = type(optimizer)
    if kind not in (torch.optim.Adam, torch.optim.AdamW):
        raise TypeError(
            f"{kind.__module__}.{kind.__qualname__} is neither torch.optim.Adam nor "
            "torch.optim.AdamW; adamd steps as these two do, and a class derived from them may "
            "step otherwise"
        )
    has_key = any("decoupled_weight_decay" in group for group in optimizer.param_groups)
    said = None if has_key else "adamw" if kind is torch.optim.AdamW else "adam"
    return _torch_dict.algorithm_of(optimizer.param_groups, said)


def _named(model: Model) -> List[Tuple[str, "torch.Tensor"]]:
    if isinstance(model, torch.nn.Module):
        return list(model.named_parameters())
    pairs = list(model.items() if isinstance(model, Mapping) else model)
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], torch.Tensor)):
            raise TypeError(
                f"{type(pair).__name__} among the model's parameters, expected (name, tensor) "
                "pairs, as model.named_parameters() gives them: parameters need names"
            )
        if not isinstance(pair[0], str):
            raise TypeError(f"the name {pair[0]!r} is a {type(pair[0]).__name__}, expected str")
    return pairs


def _names(
    optimizer: "torch.optim.Optimizer", model: Model
) -> Tuple[Dict[str, "torch.Tensor"], List[List[str]]]:
    """Parameters by name, and the names in each group of the optimizer."""
    named: Dict[str, torch.Tensor] = {}
    names: Dict[int, str] = {}
    ours = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, param in _named(model):
        if name in named:
            raise ValueError(f"the model names {name!r} twice, expected a name for each parameter")
        if id(param) in names and id(param) in ours:
            raise ValueError(f"one parameter is named both {names[id(param)]!r} and {name!r}")
        named[name] = param
        names[id(param)] = name
    groups = []
    for i, group in enumerate(optimizer.param_groups):
        for k, param in enumerate(group["params"]):
            if id(param) not in names:
                raise ValueError(
                    f"parameter {k} of param group {i}, of shape {list(param.shape)}, is none of "
                    "the model's, so that it has no name"
                )
        groups.append([names[id(param)] for param in group["params"]])
    return named, groups


def _capture(
    optimizer: "torch.optim.Optimizer", model: Model, step: Optional[int], copy: bool
) -> StateDict:
    algorithm = _algorithm(optimizer)
    named, groups = _names(optimizer, model)
    names = [name for group in groups for name in group]
    return _torch_dict.to_adamd(optimizer.state_dict(), named, names, algorithm, step, copy)
