"""Gram matrices, with a gradient that costs one product of the maps where autograd takes two and a sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Gram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        # Positions by units, (N, h·w, C): a view of the maps, whether they lie with channels first or last.
        last = maps.is_contiguous(memory_format=torch.channels_last)
        flat = maps.permute(0, 2, 3, 1).flatten(1, 2) if last else maps.flatten(2).transpose(1, 2)
        ctx.save_for_backward(flat)
        ctx.shape, ctx.last = maps.shape, last
        return flat.transpose(1, 2) @ flat / flat.shape[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        """dL/dF = F (dL/dG + its transpose) / (h·w), laid in memory as the maps are."""
        (gradient,), (flat,) = gradients, ctx.saved_tensors
        count, units, height, width = ctx.shape
        both = (gradient + gradient.transpose(1, 2)) / flat.shape[1]
        if ctx.last:
            down: Tensor = (flat @ both).view(count, height, width, units).permute(0, 3, 1, 2)
        else:
            down = (both @ flat.transpose(1, 2)).view(ctx.shape)
        return down


def gram_matrix(maps: Tensor) -> Tensor:
    """Inner products of the units' maps over all positions, (N, C, h, w) to (N, C, C), divided by h·w.

    Gatys et al. 2015 (texture), eq. 2, with their 1/M of eq. 4 taken into the matrix, so that pictures of
    different sizes can be compared.
    """
    gram: Tensor = _Gram.apply(maps)  # type: ignore[no-untyped-call]
    return gram
