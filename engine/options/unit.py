"""Options that name a unit of a layer, and where in its map it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

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


@dataclass(frozen=True)
class PositionKind(Kind):
    """A position in a unit's map: row,column, or a word that the method knows."""

    name: ClassVar[str] = "position"
