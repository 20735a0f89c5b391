"""Whether a user's code gave its network weights of its own, or weights that are drawn anew each time it is built."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fovea.models.weights import RANDOM

if TYPE_CHECKING:
    from torch import nn

    from fovea.models.user_code import UserCode

AS_BUILT = "as built"
"""Where the weights of a network come from whose code brings them."""


@dataclass(frozen=True)
class Weighted:
    """A module with its weights, where they come from, and what is to be told of them."""

    module: nn.Module
    weights: str
    random: bool = False
    notes: tuple[str, ...] = ()


def as_made(architecture: str, code: UserCode, arguments: Mapping[str, Any]) -> Weighted:
    """What a user's code makes, with the weights that it gave it; random ones where it loaded none.

    It is built twice, with the generators of random numbers set differently: weights that are equal both times were
    loaded, and those that differ were drawn. Where all are drawn they are drawn anew with a seed of ours, the same in
    every process.
    """
    from fovea.models import torch_net
    from fovea.models.opaque import Opaque
    from fovea.models.user_code import seeded

    def made(seed: int) -> nn.Module:
        with seeded(seed):
            return _made_anew(architecture, code, seed)(**arguments)

    module = made(0)
    told = f"The weights are used as {architecture.rpartition(':')[2]} made them."
    if isinstance(module, Opaque):
        return Weighted(module, AS_BUILT, notes=(told, *opaque_notes(module)))
    here, there = _digests(module), _digests(made(1))
    drawn = {name for name in here if here[name] != there.get(name)}
    sizes = {name: value.numel() for name, value in module.named_parameters()}
    # Scales and shifts begin with the same values in every network: they tell nothing.
    weights = [name for name, value in module.named_parameters() if value.dim() > 1] or list(sizes)
    if drawn and all(name in drawn for name in weights):
        return Weighted(torch_net.randomise(module), RANDOM, random=True)
    if not drawn:
        return Weighted(module, AS_BUILT, notes=(told,))
    mostly = 2 * sum(sizes.get(name, 0) for name in drawn) > sum(sizes.values())
    first = next(name for name in here if name in drawn)
    partly = f"{len(drawn)} of its {len(here)} tensors were loaded from nowhere and are random (the first is {first})."
    return Weighted(module, RANDOM if mostly else AS_BUILT, random=mostly, notes=(told, partly))


def opaque_notes(module: nn.Module) -> list[str]:
    """What is told of a network whose inside cannot be looked at."""
    from fovea.models.opaque import OPAQUE_NOTE, Opaque

    return [OPAQUE_NOTE.format(kind=module.kind)] if isinstance(module, Opaque) else []


def _made_anew(architecture: str, code: UserCode, seed: int) -> Callable[..., nn.Module]:
    """What makes the module; for a finished one with another seed, its file run once more."""
    from fovea.models.user_code import user_code

    return user_code(architecture, anew=seed).make if code.kind == "module" and seed else code.make


def _digests(module: nn.Module) -> dict[str, str]:
    """A hash of each parameter and buffer."""
    import torch

    found = {}
    for name, value in module.state_dict().items():
        if isinstance(value, torch.Tensor):
            data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            found[name] = hashlib.blake2b(data.data if len(data) else b"", digest_size=16).hexdigest()
    return found
