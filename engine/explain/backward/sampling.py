"""At which inputs a backward rule is asked, and how its answers become one attribution per input value.

The plain gradient (Simonyan et al. 2013, section 3) samples nothing. The others call `gradient(inputs)`, which takes
a batch (N, C, H, W) and returns the score's gradients of the same shape and the scores (N,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fovea.engine.progress import SILENT, Progress
from fovea.models.torch_net import in_float64

Gradient = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Attribution:
    """`values` (C, H, W), and what a sampling found out about itself.

    `times_input` tells that the values are already products with the input (integrated gradients).
    `completeness_error` is |sum of values − change of score| / |change of score|, or None.
    """

    values: Tensor
    times_input: bool = False
    completeness_error: float | None = None


def _batches(count: int, batch: int) -> Iterator[range]:
    for start in range(0, count, batch):
        yield range(start, min(start + batch, count))


def smoothgrad(
    x: Tensor,
    gradient: Gradient,
    *,
    samples: int,
    noise: float,
    seed: int,
    squared: bool = False,
    batch: int = 8,
    progress: Progress = SILENT,
) -> Attribution:
    """The mean gradient, or mean squared gradient, at noisy copies of `x` (Smilkov et al. 2017, section 3).

    `noise` is the Gaussian's standard deviation as a fraction of the input's range (max − min). The noise is
    drawn copy by copy, so the batch size does not change the result beyond rounding.
    """
    generator = torch.Generator().manual_seed(seed)
    deviation = noise * float(x.max() - x.min())
    total = in_float64(torch.zeros_like(x[0]))
    for part in _batches(samples, batch):
        draws = torch.stack([torch.randn(x.shape[1:], generator=generator) for _ in part])
        gradients, _ = gradient(x + deviation * draws.to(x))
        gradients = in_float64(gradients)
        total += (gradients.square() if squared else gradients).sum(0)
        progress(part.stop / samples, f"{part.stop} of {samples} noisy copies")
    return Attribution((total / samples).to(x))


def integrated_gradients(
    x: Tensor,
    gradient: Gradient,
    baseline: Tensor,
    *,
    steps: int,
    batch: int = 8,
    progress: Progress = SILENT,
) -> Attribution:
    """(x − baseline) times the mean gradient on the straight line between them (Sundararajan et al. 2017, eq. 1).

    The integral is taken by Gauss-Legendre quadrature with `steps` points. Its values add up to the change of
    score from `baseline` (1, C, H, W) to `x` (the paper's completeness); the relative error of that is reported.
    """
    points, weights = np.polynomial.legendre.leggauss(steps)
    points, weights = (points + 1) / 2, weights / 2
    total = in_float64(torch.zeros_like(x[0]))
    _, ends = gradient(torch.cat([x, baseline]))
    for part in _batches(steps, batch):
        where = torch.tensor(points[part.start : part.stop], dtype=x.dtype, device=x.device).view(-1, 1, 1, 1)
        share = torch.tensor(weights[part.start : part.stop], device=total.device).view(-1, 1, 1, 1)
        gradients, _ = gradient(baseline + where * (x - baseline))
        total += (in_float64(gradients) * share).sum(0)
        progress(part.stop / steps, f"{part.stop} of {steps} points")
    values = total * in_float64(x[0] - baseline[0])
    change = float(ends[0] - ends[1])
    error = abs(float(values.sum()) - change) / max(abs(change), 1e-12)
    return Attribution(values.to(x), times_input=True, completeness_error=error)
