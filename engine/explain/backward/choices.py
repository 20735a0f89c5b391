"""How the options that name what is explained, or drawn, go together; read by method files, so no torch here."""

from __future__ import annotations

from fovea.engine.errors import OptionsError

POSITION_HELP = "Where in the unit's map: max, centre, sum of all, or row,column such as 3,5"


def check_position(text: str) -> None:
    """Raise OptionsError unless `text` is a position as `POSITION_HELP` says."""
    parts = text.split(",")
    if text in ("max", "centre", "sum") or (len(parts) == 2 and all(part.strip().isdigit() for part in parts)):
        return
    raise OptionsError(f"position: expected max, centre, sum or row,column such as 3,5, not {text!r}")


def check_class_or_unit(target: str, layer: str, unit: int | None, position: str) -> None:
    """Raise OptionsError if options name both a class and a unit, or a unit without its layer."""
    check_position(position)
    if layer and target:
        raise OptionsError(f"choose a class (target {target}) or a unit (layer {layer}), not both")
    if unit is not None and not layer:
        raise OptionsError(f"unit {unit} of which layer? choose a layer as well")
