"""Positions and lists of units, classes and weights as a user writes them, read against a card; no torch here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from fovea.engine.errors import OptionsError, UnsupportedError
from fovea.engine.options import parts_of
from fovea.engine.options.unit import position_of

if TYPE_CHECKING:
    from fovea.models.card import Card, Layer

MOST = 64
"""One batch holds at most so many pictures."""


def _number_of(card: Card, layer: Layer | None, text: str) -> int:
    """A unit's number, or a class by number or name. Raises UnknownNameError, OptionsError."""
    if layer is None:
        if not card.has_classes:
            raise UnsupportedError(f"{card.name} has no classes: choose a layer and its units instead")
        return card.class_index(text)
    if not text.isdigit():
        raise OptionsError(
            f"a unit is named by a number, not by {text!r}: write a list such as 3,7,12 or a range such as 0-8"
        )
    return card.unit(layer.name, int(text))


def unit_position(text: str) -> tuple[int, int] | Literal["max", "centre", "mean"]:
    """What the option `position` means: "sum" is the mean over the map, a sum whatever the map's size."""
    position = position_of(text)
    return "mean" if position == "sum" else position


def numbers_of(card: Card, layer: Layer | None, text: str) -> list[int]:
    """The units of `layer` (classes without one) in a list such as "3,7,12" or "0-8", each once, in its order."""
    numbers: list[int] = []
    for part in parts_of(text):
        span = re.fullmatch(r"(\d+)\s*-\s*(\d+)", part)
        if span is None:
            numbers.append(_number_of(card, layer, part))
            continue
        low, high = int(span[1]), int(span[2])
        if high < low:
            raise OptionsError(f"the range {part} runs backwards: write {high}-{low}")
        for end in (low, high):
            _number_of(card, layer, str(end) if layer else f"#{end}")
        numbers += range(low, high + 1)
    numbers = list(dict.fromkeys(numbers))
    if not numbers or len(numbers) > MOST:
        raise OptionsError(
            f"units names {len(numbers)}, expected 1 to {MOST}: write a list such as 3,7,12 or a range such as 0-8"
        )
    return numbers


def unit_and_layer(card: Card, beside: Layer | None, text: str) -> tuple[Layer | None, int]:
    """What "7", "LAYER:7" or a class name means beside a unit of the layer `beside`, or beside a class if it is
    None."""
    name, colon, number = text.rpartition(":")
    if colon and any(name == layer.name for layer in card.layers):
        other = card.layer(name)
        return other, _number_of(card, other, number.strip())
    return beside, _number_of(card, beside, text.strip())


def weights_of(card: Card, layer: Layer, text: str) -> list[tuple[int, float]]:
    """The pairs of a direction such as "3:1,17:-0.5". Raises OptionsError, UnknownNameError."""
    pairs = []
    for part in parts_of(text):
        unit, colon, weight = part.partition(":")
        try:
            value = float(weight) if colon else 1.0
        except ValueError:
            raise OptionsError(
                f"direction: the weight of {part!r} is no number: write pairs such as 3:1,17:-0.5"
            ) from None
        if value - value != 0:
            raise OptionsError(f"direction: the weight of {part!r} is not finite: write pairs such as 3:1,17:-0.5")
        pairs.append((_number_of(card, layer, unit.strip()), value))
    if not any(value for _, value in pairs):
        raise OptionsError("direction: all weights are zero, which points nowhere: write pairs such as 3:1,17:-0.5")
    return pairs
