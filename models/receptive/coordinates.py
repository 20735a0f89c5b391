"""Receptive fields by arithmetic of coordinates: which pixels an element depends on, and what a set of them sees.

A network is run with coordinates in place of pixels. They are four planes: minus the top row, the bottom row
(exclusive), minus the left column and the right column (exclusive) of the pixels that each element depends on. In this
form the union of two dependencies is their elementwise maximum, so a convolution becomes a maximum over its window and
its channels, an addition becomes a maximum, a softmax or a mean spreads the maximum over its axes, and whatever only
moves data (reshape, roll, concatenation, window partition, channel shuffle) moves coordinates exactly as it moves
activations. Branches, functional code and attention need no case of their own, and no weight is ever multiplied.

Zero padding does not see anything, but is given the coordinates that its place would have, so that the field of a
unit at the border has the size that it has in the middle. An operation without a rule is taken to see everything that
its arguments see: a field may come out too large there, never too small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fovea.models.card import ReceptiveField

PLANES = 4
NOTHING = -1e9
"""The coordinate of what depends on no pixel (weights, class tokens, padding of uneven maps)."""


def pixels(height: int, width: int) -> Tensor:
    """(4, height, width): every pixel depends on itself."""
    rows = torch.arange(height, dtype=torch.float32).view(height, 1).expand(height, width)
    columns = torch.arange(width, dtype=torch.float32).expand(height, width)
    return torch.stack([-rows, rows + 1, -columns, columns + 1])


def distinct(x: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    """`x` with each of `dims` (all, unless given) cut to one element along which `x` is a repetition of it."""
    places = range(x.dim()) if dims is None else dims
    index = [slice(0, 1) if d in places and x.stride(d) == 0 else slice(None) for d in range(x.dim())]
    return x[tuple(index)]


def reach(x: Tensor, dims: Sequence[int]) -> Tensor:
    """What any element along `dims` (which stay, with size 1) sees."""
    dims = [d % x.dim() for d in dims]
    return distinct(x, dims).amax(dims, keepdim=True)


def union(tensors: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """The maximum of tensors that are broadcast to `shape`."""
    wide = [t.expand(tuple(shape)) for t in tensors]
    repeated = [all(t.stride(d) == 0 for t in wide) for d in range(len(shape))]
    index = tuple(slice(0, 1) if r else slice(None) for r in repeated)
    out = wide[0][index]
    for t in wide[1:]:
        out = torch.maximum(out, t[index])
    return out.expand(tuple(shape))


def pad(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    """`x` longer (or, where negative, shorter) along `dim`; evenly spaced coordinates are continued outwards."""
    if before < 0 or after < 0:
        x = x.narrow(dim, max(-before, 0), x.shape[dim] - max(-before, 0) - max(-after, 0))
        before, after = max(before, 0), max(after, 0)
    if not before and not after:
        return x
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
    if x.shape[dim] > 1:
        steps = x.diff(dim=dim)
        step = steps.narrow(dim, 0, 1)
        even = (steps == step).all(dim, keepdim=True)
    else:
        step, even = torch.zeros_like(first), torch.ones_like(first, dtype=torch.bool)
    shape = [1] * x.dim()
    shape[dim] = -1
    outwards_before = first - step * torch.arange(before, 0, -1).view(shape)
    outwards_after = last + step * torch.arange(1, after + 1).view(shape)
    nothing = torch.tensor(NOTHING)
    return torch.cat([torch.where(even, outwards_before, nothing), x, torch.where(even, outwards_after, nothing)], dim)


def windows(x: Tensor, dim: int, kernel: int, stride: int, dilation: int, before: int, out: int) -> Tensor:
    """Maximum over sliding windows along one axis, `out` of them, the first starting `before` elements early."""
    length = (out - 1) * stride + dilation * (kernel - 1) + 1
    padded = pad(x, dim, before, length - before - x.shape[dim])
    best: Tensor | None = None
    for tap in range(kernel):
        index = [slice(None)] * x.dim()
        index[dim] = slice(tap * dilation, tap * dilation + (out - 1) * stride + 1, stride)
        part = padded[tuple(index)]
        best = part if best is None else torch.maximum(best, part)
    assert best is not None
    return best


def receptive_field(
    seen: Tensor, axes: str, grid: tuple[int, int], extra: int, frame: tuple[int, int]
) -> ReceptiveField | None:
    """The field of a layer's units in a `frame` (H, W), from its coordinates (4, *its shape without the batch).

    `axes`, `grid` and `extra` tokens as on the layer's card. None where it has no units or they depend on no pixel.
    """
    if axes == "NCHW":
        planes = reach(seen, [1]).squeeze(1)
    elif axes == "NHWC":
        planes = reach(seen, [3]).squeeze(3)
    elif axes == "tokens":
        planes = reach(seen[:, extra:], [2]).reshape(PLANES, *grid)
    elif axes == "vector":
        planes = reach(seen, [1]).view(PLANES, 1, 1)
    else:
        return None
    return _field(planes, frame)


def _field(planes: Tensor, frame: tuple[int, int]) -> ReceptiveField | None:
    """The receptive field of positions whose coordinates are `planes` (4, rows, columns), in a `frame` (H, W).

    None where the positions depend on no pixel.
    """
    if float(planes.amax()) <= NOTHING / 2:
        return None
    top, bottom = -planes[0].amax(1), planes[1].amax(1)
    left, right = -planes[2].amax(0), planes[3].amax(0)
    height, width = frame
    y_size, y_stride, y_offset, y_even = _fit(top, bottom, height)
    x_size, x_stride, x_offset, x_even = _fit(left, right, width)
    covers = bool(
        (planes[0] >= 0).all() and (planes[1] >= height).all() and (planes[2] >= 0).all() and (planes[3] >= width).all()
    )
    marching = y_even and x_even and (y_stride > 0 or x_stride > 0)
    if covers and not marching:
        return ReceptiveField(size=frame, stride=(0.0, 0.0), offset=(0.0, 0.0), whole=True)
    return ReceptiveField(size=(y_size, x_size), stride=(y_stride, x_stride), offset=(y_offset, x_offset))


def _fit(low: Tensor, high: Tensor, length: int) -> tuple[int, float, float, bool]:
    """Size, stride and offset of evenly spaced intervals that contain [low[i], high[i]); whether they equal them.

    Where they are not even (windows of attention, uneven pooling), the stride that needs the smaller size is taken:
    that from end to end, or the positions spread evenly over the frame's `length`.
    """
    count = len(low)
    if count == 1:
        return math.ceil(float(high[0]) - math.floor(float(low[0]))), 0.0, float(low[0]), True
    lows, highs = low.tolist(), high.tolist()
    ends = (lows[-1] + highs[-1] - lows[0] - highs[0]) / (2 * (count - 1))
    even = all(
        lo == lows[0] + i * ends and hi == highs[0] + i * ends
        for i, (lo, hi) in enumerate(zip(lows, highs, strict=True))
    )
    best: tuple[int, float, float] | None = None
    for stride in (ends,) if even else (ends, length / count):
        offset = min(lo - i * stride for i, lo in enumerate(lows))
        size = math.ceil(max(hi - math.floor(offset + i * stride) for i, hi in enumerate(highs)))
        if best is None or size < best[0]:
            best = (size, stride, offset)
    assert best is not None
    return (*best, even)
