"""One torch optimizer and one of adamd's, created alike and stepped alike."""

import numpy as np
import torch

import adamd
import reference
import values
from server import JsonPeer, Refused, from_json, to_json

KINDS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
OPTIONS = ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize")
JSON_UP_TO = 3000  # elements of a body; larger ones go as safetensors


class Request:
    """A step that is about to be taken. Events change it before it is sent.

    grads: what torch gets, by name. overrides: adamd's `param_groups` of this step, or None; torch's
    groups have the changes already. members: further members of the step's body.
    before_torch: called just before torch's step, as a training loop would (unscale, clip).
    """

    def __init__(self):
        self.grads = {}
        self.overrides = None
        self.members = {}
        self.before_torch = []


class Pair:
    def __init__(self, rng, tally, client, pool, url, seed):
        self.rng = rng
        self.tally = tally
        self.algorithm = values.pick(rng, ("adam", "adamw"))
        self.dtypes = values.pick(rng, (("float32",), ("float64",), ("float32", "float64")))
        self.style = values.pick(rng, ("plain", "wild", "wild", "sparse"))
        self.params = {}  # name: torch.nn.Parameter, in order
        self.steps = 0
        self.after_step = []  # called after every step of both (schedules)
        name = f"parity-{seed}"
        self.adamd = client.optimizer(name)
        self.json = JsonPeer(pool, url, name)
        self._create()

    # --- creation

    def new_params(self):
        """Some parameters as arrays by name, not in torch yet."""
        names = ("w{}", "layer.{}.weight", "a/b {}", "κ{}", "{}")
        first = len(self.params)
        return {values.pick(self.rng, names).format(first + i):
                values.parameter(self.rng, values.pick(self.rng, self.dtypes), values.shape(self.rng))
                for i in range(int(self.rng.integers(1, 5)))}

    def adopt(self, arrays):
        """torch's parameters of these arrays."""
        made = {name: torch.nn.Parameter(torch.from_numpy(a.copy())) for name, a in arrays.items()}
        self.params.update(made)
        return list(made.values())

    def _create(self):
        defaults = values.options(self.rng, 0.6)
        groups, arrays = [], {}
        for _ in range(int(self.rng.integers(1, 5))):
            new = self.new_params()
            own = values.options(self.rng, 0.3)
            groups.append({"params": list(new), **own})
            arrays.update(new)
            self.adopt(new)
        torch_groups = [{**g, "params": [self.params[n] for n in g["params"]]} for g in groups]
        self.torch = KINDS[self.algorithm](torch_groups, foreach=False, fused=False, **defaults)
        if values.chance(self.rng, 0.5) or sum(a.size for a in arrays.values()) > JSON_UP_TO:
            self.adamd.create(arrays, self.algorithm, groups, **defaults)
        else:
            for group in groups:
                group["params"] = [self.describe(n, arrays[n]) for n in group["params"]]
            self.json.request("PUT", "", {"algorithm": self.algorithm, "defaults": defaults,
                                          "param_groups": groups})

    def describe(self, name, array):
        """A parameter in JSON, as creations and new groups have it."""
        return {"name": name, "shape": list(array.shape), "dtype": array.dtype.name,
                "data": to_json(array, values.chance(self.rng, 0.5))}

    # --- hyperparameters

    @property
    def groups(self):
        return self.torch.param_groups

    def names(self, group):
        """Parameters of one of torch's groups, by adamd's names."""
        own = {id(p) for p in group["params"]}
        return [name for name, p in self.params.items() if id(p) in own]

    def patch(self, index, changes):
        """Changes one group of adamd's, through the client or in plain JSON. May raise what a refusal
        raises."""
        if values.chance(self.rng, 0.5):
            self.adamd.patch(index, **changes)
        else:
            self.json.request("PATCH", f"/param_groups/{index}", changes)

    # --- a step

    def request(self):
        return Request()

    def fill(self, request):
        """Gradients for most parameters, for one at least, that suit the options as they now are."""
        missing = values.pick(self.rng, (0.0, 0.0, 0.1, 0.6))
        names = [name for name in self.params if not values.chance(self.rng, missing)]
        chosen = set(names or [values.pick(self.rng, list(self.params))])
        for group in self.groups:
            zero = reference.zero_sign(group["betas"], group["maximize"])
            for name in self.names(group):
                if name in chosen:
                    p = self.params[name].detach().numpy()
                    request.grads[name] = values.gradient(self.rng, p.dtype.name, p.shape, self.style, zero)

    def step(self, request):
        for name, p in self.params.items():
            grad = request.grads.get(name)
            p.grad = None if grad is None else torch.from_numpy(grad.copy())
        for action in request.before_torch:
            action()
        self.torch.step()
        self.steps += 1
        got = self.send(request)
        if got is None or len(got) < len(self.params):
            got = {**(got or {}), **self.read_params()}
        for action in self.after_step:
            action()
        for name, p in self.params.items():
            self.tally.arrays(f"step {self.steps}, {name!r}", p.detach().numpy(), got.get(name))

    def send(self, request):
        """The step over HTTP, in one form or another. The parameters that came back, or None."""
        small = sum(g.size for g in request.grads.values()) <= JSON_UP_TO
        minimal = values.chance(self.rng, 0.1)
        if small and (request.members or values.chance(self.rng, 0.5)):
            return self._send_json(request, minimal)
        done = self.adamd.step(request.grads, param_groups=request.overrides, minimal=minimal,
                               **request.members)
        self.tally.equal("step", self.steps, done.step)
        return done.params

    def _send_json(self, request, minimal):
        short = values.chance(self.rng, 0.5)
        body = {"grads": {n: to_json(g, short) for n, g in request.grads.items()}, **request.members}
        if request.overrides is not None:
            body["param_groups"] = request.overrides
        said = self.json.request("POST", "/step", body, **({"Prefer": "return=minimal"} if minimal else {}))
        if minimal:
            return None
        self.tally.equal("step", self.steps, said["step"])
        return {name: self.read(name, data) for name, data in said["params"].items()}

    def read(self, name, data):
        p = self.params[name].detach().numpy()
        return from_json(data, p.dtype, p.shape)

    def read_params(self):
        numel = sum(p.numel() for p in self.params.values())
        if numel > JSON_UP_TO or values.chance(self.rng, 0.7):
            return self.adamd.params()
        said = self.json.request("GET", "/params")
        return {name: self.read(name, data) for name, data in said["params"].items()}

    def refusal(self, action):
        """The problem's code if `action` is refused, else None."""
        try:
            action()
        except (adamd.RequestError, Refused) as refused:
            return refused.code
        return None

    # --- the end

    def finish(self):
        """Compares everything that there is, and removes adamd's optimizer."""
        if values.chance(self.rng, 0.5):
            said = self.adamd.state_dict()
            head = said.header
            steps = head["steps"]
            parts = {kind: said.part(kind) for kind in ("params", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")}
        else:
            head = self.json.request("GET", "/state_dict")
            steps = {name: s["step"] for name, s in head["state"].items()}
            parts = {"params": {n: self.read(n, p["data"]) for n, p in head["params"].items()}}
            for kind in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
                parts[kind] = {n: self.read(n, s[kind]) for n, s in head["state"].items() if kind in s}
        self.tally.equal("steps of all", self.steps, head["step"])
        for name, p in self.params.items():
            self._compare_state(name, p, steps.get(name), {k: part.get(name) for k, part in parts.items()})
        self.compare_options(head["param_groups"])
        self.adamd.delete()

    def _compare_state(self, name, p, steps, streams):
        state = self.torch.state.get(p, {})
        self.tally.equal(f"the end, step of {name!r}", int(state.get("step", 0)), steps)
        self.tally.arrays(f"the end, {name!r}", p.detach().numpy(), streams["params"])
        for kind in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
            where = f"the end, {kind} of {name!r}"
            if kind in state:
                self.tally.arrays(where, state[kind].numpy(), streams[kind])
            elif state:
                self.tally.equal(where + ", there", False, streams[kind] is not None)
            elif streams[kind] is not None:  # torch makes a parameter's state with its first step
                self.tally.arrays(where, np.zeros_like(p.detach().numpy()), streams[kind])

    def compare_options(self, groups):
        self.tally.equal("param groups", len(self.groups), len(groups))
        for i, (theirs, ours) in enumerate(zip(self.groups, groups)):
            for key in OPTIONS:
                value = list(theirs[key]) if key == "betas" else theirs[key]
                self.tally.equal(f"param_groups[{i}].{key}", value, ours[key])
            self.tally.equal(f"param_groups[{i}].params", self.names(theirs), ours["params"])

    def describe_self(self):
        numel = sum(p.numel() for p in self.params.values())
        return (f"{self.algorithm}, {len(self.groups)} groups, {len(self.params)} parameters of {numel} "
                f"elements in {' and '.join(self.dtypes)}, {self.style} gradients")
