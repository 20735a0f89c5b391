"""What is done to the canvas after each step, so that it stays where it is allowed to be.

A projection changes a canvas's parameters in place; `step` counts from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fovea.engine.make.optimise.canvas import Canvas, PixelCanvas

Projection = Callable[[Canvas, int], None]


def _pixels(canvas: Canvas) -> Tensor:
    assert isinstance(canvas, PixelCanvas), f"this projection acts on pixels, not on a {type(canvas).__name__}"
    return canvas.pixels


def box(canvas: Canvas, step: int) -> None:
    """Every pixel into [0, 1], real pixel values."""
    with torch.no_grad():
        _pixels(canvas).clamp_(0, 1)


@dataclass(frozen=True)
class Ball:
    """Within `radius` of `centre` (N, C, H, W) in the L-infinity or L2 norm of each picture, and in [0, 1]."""

    centre: Tensor
    radius: float
    norm: float = math.inf

    def __call__(self, canvas: Canvas, step: int) -> None:
        """Project in place."""
        with torch.no_grad():
            pixels = _pixels(canvas)
            delta = pixels - self.centre
            if self.norm == math.inf:
                delta.clamp_(-self.radius, self.radius)
            else:
                length = delta.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
                delta *= (self.radius / length).clamp_max(1.0)
            pixels.copy_((self.centre + delta).clamp_(0, 1))


def gaussian_blur(picture: Tensor, deviation: float) -> Tensor:
    """The picture (N, C, H, W) blurred by a Gaussian of `deviation` pixels; edges repeat."""
    reach = max(1, math.ceil(3 * deviation))
    offsets = torch.arange(-reach, reach + 1, dtype=picture.dtype, device=picture.device)
    kernel = torch.exp(-0.5 * (offsets / deviation) ** 2)
    kernel = kernel / kernel.sum()
    channels = picture.shape[1]
    across = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    down = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    padded = F.pad(picture, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, across, groups=channels), down, groups=channels)


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur of `deviation` pixels after every `every` steps (Yosinski et al. 2015, section 3)."""

    deviation: float
    every: int = 4

    def __call__(self, canvas: Canvas, step: int) -> None:
        """Blur in place when it is time."""
        if self.deviation > 0 and step % self.every == self.every - 1:
            with torch.no_grad():
                pixels = _pixels(canvas)
                pixels.copy_(gaussian_blur(pixels, self.deviation))


@dataclass(frozen=True)
class Decay:
    """What the picture differs from `mean` (1, C, H, W) shrinks by the part `rate` at each step.

    Yosinski et al. 2015, section 3: L2 decay towards the network's mean colour.
    """

    mean: Tensor
    rate: float

    def __call__(self, canvas: Canvas, step: int) -> None:
        """Shrink in place."""
        with torch.no_grad():
            pixels = _pixels(canvas)
            pixels.copy_(self.mean + (1 - self.rate) * (pixels - self.mean))


@dataclass(frozen=True)
class Clip:
    """Pixels of small norm, or of small contribution, become `mean` (1, C, H, W): the rest may stay dark.

    Yosinski et al. 2015, section 3. A pixel's norm is that of its colours about the mean; its contribution is
    |Σ over colours of difference · gradient|, the change of the loss if it were put back to the mean, to first order.
    Under the `percentile` of its picture it is small.
    """

    mean: Tensor
    percentile: float
    by: Literal["norm", "contribution"] = "norm"

    def __call__(self, canvas: Canvas, step: int) -> None:
        """Clip in place."""
        with torch.no_grad():
            pixels = _pixels(canvas)
            difference = pixels - self.mean
            size = difference.norm(dim=1, keepdim=True)
            if self.by == "contribution":
                assert pixels.grad is not None, "a contribution needs the gradient of the step before"
                size = (difference * pixels.grad).sum(1, keepdim=True).abs()
            least = torch.quantile(size.flatten(1), self.percentile / 100, dim=1).view(-1, 1, 1, 1)
            pixels.copy_(self.mean + difference * (size >= least))


@dataclass(frozen=True)
class Chain:
    """Several projections, one after the other."""

    projections: tuple[Projection, ...]

    def __call__(self, canvas: Canvas, step: int) -> None:
        """Each in turn."""
        for projection in self.projections:
            projection(canvas, step)
