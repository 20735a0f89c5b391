"""Options that name a unit of a layer, and where in its map it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args

from fovea.engine.errors import OptionsError
from fovea.engine.options.base import Kind, Options
from fovea.engine.options.layer import LayerKind

if TYPE_CHECKING:
    from fovea.models.card import Card


@dataclass(frozen=True)
class UnitKind(Kind):
    """A unit of the layer that the method's layer option names, from 0."""

    name: ClassVar[str] = "unit"
    widget: ClassVar[str] = "unit"

    def verify(self, method: str, value: Any, options: Options, card: Card) -> None:
        """Raise UnknownNameError where the layer has no such unit."""
        if value is None:
            return
        for layer in options.values(LayerKind).values():
            if layer:
                card.unit(layer, int(value))


POSITION_HELP = (
    "Where in the unit's map its value is taken: max (where it fires most), centre, sum (all places together), or "
    "row,column such as 3,5."
)
"""The help of a position option that knows every word."""

PositionWord = Literal["max", "centre", "sum"]
Position = PositionWord | tuple[int, int]
"""A word, or the (row, column) of a map, both from 0."""


def position_of(text: str) -> Position:
    """The position that an option's text names. Raises OptionsError."""
    for word in get_args(PositionWord):
        if text == word:
            return cast(PositionWord, word)
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 2 and all(part.isdecimal() for part in parts):
        return int(parts[0]), int(parts[1])
    raise OptionsError(f"position must be max, centre, sum or row,column such as 3,5, not {text!r}")


@dataclass(frozen=True)
class PositionKind(Kind):
    """A position in a unit's map: row,column, or a word that the method knows."""

    name: ClassVar[str] = "position"

    def verify(self, method: str, value: Any, options: Options, card: Card) -> None:
        """Raise OptionsError for what is no position."""
        position_of(value)


def check_class_or_unit(target: str, layer: str, unit: int | None) -> None:
    """Raise OptionsError if options name both a class and a unit, or a unit without its layer."""
    if layer and target:
        raise OptionsError(f"choose a class (target {target}) or a unit (layer {layer}), not both")
    if unit is not None and not layer:
        raise OptionsError(f"unit {unit} of which layer? choose a layer as well")
