"""Occlusion the slow way: Captum's, and pictures covered one by one."""

from __future__ import annotations

import numpy as np
import torch
from captum.attr import Occlusion
from torch import nn

from fovea.models.torch_net import forward_taps


def captum_occlusion(
    module: nn.Module, inputs: np.ndarray, target: int, window: int, stride: int, score: str, each: int = 4
) -> np.ndarray:
    """Captum's mean drop (H, W) of a class; the fill is 0, as Captum's baseline is by default."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        logits = module(x)
        return logits.softmax(1) if score == "probability" else logits

    channels = inputs.shape[1]
    with torch.no_grad():
        attribution = Occlusion(forward).attribute(
            torch.from_numpy(inputs),
            sliding_window_shapes=(channels, window, window),
            strides=(channels, stride, stride),
            target=target,
            perturbations_per_eval=each,
        )
    return attribution[0, 0].numpy()


def occlusion_by_slices(
    module: nn.Module,
    inputs: np.ndarray,
    cover: np.ndarray,
    window: int,
    ys: np.ndarray,
    xs: np.ndarray,
    tap: str | None = None,
) -> np.ndarray:
    """Probabilities, or the largest values of a tap's units, (rows, cols, classes or units)."""
    rows = []
    for y in ys:
        for x in xs:
            covered = inputs.copy()
            covered[:, :, y : y + window, x : x + window] = cover[:, :, y : y + window, x : x + window]
            with torch.no_grad():
                if tap is None:
                    values = module(torch.from_numpy(covered)).softmax(1)[0]
                else:
                    values = forward_taps(module, torch.from_numpy(covered), [tap])[tap][0].amax((1, 2))
            rows.append(values.numpy())
    return np.stack(rows).reshape(len(ys), len(xs), -1)
