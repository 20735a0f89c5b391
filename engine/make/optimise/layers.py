"""Which layers a method takes, named or not, from the card alone: no torch here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fovea.engine.errors import UnsupportedError

if TYPE_CHECKING:
    from fovea.models.card import Card, Layer


def stage_layers(card: Card) -> list[Layer]:
    """The network's blocks with maps, in forward order: its own modules that hold others and are no mere lists.

    A plain chain has few or none of those; its ReLUs, or else all its layers with maps, take their place. Raises
    UnsupportedError where no layer has maps.
    """
    spatial = list(card.reached_layers())
    if not spatial:
        raise UnsupportedError(
            f"{card.name} has no layer whose units are maps, and this needs one: choose another network"
        )
    blocks = [layer for layer in spatial if not layer.leaf and layer.kind not in ("Sequential", "ModuleList")]
    if len(blocks) >= 3:
        return blocks
    relus = [layer for layer in spatial if layer.leaf and layer.kind.startswith("ReLU")]
    return relus if len(relus) >= 3 else spatial


def layer_at(card: Card, depth: float) -> Layer:
    """The block at this fraction of the depth, 0 the first and 1 the last."""
    layers = stage_layers(card)
    return layers[round(depth * (len(layers) - 1))]


def series(card: Card, count: int) -> list[Layer]:
    """`count` blocks from shallow to deep, evenly spaced, each once."""
    layers = stage_layers(card)
    if count >= len(layers):
        return layers
    indices = sorted({round(i * (len(layers) - 1) / max(1, count - 1)) for i in range(count)})
    return [layers[index] for index in indices]


def texture_layers(card: Card, most: int = 5) -> list[Layer]:
    """The first activation, and the last layer before each reduction in size: Gatys' first layer and pooling stages.

    In a plain chain (VGG) these are the pooling layers themselves, as in the paper. At most `most`, the shallow ones
    first. What comes after the last reduction has too few positions for statistics and is left out, unless fewer than
    three layers remain; then evenly spaced blocks fill up.
    """
    layers = [layer for layer in card.reached_layers() if layer.kind not in ("Sequential", "ModuleList")]
    chain = stage_layers(card)[0].leaf
    chosen = [
        after if chain and "Pool" in after.kind else before
        for before, after in itertools.pairwise(layers)
        if after.grid[0] * after.grid[1] < before.grid[0] * before.grid[1]
    ]
    first = first_activation(card)
    if chosen and not _is_end_of(chosen[0], first):
        chosen.insert(0, first)
    if len(chosen) < 3:
        chosen += [layer for layer in series(card, 4) if layer not in chosen]
        chosen.sort(key=card.layers.index)
    return [layer for i, layer in enumerate(chosen) if layer not in chosen[:i]][:most]


ENLARGED = 2
"""How many times larger a picture is looked at by the first layers of a network whose first convolution skips pixels.

Such a layer is nearly blind to some patterns of neighbouring pixels, which are then left as a weave over the picture.
"""


def fine_layers(card: Card, layers: Sequence[Layer]) -> list[Layer]:
    """Those of the layers that look at the enlarged picture: up to twice the stride of the network's first layer.

    None where that first layer sees every pixel, or nothing is known of the strides.
    """
    strides = {layer.name: max(layer.receptive_field.stride) for layer in layers if layer.receptive_field is not None}
    first = card.reached_layers()[0].receptive_field
    if first is None or max(first.stride) < 2:
        return []
    return [layer for layer in layers if strides.get(layer.name, math.inf) <= 2 * max(first.stride)]


def first_activation(card: Card) -> Layer:
    """The first layer with maps that rectifies or bends, or else the first with maps. Raises UnsupportedError."""
    stage_layers(card)
    layers = [layer for layer in card.reached_layers() if layer.kind not in ("Sequential", "ModuleList")]
    return next((layer for layer in layers if "LU" in layer.kind), layers[0])


def series_from_first(card: Card, count: int) -> list[Layer]:
    """`count` layers from shallow to deep: the first activation, then evenly spaced blocks."""
    blocks, first = series(card, count), first_activation(card)
    if count == 1 or _is_end_of(blocks[0], first) or first.name in [block.name for block in blocks]:
        return blocks
    return [first, *series(card, count - 1)]


def _is_end_of(layer: Layer, part: Layer) -> bool:
    """Whether a block ends with this part of it, so that both give one tensor; or both are the same."""
    return layer.name == part.name or (part.name.startswith(f"{layer.name}.") and layer.shape == part.shape)


def listed_layers(card: Card, names: Iterable[str]) -> list[Layer]:
    """The layers of these names, each once, in forward order. Raises UnknownNameError."""
    return sorted({name: card.layer(name) for name in names}.values(), key=card.layers.index)


def named_layers(card: Card, names: Iterable[str], default: Sequence[Layer]) -> list[Layer]:
    """The layers of these names, `default` where there are none. Raises UnknownNameError, UnsupportedError."""
    layers = listed_layers(card, names) or list(default)
    for layer in layers:
        if not layer.spatial:
            near = ", ".join(spatial.name for spatial in card.reached_layers()[-3:])
            raise UnsupportedError(
                f"this needs layers whose units are maps, and {layer.name} has shape {layer.shape}: "
                f"choose layers such as {near or '(this network has none)'}"
            )
    return layers


def statistics_layers(card: Card, names: Iterable[str]) -> list[Layer]:
    """The layers whose statistics are matched: the named ones, or else `texture_layers`.

    Raises UnknownNameError, UnsupportedError.
    """
    stage_layers(card)
    return named_layers(card, names, texture_layers(card))
