"""Small random changes between canvas and network, so that what is made does not hang on exact pixels.

Each transform maps a picture (N, C, H, W) and a generator to a picture of the same size, differentiable; all
pictures of a batch get the same draw. Mordvintsev et al. 2015 (jitter); Olah et al. 2017 (robustness).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Transform = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Jitter:
    """Shift by up to `pixels` in each direction; what moves in from outside mirrors the edge.

    Mirrored, because a repeated edge pixel would be seen many times over and grow into a frame of noise.
    """

    pixels: int

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        """The shifted picture."""
        if self.pixels == 0:
            return picture
        y, x = (int(v) - self.pixels for v in torch.randint(0, 2 * self.pixels + 1, (2,), generator=generator))
        mirrors = self.pixels < min(picture.shape[-2:])
        return slid(slid(picture, y, -2, mirrors), x, -1, mirrors)


@dataclass(frozen=True)
class Roll:
    """Shift by up to `pixels` in each direction; what leaves on one side comes in on the other."""

    pixels: int

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        """The rolled picture."""
        y, x = (int(v) for v in torch.randint(-self.pixels, self.pixels + 1, (2,), generator=generator))
        return torch.roll(picture, (y, x), (-2, -1))


@dataclass(frozen=True)
class ScaleAndRotate:
    """Scale by a factor from `scales`, rotate by degrees from `angles`, about the centre; edges are mirrored.

    Before it a shift by up to `shift` pixels in each direction, after it one by up to `shift_after`, all in one
    resampling.
    """

    scales: tuple[float, ...] = (1.0,)
    angles: tuple[float, ...] = (0.0,)
    shift: int = 0
    shift_after: int = 0

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        """The turned picture, of the same size."""
        before = _drawn_shift(self.shift, generator)
        scale = self.scales[int(torch.randint(len(self.scales), (1,), generator=generator))]
        angle = math.radians(self.angles[int(torch.randint(len(self.angles), (1,), generator=generator))])
        after = _drawn_shift(self.shift_after, generator)
        height, width = picture.shape[-2:]
        high, wide = max(1, height - 1), max(1, width - 1)
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        # In a grid's coordinates the first pixel of a side is at -1 and the last at 1, so a turn of a picture that is
        # not square is skewed.
        rows = [[cos, -sin * high / wide], [sin * wide / high, cos]]
        ends = [2 * after[1] / wide, 2 * after[0] / high]
        starts = [2 * before[1] / wide, 2 * before[0] / high]
        # What `affine_grid` makes of this matrix, in a third of its time: a sum of what its columns and rows add.
        across, down = (torch.linspace(-1, 1, n, device=picture.device, dtype=picture.dtype) for n in (width, height))
        grid = picture.new_empty((1, height, width, 2))
        for axis, (row, start) in enumerate(zip(rows, starts, strict=True)):
            along = down * row[1] + (row[0] * ends[0] + row[1] * ends[1] + start)
            torch.add(across * row[0], along[:, None], out=grid[0, ..., axis])
        return _resampled(picture, grid)


def slid(picture: Tensor, by: int, axis: int, mirrors: bool = True) -> Tensor:
    """The picture from pixel `by` on along an axis; what is missing mirrors the edge, or else repeats its pixel."""
    if by == 0:
        return picture
    length, missing = picture.shape[axis], abs(by)
    if mirrors:
        outside = picture.narrow(axis, 1 if by < 0 else length - 1 - missing, missing).flip(axis)
    else:
        outside = picture.narrow(axis, 0 if by < 0 else length - 1, 1)
        outside = outside.expand(*(missing if n == picture.ndim + axis else -1 for n in range(picture.ndim)))
    kept = max(0, length - missing)
    inside = picture.narrow(axis, 0 if by < 0 else length - kept, kept)
    moved = torch.cat((outside, inside) if by < 0 else (inside, outside), axis)
    return moved.narrow(axis, 0 if by < 0 else moved.shape[axis] - length, length)


def _drawn_shift(reach: int, generator: torch.Generator) -> list[int]:
    """Rows and columns, each from -reach to reach; nothing is drawn for 0."""
    return [int(v) for v in torch.randint(-reach, reach + 1, (2,), generator=generator)] if reach else [0, 0]


def _resampled(picture: Tensor, grid: Tensor) -> Tensor:
    """The picture (N, C, H, W) at the positions of the grid (1, H, W, 2), mirrored beyond its edge pixels.

    With `align_corners` the mirror stands on the edge pixel and does not show it twice, as in `Jitter`.
    """
    if picture.is_cuda:
        return _gathered(picture, grid)
    count, height = len(picture), picture.shape[-2]
    if count > 1 or height % 2:
        return F.grid_sample(picture, grid.expand(count, -1, -1, -1), padding_mode="reflection", align_corners=True)
    # torch shares this work out by picture: a single one is made as two halves, one for each of two cores.
    halves = grid.view(2, height // 2, -1, 2)
    made = F.grid_sample(picture.expand(2, -1, -1, -1), halves, padding_mode="reflection", align_corners=True)
    return made.transpose(0, 1).reshape(picture.shape)


def _gathered(picture: Tensor, grid: Tensor) -> Tensor:
    """What `grid_sample` gives, whose gradient on a GPU adds up in any order; picking pixels has one that does not."""
    columns, left, right = _neighbours(grid[0, ..., 0], picture.shape[-1])
    rows, above, below = _neighbours(grid[0, ..., 1], picture.shape[-2])
    width = picture.shape[-1]
    positions = torch.stack([y * width + x for y in (above, below) for x in (left, right)])
    parts = torch.stack([y * x for y in (1 - rows, rows) for x in (1 - columns, columns)])
    return (picture.flatten(2)[..., positions] * parts).sum(2)


def _neighbours(positions: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Along an axis of that length, if -1 and 1 are its first and last pixel: how far each position lies beyond
    the pixel before it, and that pixel and the next; beyond the edge pixels the axis is mirrored."""
    last = max(1, length - 1)
    far = ((positions + 1) * (last / 2)).abs().remainder(2 * last)
    far = torch.minimum(far, 2 * last - far).clamp(0, length - 1)
    before = far.floor()
    return far - before, before.long(), (before.long() + 1).clamp_max(length - 1)


def lucid_transforms(jitter: int = 8) -> list[Transform]:
    """Lucid's standard set: jitter, scale 0.9 to 1.1, rotation up to 10 degrees, jitter 4 (render.py), as one.

    Lucid pads by 12 grey pixels before, which come into view at the edges; here the picture is mirrored there.
    """
    scales = tuple(1 + (i - 5) / 50 for i in range(11))
    angles = tuple(float(a) for a in [*range(-10, 11), *(5 * [0])])
    return [ScaleAndRotate(scales, angles, shift=jitter, shift_after=4)]


def compose(transforms: Sequence[Transform]) -> Transform:
    """The transforms one after the other."""

    def apply(picture: Tensor, generator: torch.Generator) -> Tensor:
        for transform in transforms:
            picture = transform(picture, generator)
        return picture

    return apply
