"""A unit's effective filter: what it looks for in the picture, through all layers before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fovea.engine.method import Job
    from fovea.models.card import Card

TRACES = 9
"""An effective filter is the mean of so many gradients, at mean pictures with a trace of noise."""
TRACE = 1e-3
"""The noise's standard deviation, as a share of the way from black to white."""


def mean_picture(card: Card) -> NDArray[np.float32]:
    """The network's mean colour as its input, (1, C, 1, 1); middle grey where the preprocessing subtracts no mean."""
    low, high = card.preprocessing.value_limits()
    inside = (low < 0) & (high > 0)
    return np.where(inside, 0.0, (low + high) / 2).astype(np.float32).reshape(1, -1, 1, 1)


def effective_filter(job: Job[Any], name: str, unit: int) -> NDArray[np.float32]:
    """The gradient of a unit's middle position with respect to the input, at the mean picture.

    (C, h, w), cut to the receptive field and in RGB order; the whole frame where every position sees it. A max
    pooling finds all places of an even picture alike, and its gradient would take the first: so it is the mean over
    TRACES pictures with a trace of noise.
    """
    import torch

    from fovea.engine.unit_maps import unit_maps
    from fovea.models.torch_net import forward_taps

    card = job.card
    layer, (height, width) = card.layer(name), card.preprocessing.size
    module = job.network.module(job.device)
    row, column = layer.grid[0] // 2, layer.grid[1] // 2
    low, high = card.preprocessing.value_limits()
    rng = np.random.default_rng(job.seed)
    values = np.zeros((card.preprocessing.channels, height, width), np.float32)
    progress = job.progress.span(0.3, 0.9)
    for trace in range(TRACES):
        progress(trace / TRACES, "looking through the layers before")
        noise = rng.standard_normal((1, *values.shape), np.float32) * (TRACE * (high - low)).reshape(1, -1, 1, 1)
        x = torch.from_numpy(mean_picture(card) + noise.astype(np.float32)).to(job.device).requires_grad_()
        maps = unit_maps(forward_taps(module, x, [name])[name], layer)
        (gradient,) = torch.autograd.grad(maps[0, unit, row, column], x)
        values += gradient[0].cpu().numpy() / TRACES
    x0, y0, x1, y1 = 0, 0, width, height
    if layer.receptive_field is not None:
        x0, y0, x1, y1 = layer.receptive_field.box(row, column, (height, width))
    values = values[::-1] if card.preprocessing.order == "BGR" else values
    return np.ascontiguousarray(values[:, y0:y1, x0:x1])
