"""Options that name another network, or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fovea.engine.options.base import Kind, Options
from fovea.engine.options.lists import parts_of

if TYPE_CHECKING:
    from fovea.models.card import Card


@dataclass(frozen=True)
class NetworkKind(Kind):
    """Another network, by the name under which it can be used."""

    name: ClassVar[str] = "network"
    widget: ClassVar[str] = "network"
    input: ClassVar[str] = "network"


@dataclass(frozen=True)
class NetworksKind(Kind):
    """Several networks, in a comma list."""

    name: ClassVar[str] = "networks"
    widget: ClassVar[str] = "networks"
    several: ClassVar[bool] = True
    input: ClassVar[str] = "network"

    def references(self, value: Any) -> tuple[str, ...]:
        """The networks that a value names."""
        return parts_of(value or "")

    def verify(self, method: str, value: Any, options: Options, card: Card) -> None:
        """Raise UnknownNameError where there is no such network."""
        from fovea.models.zoo import cached_card

        for name in self.references(value):
            cached_card(name)
