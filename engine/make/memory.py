"""Whether a picture of a size fits into memory, told before the first step; no torch until CUDA is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import OptionsError
from models.card import OUTPUT

if TYPE_CHECKING:
    from models.card import Card

SPARE = 0.85
"""The part of the free memory that a run may plan with."""
CANVAS_COPIES = 16
"""Pictures beside the network's features: parameters, gradients, Adam's moments, transforms, the last good one."""
_CONTAINERS = ("Sequential", "ModuleList")


def free_bytes(device: str = "cpu") -> int:
    """Memory that a new run can have: on the GPU, or of the machine and of the control group it runs in."""
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info()
        return int(free)
    found = [_meminfo()]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            root = Path("/sys/fs/cgroup")
            found.append(int((root / limit).read_text()) - int((root / used).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return min(found)


def _meminfo() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return 1 << 62  # where nobody tells, nothing is refused


def step_bytes(card: Card, taps: Sequence[str], height: int, width: int, count: int = 1) -> int:
    """What one step needs for `count` pictures: each layer's output down to the deepest tap, kept for the way back.

    Layers with maps grow with the picture's area. An estimate from the card, on the high side of what torch keeps.
    """
    own = card.preprocessing.size
    area = height * width / (own[0] * own[1])
    names = [layer.name for layer in card.layers]
    whole = OUTPUT in taps or not all(tap in names for tap in taps)
    deepest = len(names) if whole else max((names.index(tap) for tap in taps), default=-1) + 1
    sizes = [
        math.prod(layer.shape) * (area if layer.spatial else 1.0)
        for layer in card.layers[:deepest]
        if layer.kind not in _CONTAINERS
    ]
    canvas = CANVAS_COPIES * card.preprocessing.channels * height * width
    return int(4 * count * (sum(sizes) + 2 * max(sizes, default=0.0) + canvas))


def check_memory(
    card: Card, taps: Sequence[str], height: int, width: int, *, count: int = 1, device: str = "cpu"
) -> None:
    """Raise OptionsError where a step would need more memory than is free, with the largest picture that fits."""
    free = free_bytes(device)
    if step_bytes(card, taps, height, width, count) <= SPARE * free:
        return
    need = step_bytes(card, taps, height, width, count)
    long = max(height, width)
    while (
        long > 16
        and step_bytes(card, taps, height * long // max(height, width), width * long // max(height, width), count)
        > SPARE * free
    ):
        long = int(long * 0.98)
    pictures = f"{count} pictures" if count > 1 else "a picture"
    raise OptionsError(
        f"{pictures} of {width} x {height} pixels need about {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free: "
        f"the largest that fits has a long side of {long} pixels{', or make fewer at once' if count > 1 else ''}"
    )
