"""Lists of units, classes and weights as a user writes them, read against a card; no torch here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fovea.engine.errors import OptionsError, UnsupportedError

if TYPE_CHECKING:
    from fovea.models.card import Card, Layer

MOST = 64
"""Pictures in one batch."""


def _one(card: Card, layer: Layer | None, text: str) -> int:
    """A unit's number, or a class by number or name. Raises UnknownNameError, OptionsError."""
    if layer is None:
        if not card.classes:
            raise UnsupportedError(f"{card.name} has no classes: choose a layer and its units instead")
        return card.class_index(text)
    if not text.isdigit():
        raise OptionsError(f"a unit is a number, not {text!r}: say 3,7,12 or 0-8")
    return card.unit(layer.name, int(text))


def numbers_of(card: Card, layer: Layer | None, text: str) -> list[int]:
    """The units of `layer` (classes without one) in a list such as "3,7,12" or "0-8", each once, in its order."""
    found: list[int] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        span = re.fullmatch(r"(\d+)\s*-\s*(\d+)", part)
        if span is None:
            found.append(_one(card, layer, part))
            continue
        low, high = int(span[1]), int(span[2])
        if high < low:
            raise OptionsError(f"the range {part} runs backwards: write {high}-{low}")
        for end in (low, high):
            _one(card, layer, str(end))
        found += range(low, high + 1)
    found = list(dict.fromkeys(found))
    if not found or len(found) > MOST:
        raise OptionsError(f"units names {len(found)}, expected 1 to {MOST}: say 3,7,12 or 0-8")
    return found


def unit_and_layer(card: Card, layer: Layer | None, text: str) -> tuple[Layer | None, int]:
    """What "7", "LAYER:7" or a class name means beside a unit of `layer`, or beside a class where that is None."""
    name, colon, number = text.rpartition(":")
    if colon and any(name == one.name for one in card.layers):
        other = card.layer(name)
        return other, _one(card, other, number.strip())
    return layer, _one(card, layer, text.strip())


def weights_of(card: Card, layer: Layer, text: str) -> list[tuple[int, float]]:
    """The pairs of a direction such as "3:1,17:-0.5". Raises OptionsError, UnknownNameError."""
    pairs = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        unit, colon, weight = part.partition(":")
        try:
            value = float(weight) if colon else 1.0
        except ValueError:
            raise OptionsError(f"direction: the weight of {part!r} is no number: say 3:1,17:-0.5") from None
        if value - value != 0:
            raise OptionsError(f"direction: the weight of {part!r} is not finite: say 3:1,17:-0.5")
        pairs.append((_one(card, layer, unit.strip()), value))
    if not any(value for _, value in pairs):
        raise OptionsError("direction: all weights are zero, which points nowhere: say 3:1,17:-0.5")
    return pairs
