"""Where the units of a layer's output lie, as torch tensors: shared by the methods that need gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from fovea.engine.errors import UnsupportedError

if TYPE_CHECKING:
    from fovea.models.card import Layer


def unit_maps(features: Tensor, layer: Layer) -> Tensor:
    """A layer's output as maps (N, units, rows, columns), whatever its axes; a vector has one position.

    A token sequence leaves its extra tokens out and becomes its grid; a sequence without a grid becomes one row.
    The size may differ from the card's, e.g. for a larger picture. Raises UnsupportedError for an output
    without a unit axis.
    """
    if layer.axes == "NCHW":
        return features
    if layer.axes == "NHWC":
        return features.movedim(-1, 1)
    if layer.axes == "vector":
        return features.reshape(features.shape[0], -1, 1, 1)
    if layer.axes == "tokens":
        places = features[:, layer.extra_tokens :]
        rows, columns = layer.grid
        if rows * columns != places.shape[1]:
            rows, columns = 1, places.shape[1]
        return places.transpose(1, 2).reshape(features.shape[0], -1, rows, columns)
    raise UnsupportedError(
        f"layer {layer.name} ({layer.kind}) has no units: its output has shape {layer.shape}; "
        f"choose a layer whose output has channels"
    )
