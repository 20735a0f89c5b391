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
        reach = self.pixels
        height, width = picture.shape[-2:]
        y, x = (int(v) for v in torch.randint(0, 2 * reach + 1, (2,), generator=generator))
        mirrors = reach < min(height, width)
        padded = F.pad(picture, (reach, reach, reach, reach), mode="reflect" if mirrors else "replicate")
        return padded[..., y : y + height, x : x + width]


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
    """Scale by a factor from `scales`, rotate by degrees from `angles`, about the centre; edges are mirrored."""

    scales: tuple[float, ...] = (1.0,)
    angles: tuple[float, ...] = (0.0,)

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        """The turned picture, of the same size."""
        scale = self.scales[int(torch.randint(len(self.scales), (1,), generator=generator))]
        angle = math.radians(self.angles[int(torch.randint(len(self.angles), (1,), generator=generator))])
        height, width = picture.shape[-2:]
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        # In affine_grid's coordinates both sides run from -1 to 1, so a turn of a non-square picture is skewed.
        matrix = [[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]]
        theta = torch.tensor([matrix], device=picture.device, dtype=picture.dtype)
        grid = F.affine_grid(theta.expand(len(picture), 2, 3), list(picture.shape), align_corners=False)
        return F.grid_sample(picture, grid, padding_mode="reflection", align_corners=False)


def lucid_transforms() -> list[Transform]:
    """Lucid's standard set: jitter 8, scale 0.9 to 1.1, rotation up to 10 degrees, jitter 4 (render.py)."""
    scales = tuple(1 + (i - 5) / 50 for i in range(11))
    angles = tuple(float(a) for a in [*range(-10, 11), *(5 * [0])])
    return [Jitter(8), ScaleAndRotate(scales, angles), Jitter(4)]


def compose(transforms: Sequence[Transform]) -> Transform:
    """The transforms one after the other."""

    def apply(picture: Tensor, generator: torch.Generator) -> Tensor:
        for transform in transforms:
            picture = transform(picture, generator)
        return picture

    return apply
