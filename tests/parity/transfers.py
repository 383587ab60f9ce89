"""Events that carry whole states: parameters overwritten, a state_dict out and back in, and an
optimizer brought from torch to adamd and back by adamd.torch."""

import torch

import adamd.torch
import values


def overwrite(pair, _):
    """New values for every parameter; moments and counts stay."""
    arrays = {}
    for name, p in pair.params.items():
        arrays[name] = values.parameter(pair.rng, p.detach().numpy().dtype.name, tuple(p.shape))
        with torch.no_grad():
            p.copy_(torch.from_numpy(arrays[name]))
    pair.adamd.put_params(arrays)


def restore(pair, _):
    """A state_dict out, a wrong turn, and the state_dict back in."""
    if values.chance(pair.rng, 0.5):
        state = pair.adamd.state_dict()
        wrong_turn(pair)
        pair.adamd.load_state_dict(state, "everything")
    else:
        state = pair.peer.request("GET", "/state_dict")
        wrong_turn(pair)
        pair.peer.request("PUT", "/state_dict?load=everything", state)


def wrong_turn(pair):
    attempt = pair.request()
    pair.fill(attempt)
    attempt.members = {"nonfinite": "error", "error_if_nonfinite": True}
    attempt.overrides = [{"lr": 0.5, "maximize": True} for _ in pair.groups]
    pair.refusal(lambda: pair.send(attempt))


def through_torch(pair, _):
    """Out of adamd into a torch optimizer of its own, or out of torch into adamd, there anew or not.
    Both go on from there."""
    if pair.schedules or pair.grad_options:  # which torch's optimizers have not
        return
    way = values.pick(pair.rng, ("to torch", "into adamd", "anew"))
    pair.counts[way] += 1
    if way == "to torch":
        groups = [{**group, "params": list(group["params"])} for group in pair.groups]
        defaults = {key: pair.torch.defaults[key] for key in ("lr", "betas", "eps", "weight_decay", "amsgrad",
                                                              "maximize", "foreach", "fused")}
        fresh = pair.kind(groups, **defaults)
        with torch.no_grad():
            for p in pair.params.values():
                p.zero_()
        adamd.torch.to_torch(pair.adamd, fresh, pair.params)
        pair.torch = fresh
        return
    if way == "anew":
        pair.adamd.delete()
    else:
        wrong_turn(pair)
    adamd.torch.from_torch(pair.adamd, pair.torch, pair.params, step=pair.steps)


def compare_digests(pair):
    """The same state, once more: adamd's own digest of it, and that of what torch has."""
    if pair.schedules or pair.grad_options or pair.tally.different:
        return
    torch_has = adamd.torch.state_dict(pair.torch, pair.params, step=pair.steps)
    if not any(bool(torch.isnan(torch.from_numpy(a)).any()) for a in torch_has.arrays.values()):
        pair.tally.equal("digest", torch_has.digest(), pair.adamd.digest())
        pair.counts["digests compared"] += 1
