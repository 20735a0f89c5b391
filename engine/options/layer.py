"""Options that name a layer, or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fovea.engine.errors import UnsupportedError
from fovea.engine.options.base import Kind, Options
from fovea.engine.options.lists import parts_of

if TYPE_CHECKING:
    from fovea.models.card import Card


@dataclass(frozen=True)
class LayerKind(Kind):
    """One layer, by its path. `has`: only layers whose units are maps ("spatial"), or that have "weights"."""

    name: ClassVar[str] = "layer"
    widget: ClassVar[str] = "layer"
    has: Literal["", "spatial", "weights"] = ""

    @property
    def needs(self) -> str:
        """What the layer must have."""
        return self.has

    def verify(self, method: str, value: Any, options: Options, card: Card) -> None:
        """Raise UnknownNameError where there is no such layer, UnsupportedError where it is of the wrong kind."""
        if not value:
            return
        layer = card.layer(value)
        if self.has == "spatial" and not layer.spatial:
            near = ", ".join(spatial.name for spatial in card.spatial_layers()[-3:])
            raise UnsupportedError(
                f"{method} needs a layer whose units are maps, and {value} has shape {layer.shape}: "
                f"choose one such as {near}"
            )


@dataclass(frozen=True)
class LayersKind(LayerKind):
    """Several layers, in a comma list."""

    name: ClassVar[str] = "layers"
    widget: ClassVar[str] = "layers"
    several: ClassVar[bool] = True

    def verify(self, method: str, value: Any, options: Options, card: Card) -> None:
        """Raise UnknownNameError where the network lacks one of them."""
        for name in parts_of(value):
            card.layer(name)
