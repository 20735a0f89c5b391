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


def layer_or_middle(card: Card, name: str) -> Layer:
    """The named layer, or without a name the last one of the middle resolution.

    Raises UnknownNameError, or UnsupportedError if it has no units or there is no layer of maps at all.
    """
    if name:
        return with_units(card, name)
    layers = last_of_each_resolution(card)
    if not layers:
        hint = f"name a layer such as {card.layers[-1].name}" if card.layers else "choose another network"
        raise UnsupportedError(f"{card.name} has no layer whose units are maps: {hint}")
    return layers[(len(layers) - 1) // 2]
