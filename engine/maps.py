"""What is explained of a photo, and how a method declares a map of it, so that other methods can show that map.

Nothing heavy is imported here: method files read it where they are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fovea.models.card import OUTPUT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fovea.engine.method import Job
    from fovea.models.card import Card


@dataclass(frozen=True)
class ClassOrUnit:
    """What is explained: a class, or a unit of a layer.

    `target`: the class's index, as text. `layer`, `unit`: the unit's; `position`: the (row, column) of its map that is
    explained, None for the sum of all. `words` names it for people.
    """

    target: str = ""
    layer: str = ""
    unit: int | None = None
    position: tuple[int, int] | None = None
    words: str = ""

    @property
    def tap(self) -> str:
        """The layer whose output holds its score."""
        return self.layer or OUTPUT

    @property
    def position_text(self) -> str:
        """Its position as an option `position` has it."""
        return "sum" if self.position is None else f"{self.position[0]},{self.position[1]}"

    def options(self) -> dict[str, Any]:
        """What a method has to be told to explain it."""
        if not self.layer:
            return {"target": self.target}
        return {"layer": self.layer, "unit": self.unit, "position": self.position_text}


Draw = Callable[["Job[Any]", ClassOrUnit], "NDArray[Any]"]
"""Draws a map, (H, W) or (C, H, W), of what is explained; the job has the options of the map's method."""


@dataclass(frozen=True)
class Map:
    """A map of the photo that a method draws: the `array`, (H, W) or (C, H, W), that it saves with these `options`.

    `name` is what options call it, `title` what people read; maps are shown by rising `order`, and those of one method
    as they are declared. `quick(card)`: options that draw it in less time, where many maps are drawn. `known`: what
    the literature says of a map that hardly changes when the network's layers are re-initialised, as a clause.

    `draw` takes the place of a run of the method where one of `passes` forward passes does: it explains a class as
    well as a unit, and the method's check is not asked. `draw_copy` draws the map of a changed copy of the network,
    which has a torch module alone; a method that needs gradients works on such a copy as it is, any other one needs
    it, or its map is left out of what asks for copies.
    """

    name: str
    title: str
    array: str
    options: Mapping[str, Any] = field(default_factory=dict)
    order: int = 50
    quick: Callable[[Card], dict[str, Any]] = lambda card: {}
    known: str = ""
    draw: Draw | None = None
    passes: float = 3.0
    draw_copy: Draw | None = None
