"""Whether a picture of a size fits into memory, told before the first step; no torch until CUDA is asked for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from fovea.engine.errors import OptionsError
from fovea.engine.make.optimise.layers import ENLARGED
from fovea.models.card import OUTPUT

if TYPE_CHECKING:
    from fovea.models.card import Card, Layer

SPARE = 0.75
"""The part of the free memory that a run may plan with: torch keeps up to a fifth more than is counted here."""
CANVAS_COPIES = 16
"""Pictures beside the network's features: parameters, gradients, Adam's moments, transforms, the last good one."""
_CONTAINERS = ("Sequential", "ModuleList")


def free_bytes(device: str = "cpu") -> int:
    """Memory that a new run can have: on the GPU, or of the machine and of the control group it runs in."""
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info()
        # What torch holds back for its next tensors is there for this run, too.
        return int(free) + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    limits = [int(psutil.virtual_memory().available)]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            root = Path("/sys/fs/cgroup")
            limits.append(int((root / limit).read_text()) - int((root / used).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return min(limits)


def step_bytes(
    card: Card,
    taps: Sequence[str],
    height: int,
    width: int,
    count: int = 1,
    *,
    recompute: bool = False,
    fine: Sequence[str] = (),
) -> int:
    """What one step needs for `count` pictures: each layer's output down to the deepest tap, kept for the way back.

    With `recompute` only what leaves a block is kept, and the largest block's inside once. Layers with maps grow with
    the picture's area. `fine`: layers that look at the enlarged picture as well. An estimate from the card.
    """
    if fine:
        large = step_bytes(card, fine, ENLARGED * height, ENLARGED * width, count, recompute=recompute)
        return large + step_bytes(card, taps, height, width, count, recompute=recompute)
    own = card.preprocessing.size
    area = height * width / (own[0] * own[1])
    names = [layer.name for layer in card.layers]
    whole = OUTPUT in taps or not all(tap in names for tap in taps)
    deepest = len(names) if whole else max((names.index(tap) for tap in taps), default=-1) + 1
    layers = [layer for layer in card.layers[:deepest] if layer.kind not in _CONTAINERS]
    sizes = [math.prod(layer.shape) * (area if layer.spatial else 1.0) for layer in layers]
    canvas = CANVAS_COPIES * card.preprocessing.channels * height * width
    kept = _kept_between_blocks(card, layers, sizes) if recompute else sum(sizes)
    return int(4 * count * (kept + 2 * max(sizes, default=0.0) + canvas))


def _kept_between_blocks(card: Card, layers: Sequence[Layer], sizes: Sequence[float]) -> float:
    """The values that leave the blocks, and those inside the largest one."""
    inside: dict[tuple[str, int], list[float]] = {}
    blocks = [layer.name for layer in card.layers if not layer.leaf and layer.kind not in _CONTAINERS]
    chains = Counter(layer.name.rpartition(".")[0] for layer in layers if layer.leaf)
    met: Counter[str] = Counter()
    for layer, size in zip(layers, sizes, strict=True):
        outermost = next((name for name in sorted(blocks, key=len) if f"{layer.name}.".startswith(f"{name}.")), "")
        chain = layer.name.rpartition(".")[0]
        length = math.ceil(chains[chain] / max(1, round(chains[chain] ** 0.5))) if chain and not outermost else 1
        inside.setdefault((outermost or chain, 0 if outermost else met[chain] // length), []).append(size)
        met[chain] += 1
    return sum(block[-1] for block in inside.values()) + max((sum(block) for block in inside.values()), default=0.0)


def fits(
    card: Card,
    taps: Sequence[str],
    height: int,
    width: int,
    *,
    device: str = "cpu",
    recompute: bool = False,
    fine: Sequence[str] = (),
) -> bool:
    """Whether a step on one picture of that size has memory enough."""
    return step_bytes(card, taps, height, width, recompute=recompute, fine=fine) <= SPARE * free_bytes(device)


def check_memory(
    card: Card,
    taps: Sequence[str],
    height: int,
    width: int,
    *,
    count: int = 1,
    device: str = "cpu",
    recompute: bool = False,
    fine: Sequence[str] = (),
) -> None:
    """Raise OptionsError where a step would need more memory than is free, with the largest picture that fits."""
    free, long = free_bytes(device), max(height, width)

    def need(side: int) -> int:
        rows, columns = height * side // max(height, width), width * side // max(height, width)
        return step_bytes(card, taps, rows, columns, count, recompute=recompute, fine=fine)

    if need(long) <= SPARE * free:
        return
    while long > 16 and need(long) > SPARE * free:
        long = int(long * 0.98)
    pictures, gigabytes = f"{count} pictures" if count > 1 else "a picture", need(max(height, width)) / 1e9
    need_it = "need" if count > 1 else "needs"
    raise OptionsError(
        f"{pictures} of {width} x {height} pixels {need_it} about {gigabytes:.1f} GB, "
        f"and {free / 1e9:.1f} GB are free: "
        f"the largest that fits has a long side of {long} pixels{', or make fewer at once' if count > 1 else ''}"
    )
