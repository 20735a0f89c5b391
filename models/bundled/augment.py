"""What training does to photos so that no two epochs see the same: crops, mirror images, other light and colours."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fovea.models.bundled.net import normalise


def distort(pixels: Tensor, size: int, dice: np.random.Generator) -> Tensor:
    """Return crops (N, side, side, 3) uint8 as network inputs (N, 3, size, size): shifted, mirrored, recoloured."""
    n, side = pixels.shape[:2]
    crop = int(dice.integers(round(side * 7 / 8), side + 1))
    top, left = (torch.from_numpy(dice.integers(side - crop + 1, size=n)) for _ in range(2))
    span = torch.arange(crop)
    rows, cols = top[:, None] + span, left[:, None] + span
    mirror = torch.from_numpy(dice.random(n) < 0.5)
    cols = torch.where(mirror[:, None], cols.flip(1), cols)
    device = pixels.device
    index = torch.arange(n, device=device)[:, None, None]
    x = pixels[index, rows.to(device)[:, :, None], cols.to(device)[:, None, :]].permute(0, 3, 1, 2)
    if crop != size:
        x = x if device.type == "cpu" else x.float()  # bytes are resized fast on a CPU, and nowhere else
        x = F.interpolate(x, (size, size), mode="bilinear", antialias=crop > size, align_corners=False)
    x = recolour(x.float() / 255, dice)
    return normalise(x.clamp(0, 1) * 255)


def recolour(x: Tensor, dice: np.random.Generator) -> Tensor:
    """Change brightness, contrast, saturation and colour balance of (N, 3, H, W) in 0..1, each photo on its own."""
    n = len(x)

    def chance(low: float, high: float, channels: int = 1) -> Tensor:
        values = dice.uniform(low, high, size=(n, channels, 1, 1)).astype(np.float32)
        return torch.from_numpy(values).to(x.device)

    saturation = chance(0.6, 1.4)
    saturation[torch.from_numpy(dice.random(n) < 0.05)] = 0.0
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * saturation
    middle = grey.mean((2, 3), keepdim=True)
    x = middle + (x - middle) * chance(0.7, 1.3)
    return x * (chance(0.75, 1.25) * chance(0.9, 1.1, 3))
