"""Every kind of panel, found in the files of this folder; and panels read back from a record."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from fovea.engine.panels.base import Panel
from fovea.engine.panels.unknown import UnknownPanel


@functools.cache
def panel_kinds() -> dict[str, type[Panel]]:
    """The classes of panels by the name of their kind."""
    folder = importlib.import_module("fovea.engine.panels")
    kinds: dict[str, type[Panel]] = {}
    for file in pkgutil.iter_modules(folder.__path__):
        module = importlib.import_module(f"{folder.__name__}.{file.name}")
        for _, panel in inspect.getmembers(module, inspect.isclass):
            if issubclass(panel, Panel) and isinstance(kind := panel.model_fields["kind"].default, str):
                kinds[kind] = panel
    return kinds


def read_panel(value: Any) -> Any:
    """A panel from a record; fields that its kind has not are left out, as records once held every kind's fields.

    Raises ValueError where no kind is told.
    """
    if not isinstance(value, Mapping):
        return value
    name = value.get("kind")
    if not isinstance(name, str):
        raise ValueError(f"expected a panel of one of the kinds {', '.join(sorted(panel_kinds()))}, got {name!r}")
    kind = panel_kinds().get(name)
    if kind is None:
        return UnknownPanel.model_validate(value)
    return kind.model_validate({field: item for field, item in value.items() if field in kind.model_fields})


AnyPanel = Annotated[SerializeAsAny[Panel], BeforeValidator(read_panel)]
"""A panel of any kind, told apart by `kind`."""
