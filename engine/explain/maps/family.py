"""The family of maps of one photo: every map that a method of the registry declares, and what this network allows.

Nothing heavy is imported here, so that method files may read the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fovea.engine.errors import OptionsError, UnsupportedError
from fovea.engine.maps import ClassOrUnit, Map
from fovea.engine.method import Method, methods
from fovea.engine.options import Options, UnitKind

if TYPE_CHECKING:
    from fovea.models.card import Card


@dataclass(frozen=True)
class Member:
    """A map of the family, and the method that declares and draws it."""

    map: Map
    method: Method[Any, Any]

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.map.title

    @property
    def takes_units(self) -> bool:
        """Whether it can explain a unit in place of a class."""
        return bool(self.method.options.names(UnitKind))

    @property
    def draws_copies(self) -> bool:
        """Whether it can be drawn for a changed copy of the network, which has a torch module alone."""
        return self.method.gradients or self.map.draw_copy is not None

    @property
    def naming(self) -> tuple[str, ...]:
        """The options by which its method names what it explains."""
        return ("target", "layer", "unit", "position") if self.takes_units else ("target",)

    def quick(self, card: Card) -> dict[str, Any]:
        """Options that draw it in less time."""
        return self.map.quick(card)


def family() -> dict[str, Member]:
    """Every map by name, in the order in which they are shown."""
    declared = [Member(declaration, method) for method in methods().values() for declaration in method.maps]
    return {member.map.name: member for member in sorted(declared, key=lambda member: member.map.order)}


def map_names() -> tuple[str, ...]:
    """The names of all maps."""
    return tuple(family())


def title_of(name: str) -> str:
    """A map's name for people."""
    return family()[name].title


def usable(card: Card) -> list[str]:
    """The maps that this network allows: an ONNX file has no gradients, some networks no layer of maps."""

    def allowed(name: str, member: Member) -> bool:
        try:
            verify(card, name, ClassOrUnit(target="0"), member.quick(card))
        except UnsupportedError:
            return False
        return True

    return [name for name, member in family().items() if allowed(name, member)]


def verify(card: Card, name: str, explained: ClassOrUnit, settings: Mapping[str, Any]) -> None:
    """Raise, in one line, where this network does not allow the map or an option of it has a wrong value."""
    member = family()[name]
    if member.method.gradients and not card.gradients:
        if card.no_gradients:
            raise UnsupportedError(card.no_gradients)
        free = [other for other, its in family().items() if not its.method.gradients]
        raise UnsupportedError(
            f"{member.title} needs gradients, and {card.name} is an ONNX file: choose {' or '.join(free)}"
        )
    options = map_options(name, explained, settings)
    if member.map.draw is None:
        member.method.verify(card, options)


def settings_of(name: str, text: str) -> dict[str, str]:
    """The options of a map's own method that `text` sets: "samples=50, noise=0.1".

    Raises OptionsError for what is no option of that method, or names what is explained.
    """
    member = family()[name]
    free = [option for option in member.method.options.model_fields if option not in member.naming]
    settings: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if not value:
            raise OptionsError(f"settings must be name=value with commas, such as samples=50, not {part!r}")
        if key not in free:
            raise OptionsError(f"settings: {member.title} has the options {', '.join(free)}, and no {key}")
        settings[key] = value
    return settings


def map_options(name: str, explained: ClassOrUnit, settings: Mapping[str, Any]) -> Options:
    """The complete options of a map's method. Raises OptionsError, also where it cannot explain a unit."""
    member = family()[name]
    if explained.layer and not member.takes_units:
        raise OptionsError(f"{member.title} explains a class and not a unit: choose a class, or another map")
    kind = member.method.options
    about = {key: value for key, value in explained.options().items() if key in kind.model_fields}
    options: Options = kind.parse({**member.map.options, **settings, **about})
    return options


def map_work(card: Card, name: str, settings: Mapping[str, Any]) -> float:
    """The forward passes that one map costs."""
    member = family()[name]
    if member.map.draw is not None:
        return member.map.passes
    return member.method.work(card, map_options(name, ClassOrUnit(target="0"), settings), 0)
