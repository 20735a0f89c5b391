"""Padding and stretching that go around a picture's edges, for pictures that tile.

The gradient of the padding costs what the padding does: torch's own gives maps with channels first whatever it got,
and on the way back makes a whole picture of zeros for every piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class _Around(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sides: tuple[int, int, int, int]) -> Tensor:
        ctx.sides, ctx.size = sides, x.shape[-2:]
        (left, right, top, bottom), (height, width) = sides, x.shape[-2:]
        last = x.is_contiguous(memory_format=torch.channels_last)
        shape = (*x.shape[:-2], top + height + bottom, left + width + right)
        layout = torch.channels_last if last else torch.contiguous_format
        padded = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
        rows = padded[..., top : top + height, :]
        rows[..., left : left + width] = x
        rows[..., :left] = x[..., width - left :]
        rows[..., left + width :] = x[..., :right]
        padded[..., :top, :] = rows[..., height - top :, :]
        padded[..., top + height :, :] = rows[..., :bottom, :]
        return padded

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        """Every pixel gets what its copies got, too."""
        (gradient,), (left, right, top, bottom), (height, width) = gradients, ctx.sides, ctx.size
        rows = gradient[..., top : top + height, :].clone()
        rows[..., height - top :, :] += gradient[..., :top, :]
        rows[..., :bottom, :] += gradient[..., top + height :, :]
        whole = rows[..., left : left + width].clone()
        whole[..., width - left :] += rows[..., :left]
        whole[..., :right] += rows[..., left + width :]
        return whole, None


def pad_around(x: Tensor, sides: Sequence[int]) -> Tensor:
    """`F.pad(x, sides, mode="circular")` of maps (N, C, H, W); `sides` left, right, top, bottom, each at most whole."""
    left, right, top, bottom = sides
    padded: Tensor = _Around.apply(x, (left, right, top, bottom))  # type: ignore[no-untyped-call]
    return padded


def stretched_around(picture: Tensor, height: int, width: int) -> Tensor:
    """A picture (N, C, H, W) whose edges meet at a larger size, bilinear; they meet there, too.

    Between pixels of both edges as between any others: a crease at the edges would be taken for a line of the pattern.
    """
    return _stretched(_stretched(picture, height, -2), width, -1)


def _stretched(picture: Tensor, length: int, axis: int) -> Tensor:
    before = picture.shape[axis]
    positions = (torch.arange(length, device=picture.device) + 0.5) * (before / length) - 0.5
    left = positions.floor()
    part = (positions - left).view(-1, *[1] * (-axis - 1)).to(picture)
    first, second = (picture.index_select(axis, (left.long() + n) % before) for n in (0, 1))
    return first + (second - first) * part
