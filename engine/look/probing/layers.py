"""Which layers are looked at when none is named."""

from __future__ import annotations

from fovea.engine.errors import UnsupportedError
from fovea.models.card import Card, Layer


def last_of_each_resolution(card: Card, most: int = 4) -> list[Layer]:
    """The last layer of each size of map, in forward order; of more than `most` the deepest."""
    last = {layer.grid: index for index, layer in enumerate(card.layers) if layer.spatial}
    return [card.layers[index] for index in sorted(last.values())[-most:]]


def with_units(card: Card, name: str) -> Layer:
    """The layer of that name. Raises UnknownNameError, or UnsupportedError if it has no units."""
    layer = card.layer(name)
    if layer.axes == "none":
        raise UnsupportedError(f"layer {name} of {card.name} has no units, its shape is {layer.shape}: choose another")
    return layer
