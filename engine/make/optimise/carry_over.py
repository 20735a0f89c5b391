"""What carries over from one size of a picture to the next: Adam's moments, and the average of the iterates.

Both as in style-transfer-pytorch (Crowson 2021).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fovea.engine.make.optimise.canvas import Canvas, PixelCanvas


class WarmAdam:
    """Makes an Adam for pixels (1, C, H, W) at each size that starts from the moments of the one before.

    The mean of the gradients is resized bicubically, the mean of their squares bilinearly, so that it stays positive.
    """

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self.last: torch.optim.Adam | None = None

    def __call__(self, parameters: list[Tensor]) -> torch.optim.Adam:
        """The optimiser of these pixels."""
        made = torch.optim.Adam(parameters, lr=self.learning_rate)
        if self.last is not None:
            (pixels,) = parameters
            (before,) = self.last.state.values()
            made.state[pixels] = {name: _resized(name, value, pixels) for name, value in before.items()}
        self.last = made
        return made


def _resized(name: str, value: Any, pixels: Tensor) -> Any:
    if name == "exp_avg":
        return F.interpolate(value, pixels.shape[-2:], mode="bicubic", align_corners=False)
    if name == "exp_avg_sq":
        return F.interpolate(value, pixels.shape[-2:], mode="bilinear", align_corners=False)
    return value.clone()


class AveragedIterates:
    """A projection into the box that keeps a running mean of the pixels: Σ decay^age · pixels, divided by Σ decay^age.

    The mean of many iterates is smoother than the last one, which still jumps about by the optimiser's step.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.total: Tensor | None = None
        self.weight = 0.0

    def __call__(self, canvas: Canvas, step: int) -> None:
        """Clip in place and count the iterate in."""
        assert isinstance(canvas, PixelCanvas), "iterates are averaged as pixels"
        with torch.no_grad():
            pixels = canvas.pixels.clamp_(0, 1)
            self.total = pixels.clone() if self.total is None else self.total * self.decay + pixels
            self.weight = self.weight * self.decay + 1

    def mean(self) -> Tensor:
        """The mean (N, C, H, W) so far."""
        assert self.total is not None, "no iterate was counted"
        return self.total / self.weight
