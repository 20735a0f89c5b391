"""Options that name a class of the network, or several."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fovea.engine.errors import UnknownNameError, UnsupportedError
from fovea.engine.options.base import Kind, Options
from fovea.engine.options.lists import parts_of

if TYPE_CHECKING:
    from fovea.models.card import Card


@dataclass(frozen=True)
class ClassKind(Kind):
    """One class, by name or number."""

    name: ClassVar[str] = "class"
    widget: ClassVar[str] = "class"

    def verify(self, method: str, value: Any, options: Options, card: Card) -> None:
        """Raise UnknownNameError with near matches, UnsupportedError where the network has no classes."""
        if value not in (None, ""):
            _demand_classes(card)
            card.class_index(value)


@dataclass(frozen=True)
class ClassesKind(Kind):
    """Several classes, in a comma list."""

    name: ClassVar[str] = "classes"
    widget: ClassVar[str] = "classes"
    several: ClassVar[bool] = True

    def verify(self, method: str, value: Any, options: Options, card: Card) -> None:
        """Raise as `class_indices` does."""
        class_indices(card, value)


def class_indices(card: Card, names: str | Iterable[str]) -> list[int]:
    """The indices of several classes, by number or name; a name may itself have a comma if it stands alone.

    Raises UnknownNameError with near matches, UnsupportedError where the network has no classes.
    """
    parts = parts_of(names)
    if not parts:
        return []
    _demand_classes(card)
    for whole in (", ".join(parts), ",".join(parts)):
        try:
            return [card.class_index(whole)]
        except UnknownNameError:
            continue
    return list(dict.fromkeys(card.class_index(part) for part in parts))


def _demand_classes(card: Card) -> None:
    if not card.has_classes:
        raise UnsupportedError(f"{card.name} has no classes: choose a layer and a unit instead")
