"""Every kind of panel, found in the files of this folder; and panels read back from a record."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from fovea.engine.panels.base import Panel


@functools.cache
def panel_kinds() -> dict[str, type[Panel]]:
    """The classes of panels by the name of their kind."""
    folder = importlib.import_module("fovea.engine.panels")
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")
    kinds: dict[str, type[Panel]] = {}
    waiting = list(Panel.__subclasses__())
    while waiting:
        panel = waiting.pop()
        waiting += panel.__subclasses__()
        kind = panel.model_fields["kind"].default
        if isinstance(kind, str):
            kinds[kind] = panel
    return kinds


def read_panel(value: Any) -> Any:
    """A panel from a record; fields that its kind has not are left out, as records once held every kind's fields.

    Raises ValueError on a kind that is not known here.
    """
    if not isinstance(value, Mapping):
        return value
    kind = panel_kinds().get(str(value.get("kind")))
    if kind is None:
        known = ", ".join(sorted(panel_kinds()))
        raise ValueError(f"expected a panel of one of the kinds {known}, got {value.get('kind')!r}")
    return kind.model_validate({name: item for name, item in value.items() if name in kind.model_fields})


AnyPanel = Annotated[SerializeAsAny[Panel], BeforeValidator(read_panel)]
"""A panel of any kind, told apart by `kind`."""
