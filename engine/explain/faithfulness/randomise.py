"""A network whose layers are re-initialised from the top down, on a copy of its own: the randomisation test.

Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 3.1, cascading randomisation. Departure: a layer's
values are shuffled instead of drawn anew, which forgets what was learned and keeps their scale on any architecture.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Stage:
    """The first `layers` of all `of` layers with weights, from the top, down to `down_to`, are re-initialised.

    `module` is the copy at this stage; it changes when the next stage is asked for.
    """

    layers: int
    of: int
    down_to: str
    module: nn.Module


def layers_from_top(module: nn.Module, calls: Sequence[str]) -> list[str]:
    """The paths of the modules with values of their own, those that the forward pass reaches last first.

    `calls` are the network's layers in forward order, as its card has them ("path", "path#2"). A module that is
    never called (attention reads its projection's weights itself) counts with the nearest one around it.
    """
    last_call = {name.partition("#")[0]: number for number, name in enumerate(calls)}
    owners = [path for path, child in module.named_modules() if _values(child)]

    def called_last(path: str) -> int:
        while path and path not in last_call:
            path = path.rpartition(".")[0]
        return last_call.get(path, -1)

    # Python's sort keeps the order of definition among equals; reversed, the later definition comes first.
    return sorted(reversed(owners), key=called_last, reverse=True)


def cascade(module: nn.Module, calls: Sequence[str], stages: int, seed: int) -> Iterator[Stage]:
    """The top layer re-initialised first, then ever more down to the first layer, in `stages` steps.

    `module` itself is left alone. A network without weights has no stage.
    """
    paths = layers_from_top(module, calls)
    if not paths:
        return
    copied = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    done = 0
    for until in stage_ends(len(paths), stages):
        for path in paths[done:until]:
            shuffle_values(copied.get_submodule(path), generator)
        done = until
        yield Stage(until, len(paths), paths[until - 1] or "the network's own values", copied)


def stage_ends(layers: int, stages: int) -> list[int]:
    """How many layers are re-initialised at each stage: one, then evenly up to all."""
    ends = np.rint(np.linspace(1, layers, max(stages, 1))) if stages > 1 else np.array([layers])
    return sorted({int(end) for end in ends})


def shuffle_values(module: nn.Module, generator: torch.Generator) -> None:
    """Put the values of each of the module's own tensors into another order, in place; children are left alone."""
    for tensor in _values(module):
        order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
        tensor.copy_(tensor.detach().flatten()[order].view_as(tensor))


def _values(module: nn.Module) -> list[torch.Tensor]:
    """The module's own learned tensors: parameters, and what a normalisation has counted."""
    kept = module.state_dict(keep_vars=True)
    return [
        tensor
        for name, tensor in kept.items()
        if "." not in name and isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.numel() > 1
    ]
