"""Following a torch network: the input it is run on, and the axes of what its modules return."""

from __future__ import annotations

import torch
from torch import Tensor

from fovea.models.receptive import torch_mixes, torch_moves, torch_windows
from fovea.models.receptive.coordinates import PLANES, pixels
from fovea.models.receptive.seen import NO_ROLES, RULES, Roles, Seen

RULES.update(torch_moves.RULES | torch_windows.RULES | torch_mixes.RULES)


def coordinates(channels: int, height: int, width: int, dtype: torch.dtype = torch.float32) -> Seen:
    """The input (4, channels, height, width) that claims to be of `dtype`: every element depends on its own pixel."""
    planes = pixels(height, width).unsqueeze(1).expand(PLANES, channels, height, width)
    return Seen(planes.contiguous(), (1, 2, 3), dtype)


def settle_roles(value: Tensor, given: Tensor | None) -> None:
    """Complete the axes of a module's output `value`, where they were lost on the way, from its input `given`."""
    if not isinstance(value, Seen) or value.dim() != 4 or None not in value.roles:
        return
    if isinstance(given, Seen) and given.shape == value.shape and None not in given.roles:
        value.roles = given.roles
    elif value.roles[1:] == (2, 3):
        value.roles = (1, 2, 3)


def roles_of(value: Tensor) -> Roles:
    """The axes of a module's output. Of a plain tensor (the network could not be followed): NCHW, or (N, T, C)."""
    if isinstance(value, Seen):
        return value.roles
    return (1, 2, 3) if value.dim() == 4 else (2, None, None) if value.dim() == 3 else NO_ROLES
